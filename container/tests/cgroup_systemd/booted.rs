//! A systemd that is booted for a test, and what is done in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ringside_container::cgroup::{Group, Layout, Mode};

/// Boots nothing but a target without dependencies, over an empty `/run`.
const BOOT: &str = r#"
set -e
until [ -e "$0" ]; do sleep 0.1; done
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t proc proc /proc
mount -t tmpfs none /run
mkdir -p /run/systemd/system
printf '[Unit]\nDefaultDependencies=no\n' > /run/systemd/system/ringside.target
export container=ringside
exec /lib/systemd/systemd --system --unit=ringside.target --log-target=null --show-status=no
"#;

/// A booted systemd, which ends with all of its groups when this is dropped.
pub struct Systemd {
    group: Group,
    unshare: Child,
    pid: i32,
    /// A folder that systemd's namespaces have as well.
    pub bundle: tempfile::TempDir,
}

impl Systemd {
    /// None, with the reason on standard error, where this host cannot.
    pub fn boot() -> Option<Self> {
        let skip = |why: &str| {
            eprintln!("skipped: {why}");
            None
        };
        if !nix::unistd::geteuid().is_root() {
            return skip("needs root");
        }
        if !Path::new("/lib/systemd/systemd").exists() {
            return skip("there is no /lib/systemd/systemd; apt-get install systemd");
        }
        let Ok(layout) = Layout::detect() else {
            return skip("there is no /proc");
        };
        if layout.mode() != Mode::V2 {
            return skip(
                "a systemd of our own would have to share version 1's trees: no cgroup v2",
            );
        }
        Some(Self::boot_in(&layout))
    }

    fn boot_in(layout: &Layout) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("/test-systemd-{}-{number}", std::process::id());
        let group = Group::create(layout, name, layout.controllers()).expect("a group");
        let group_path = group.paths().next().expect("a directory").to_owned();
        let enter = format!(
            "echo $$ > {}/cgroup.procs; exec unshare --cgroup --pid --mount --fork --kill-child \
             --propagation private sh -c \"$0\" \"$1\"",
            group_path.display()
        );
        let bundle = tempfile::tempdir().expect("a folder for the bundle");
        let go = bundle.path().join("go");
        let unshare = Command::new("sh")
            .args(["-c", &enter, BOOT])
            .arg(&go)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare");
        let mut booted = Self {
            group,
            unshare,
            pid: 0,
            bundle,
        };
        let begun = Instant::now();
        // Whoever waits for PID 1 leaves its tree: a group with processes has no children with controllers.
        while booted.group.processes().expect("processes").len() < 2 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "unshare does not fork"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let top = group_path
            .parent()
            .expect("the tree's top")
            .join("cgroup.procs");
        std::fs::write(top, booted.unshare.id().to_string()).expect("move unshare out");
        std::fs::write(go, "").expect("go");
        while booted.pid == 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "systemd does not boot"
            );
            std::thread::sleep(Duration::from_millis(50));
            booted.pid = booted.find();
        }
        booted.make_bundle();
        booted
    }

    /// The number of a systemd that listens, 0 until there is one.
    fn find(&self) -> i32 {
        let pids = self.group.processes().unwrap_or_default();
        let is_up =
            |pid: &i32| Path::new(&format!("/proc/{pid}/root/run/systemd/private")).exists();
        let is_systemd = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|it| it.trim() == "systemd")
        };
        pids.into_iter()
            .find(|pid| is_systemd(pid) && is_up(pid))
            .unwrap_or(0)
    }

    /// A bundle that systemd's namespaces see as well: they share everything but `/run` and `/proc`.
    fn make_bundle(&self) {
        let rootfs = self.bundle.path().join("rootfs");
        for name in ["usr", "proc", "dev", "sys"] {
            std::fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        for (name, target) in [
            ("bin", "usr/bin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib64"),
        ] {
            std::os::unix::fs::symlink(target, rootfs.join(name)).unwrap();
        }
    }

    /// Writes the configuration: `script`, with `cgroupsPath` and `resources`.
    pub fn configure(&self, script: &str, path: &str, resources: serde_json::Value) {
        let mut spec = ringside_container::runtime::default_spec(false);
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(["sh", "-c", script]);
        let usr = serde_json::json!({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]});
        spec["mounts"].as_array_mut().unwrap().push(usr);
        spec["linux"]["cgroupsPath"] = path.into();
        spec["linux"]["resources"] = resources;
        std::fs::write(self.bundle.path().join("config.json"), spec.to_string()).unwrap();
    }

    /// Runs a command in systemd's namespaces, as a process of its tree.
    pub fn inside(&self, arguments: &[&str]) -> Output {
        self.inside_of("init.scope", arguments)
    }

    /// The same, as a process of this group.
    pub fn inside_of(&self, group: &str, arguments: &[&str]) -> Output {
        let enter = format!(
            "echo $$ > {}/cgroup.procs; cd {}; exec nsenter --target {} --mount --pid --cgroup \
             --wdns={} \"$@\"",
            self.path(group).display(),
            self.bundle.path().display(),
            self.pid,
            self.bundle.path().display(),
        );
        // To files: a container that lives on would keep a pipe open.
        let [out, err] = ["out", "err"].map(|name| self.bundle.path().join(name));
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh"]).args(arguments);
        command.stdin(Stdio::null());
        command.stdout(std::fs::File::create(&out).unwrap());
        command.stderr(std::fs::File::create(&err).unwrap());
        Output {
            status: command.status().unwrap(),
            stdout: std::fs::read(out).unwrap(),
            stderr: std::fs::read(err).unwrap(),
        }
    }

    /// Runs `ringside-oci` there, which has to succeed.
    #[track_caller]
    pub fn oci(&self, arguments: &[&str]) -> String {
        let out = self.oci_output(arguments);
        assert!(
            out.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    pub fn oci_output(&self, arguments: &[&str]) -> Output {
        let ours = [
            env!("CARGO_BIN_EXE_ringside-oci"),
            "--systemd-cgroup",
            "--root",
            "/run/oci",
        ];
        self.inside(&[&ours, arguments].concat())
    }

    /// A property of a unit, as systemd tells it.
    pub fn property(&self, unit: &str, name: &str) -> String {
        let out = self.inside(&["systemctl", "show", "--value", "-p", name, unit]);
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// A directory of systemd's tree, as the host sees it.
    pub fn path(&self, group: &str) -> PathBuf {
        self.group.paths().next().unwrap().join(group)
    }

    /// What a file of a directory of systemd's tree holds.
    pub fn file(&self, group: &str, name: &str) -> String {
        std::fs::read_to_string(self.path(group).join(name))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Waits until `test` holds.
    #[track_caller]
    pub fn until(&self, what: &str, test: impl Fn() -> bool) {
        let begun = Instant::now();
        while !test() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.group.kill();
        let _ = self.unshare.wait();
        let removed = self.group.remove();
        if !std::thread::panicking() {
            removed.expect("remove systemd's tree");
        }
    }
}

//! The systemd driver against a real systemd: the host's package, booted as PID 1 of namespaces of its own
//! with a cgroup tree below a group of ours, and asked over its own socket.

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
struct Systemd {
    group: Group,
    unshare: Child,
    pid: i32,
    bundle: tempfile::TempDir,
}

impl Systemd {
    /// None, with the reason on standard error, where this host cannot.
    fn boot() -> Option<Self> {
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
    fn configure(&self, script: &str, path: &str, resources: serde_json::Value) {
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
    fn inside(&self, arguments: &[&str]) -> Output {
        let enter = format!(
            "echo $$ > {}/init.scope/cgroup.procs; cd {}; exec nsenter --target {} --mount --pid --cgroup \
             --wdns={} \"$@\"",
            self.group.paths().next().unwrap().display(),
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
    fn oci(&self, arguments: &[&str]) -> String {
        let out = self.oci_output(arguments);
        assert!(
            out.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn oci_output(&self, arguments: &[&str]) -> Output {
        let ours = [
            env!("CARGO_BIN_EXE_ringside-oci"),
            "--systemd-cgroup",
            "--root",
            "/run/oci",
        ];
        self.inside(&[&ours, arguments].concat())
    }

    /// A property of a unit, as systemd tells it.
    fn property(&self, unit: &str, name: &str) -> String {
        let out = self.inside(&["systemctl", "show", "--value", "-p", name, unit]);
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// A directory of systemd's tree, as the host sees it.
    fn path(&self, group: &str) -> PathBuf {
        self.group.paths().next().unwrap().join(group)
    }

    fn file(&self, group: &str, name: &str) -> String {
        std::fs::read_to_string(self.path(group).join(name))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    #[track_caller]
    fn until(&self, what: &str, test: impl Fn() -> bool) {
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

const UNIT: &str = "machine.slice/test-one.scope";

#[test]
fn a_container_lives_in_a_scope_with_its_limits() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let resources = serde_json::json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 2048, "quota": 50_000, "period": 100_000},
        "pids": {"limit": 33}
    });
    systemd.configure("exec sleep 1000", "machine.slice:test:one", resources);
    systemd.oci(&["run", "--detach", "c1"]);

    // systemd knows it, and the kernel has the same numbers.
    assert_eq!(systemd.property("test-one.scope", "ActiveState"), "active");
    assert_eq!(systemd.property("test-one.scope", "Slice"), "machine.slice");
    assert_eq!(systemd.property("test-one.scope", "Delegate"), "yes");
    assert_eq!(
        systemd.property("test-one.scope", "MemoryMax"),
        (64 << 20).to_string()
    );
    assert_eq!(systemd.property("test-one.scope", "TasksMax"), "33");
    assert_eq!(systemd.file(UNIT, "memory.max"), (64 << 20).to_string());
    assert_eq!(systemd.file(UNIT, "pids.max"), "33");
    assert_eq!(systemd.file(UNIT, "cpu.max"), "50000 100000");
    assert_eq!(
        systemd.property("test-one.scope", "CPUWeight"),
        systemd.file(UNIT, "cpu.weight")
    );
    // The container is in it, and whoever held it before is not.
    assert_eq!(systemd.file(UNIT, "cgroup.procs").lines().count(), 1);

    // What systemd writes anew at any time does not undo it, after an update neither.
    systemd.oci(&["update", "--memory", "33554432", "--pids-limit", "44", "c1"]);
    assert!(
        systemd
            .inside(&["systemctl", "daemon-reload"])
            .status
            .success()
    );
    assert_eq!(
        systemd.property("test-one.scope", "MemoryMax"),
        (32 << 20).to_string()
    );
    assert_eq!(systemd.file(UNIT, "memory.max"), (32 << 20).to_string());
    assert_eq!(systemd.file(UNIT, "pids.max"), "44");

    systemd.oci(&["pause", "c1"]);
    assert!(systemd.oci(&["state", "c1"]).contains("paused"));
    systemd.oci(&["delete", "--force", "c1"]);
    systemd.until("the scope is gone", || {
        !systemd.path(UNIT).exists()
            && systemd.property("test-one.scope", "LoadState") == "not-found"
    });
}

#[test]
fn a_run_ends_with_its_status_and_its_scope_goes() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    systemd.configure("cat /proc/self/cgroup; exit 7", "", serde_json::json!({}));
    for _ in 0..3 {
        let out = systemd.oci_output(&["run", "c2"]);
        assert_eq!(
            out.status.code(),
            Some(7),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        // In a cgroup namespace of its own, the container is at the top.
        assert_eq!(String::from_utf8_lossy(&out.stdout), "0::/\n");
    }
    systemd.until("the scope is gone", || {
        !systemd.path("system.slice/ringside-c2.scope").exists()
    });

    // A configuration for the other driver is refused before anything is made.
    systemd.configure("true", "/not/three/parts", serde_json::json!({}));
    let refused = systemd.oci_output(&["run", "c3"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("slice:prefix:name"),
        "{message}"
    );
    // And so is a unit that systemd does not take.
    systemd.configure("true", "no-slice:test:one", serde_json::json!({}));
    let refused = systemd.oci_output(&["run", "c3"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("systemd refuses"),
        "{message}"
    );
    assert!(systemd.oci(&["list", "--quiet"]).is_empty());
}

/// Its maker may be killed at any time: what it has asked systemd for goes with the next `delete`.
#[test]
fn a_scope_whose_maker_was_killed_goes_with_the_container() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let unit = "machine.slice/test-four.scope";
    systemd.configure(
        "exec sleep 1000",
        "machine.slice:test:four",
        serde_json::json!({}),
    );
    // It is killed once it has told of so many steps.
    let script = r#"sh -c 'echo $$ > pid; exec "$@"' sh "$@" 2>&1 >/dev/null </dev/null |
        { head -n $STEPS > told; kill -KILL $(cat pid); }"#;
    let oci = env!("CARGO_BIN_EXE_ringside-oci");
    let mut with_scope = 0;
    for steps in [2, 3, 4, 6, 9] {
        let script = script.replace("$STEPS", &steps.to_string());
        let create = [
            "--systemd-cgroup",
            "--root",
            "/run/oci",
            "--explain",
            "create",
            "c4",
        ];
        systemd.inside(&[&["sh", "-c", &script, "sh", oci], &create[..]].concat());
        let told = std::fs::read_to_string(systemd.bundle.path().join("told")).unwrap();
        with_scope += usize::from(told.contains("ask systemd for a scope"));
        systemd.oci(&["delete", "--force", "c4"]);
        systemd.until("the scope is gone", || {
            !systemd.path(unit).exists()
                && systemd.property("test-four.scope", "LoadState") == "not-found"
        });
        assert!(systemd.oci(&["list", "--quiet"]).is_empty());
    }
    assert!(with_scope > 0, "it was never killed after it had a scope");
    systemd.oci(&["run", "--detach", "c4"]);
    systemd.oci(&["delete", "--force", "c4"]);
}

/// Without systemd the driver says so.
#[test]
fn without_systemd_the_driver_says_what_to_do() {
    if !nix::unistd::geteuid().is_root() || Path::new("/run/systemd/private").exists() {
        eprintln!("skipped: needs root on a host where systemd does not run");
        return;
    }
    let error = ringside_container::cgroup::systemd::Manager::connect(false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("leave out --systemd-cgroup"), "{error}");
}

//! Bundles made of the host's own programs, and the built `ringside-oci` on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// Directories of programs and libraries that a container borrows.
const BORROWED: [&str; 5] = ["usr", "bin", "sbin", "lib", "lib64"];

/// A bundle, and a directory in which containers are remembered; both go when this is dropped, and all
/// containers with them.
pub struct Bundle {
    directory: tempfile::TempDir,
    /// A name that no other test's container has.
    pub id: String,
}

/// How a command went.
pub struct Went {
    /// Its exit status.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Went {
    /// What a command that has ended gave.
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Standard output of a command that has to succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Standard error of a command that has to fail.
    #[track_caller]
    pub fn failed(self) -> String {
        assert_ne!(self.code, 0, "{}", self.out);
        self.err
    }
}

impl Bundle {
    /// A bundle that runs `script`, changed by `change`; none, with the reason on standard error, where
    /// this host cannot.
    pub fn new(script: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        Some(Self::make(script, change))
    }

    /// The same, created and started.
    #[track_caller]
    pub fn running(script: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let bundle = Self::new(script, change)?;
        assert_eq!(bundle.create(), 0, "{}", bundle.log());
        bundle.oci(&["start", "ID"]).ok();
        Some(bundle)
    }

    fn make(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rootfs = directory.path().join("rootfs");
        std::fs::create_dir_all(rootfs.join("tmp")).unwrap();
        let mut spec = ringside_container::runtime::default_spec(false);
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = json!(["sh", "-c", script]);
        for name in BORROWED {
            let host = Path::new("/").join(name);
            if let Ok(target) = std::fs::read_link(&host) {
                std::os::unix::fs::symlink(target, rootfs.join(name)).unwrap();
            } else if host.is_dir() {
                let bind = json!({"destination": host, "type": "bind", "source": host, "options": ["rbind", "ro"]});
                spec["mounts"].as_array_mut().unwrap().push(bind);
            }
        }
        spec["root"]["readonly"] = false.into();
        change(&mut spec);
        std::fs::write(directory.path().join("config.json"), spec.to_string()).unwrap();
        let id = format!(
            "ringside-test-{}",
            directory
                .path()
                .file_name()
                .unwrap()
                .to_string_lossy()
                .trim_start_matches('.')
        );
        Self { directory, id }
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The root, as the host sees it.
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Where containers are remembered.
    pub fn state_root(&self) -> PathBuf {
        self.path().join("state")
    }

    /// The built runtime with its first options.
    pub fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_ringside-oci").as_ref())
    }

    /// Another file of the runtime with its first options.
    pub fn command_of(&self, runtime: &Path) -> Command {
        let mut command = Command::new(runtime);
        command
            .arg("--root")
            .arg(self.state_root())
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the runtime's; `ID` stands for the container's name.
    pub fn oci(&self, arguments: &[&str]) -> Went {
        let arguments = arguments
            .iter()
            .map(|it| if *it == "ID" { self.id.as_str() } else { it });
        Went::of(&self.command().args(arguments).output().unwrap())
    }

    /// Runs `create` with its output where it does not keep anybody waiting.
    pub fn create(&self) -> i32 {
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let mut command = self.command();
        command
            .args(["create", &self.id])
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.status().unwrap().code().unwrap_or(-1)
    }

    /// What the container of [`create`](Self::create) has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap()
    }

    /// A field of the state.
    pub fn state(&self, field: &str) -> Value {
        let state: Value = serde_json::from_str(&self.oci(&["state", "ID"]).ok()).unwrap();
        state[field].clone()
    }

    /// Waits until the container has this status.
    #[track_caller]
    pub fn until(&self, status: &str) {
        for _ in 0..1000 {
            if self.state("status") == status {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{} is {} and not {status}", self.id, self.state("status"));
    }

    /// Directories of cgroups that have the container's name.
    pub fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut pending = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
        while let Some((directory, depth)) = pending.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if !entry.file_type().is_ok_and(|it| it.is_dir()) || depth > 5 {
                    continue;
                }
                if path
                    .file_name()
                    .is_some_and(|name| name == self.id.as_str())
                {
                    found.push(path.clone());
                }
                pending.push((path, depth + 1));
            }
        }
        found
    }

    /// Nothing of the container is left.
    #[track_caller]
    pub fn is_gone(&self) {
        assert_eq!(self.groups(), Vec::<PathBuf>::new());
        let left: Vec<_> = std::fs::read_dir(self.state_root())
            .into_iter()
            .flatten()
            .flatten()
            .map(|it| it.path())
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(&*self.path().to_string_lossy()),
            "{mounts}"
        );
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.oci(&["delete", "--force", "ID"]);
    }
}

//! Containers of an ordinary user, who has no cgroup: what takes none is done, and what takes one is refused.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use support_oci::{Bundle, Went};

/// Nobody has this number.
const USER: &str = "1234";

/// A bundle of an ordinary user's, with a runtime that this user can execute.
struct Owned {
    bundle: Bundle,
    program: PathBuf,
}

impl Owned {
    /// None, with the reason on standard error, where nobody can become another user.
    fn new(script: &str) -> Option<Self> {
        let bundle = Bundle::new(script, |spec| {
            let own = spec.clone();
            *spec = ringside_container::runtime::default_spec(true);
            for name in ["args", "terminal"] {
                spec["process"][name] = own["process"][name].clone();
            }
            spec["root"]["readonly"] = false.into();
            let binds = own["mounts"].as_array().unwrap().iter();
            let binds = binds.filter(|it| it["type"] == "bind").cloned();
            spec["mounts"].as_array_mut().unwrap().extend(binds);
            let user: u32 = USER.parse().unwrap();
            for name in ["uidMappings", "gidMappings"] {
                spec["linux"][name] = json!([{"containerID": 0, "hostID": user, "size": 1}]);
            }
        })?;
        let program = bundle.path().join("ringside-oci");
        // By another process: what is open for writing here, a child of another test has open as well, and
        // then it cannot be executed.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_ringside-oci"))
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        let owned = Command::new("chown")
            .args(["-R", &format!("{USER}:{USER}")])
            .arg(bundle.path())
            .status();
        assert!(owned.unwrap().success());
        Some(Self { bundle, program })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
            .arg(&self.program)
            .args(["--root", "user-state"])
            .current_dir(self.bundle.path())
            .stdin(Stdio::null());
        command
    }

    fn oci(&self, arguments: &[&str]) -> Went {
        Went::of(&self.command().args(arguments).output().unwrap())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.oci(&["delete", "--force", &self.bundle.id]);
    }
}

#[test]
fn an_ordinary_user_runs_the_rootless_configuration() {
    let Some(owned) = Owned::new("id -u; cat /proc/self/uid_map; echo $$") else {
        return;
    };
    let out = owned.oci(&["run", &owned.bundle.id]).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", USER, "1", "1"]);
    let left = std::fs::read_dir(owned.bundle.path().join("user-state"));
    assert_eq!(left.unwrap().count(), 0);
}

#[test]
fn what_takes_a_cgroup_is_refused_and_its_processes_are_found_without_one() {
    let Some(owned) = Owned::new("sleep 1000 & exec sleep 1000") else {
        return;
    };
    let id = owned.bundle.id.as_str();
    let mut run = owned.command();
    run.args(["run", "-d", id])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(run.status().unwrap().success());
    let pids = || -> Vec<i32> {
        serde_json::from_str(&owned.oci(&["ps", "-f", "json", id]).ok()).unwrap()
    };
    // The shell has to come so far.
    for _ in 0..1000 {
        if pids().len() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let found = pids();
    assert_eq!(found.len(), 2, "{found:?}");
    for pid in &found {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert_eq!(name, "sleep\n");
    }
    for (arguments, what) in [
        (&["pause", id][..], "cannot pause it"),
        (&["update", "--memory", "64m", id], "cannot limit it"),
        (&["events", "--stats", id], "cannot tell what it uses"),
        (&["events", id], "cannot tell what it uses"),
    ] {
        let error = owned.oci(arguments).failed();
        assert!(error.contains(what), "{arguments:?}: {error}");
        assert!(error.contains("no cgroup of its own; "), "{error}");
    }
    assert_eq!(owned.oci(&["exec", id, "id", "-u"]).ok(), "0\n");
    owned.oci(&["kill", "--all", id, "KILL"]).ok();
    for pid in found {
        for _ in 0..1000 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            if stat.map_or(true, |it| it.contains(") Z ")) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    assert_eq!(pids(), Vec::<i32>::new());
    owned.oci(&["delete", id]).ok();
}

#[test]
fn somebody_else_s_container_is_not_taken_for_one_that_is_being_made() {
    use std::os::unix::fs::PermissionsExt;
    let Some(owned) = Owned::new("true") else {
        return;
    };
    let other = Bundle::new("sleep 1000", |_| {}).unwrap();
    assert_eq!(other.create(), 0, "{}", other.log());
    // The user may go there, and look at nothing.
    for path in [other.path(), &other.state_root()] {
        let mode = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let root = other.state_root();
    let root = root.to_str().unwrap();
    let error = owned.oci(&["--root", root, "state", &other.id]).failed();
    assert!(error.contains("EACCES"), "{error}");
}

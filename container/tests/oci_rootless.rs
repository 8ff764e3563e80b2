//! Containers of an ordinary user, who has no cgroup: what takes none is done, and what takes one is refused.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support_oci::{Bundle, Went};

/// Nobody has this number.
const USER: &str = "1234";

/// A bundle of an ordinary user's, with a runtime that this user can execute.
struct Owned {
    bundle: Bundle,
    program: PathBuf,
}

impl Owned {
    fn new(script: &str) -> Option<Self> {
        Self::with(script, |_| {})
    }

    /// None, with the reason on standard error, where nobody can become another user.
    fn with(script: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
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
            change(spec);
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

    /// The runtime as podman starts it for this user.
    fn as_root_of_a_namespace(&self) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
            .args(["unshare", "--user", "--map-root-user"])
            .arg(&self.program)
            .current_dir(self.bundle.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the container after `before`, which root's shell does in a mount namespace of its own.
    fn run_after(&self, before: &str) -> Went {
        let command = self.command();
        let words = command.get_args().map(|it| it.to_string_lossy());
        let words: Vec<_> = words.collect();
        let script = format!(
            "set -e; {before}; exec setpriv {} run {}",
            words.join(" "),
            self.bundle.id
        );
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &script]);
        Went::of(&shell.current_dir(self.bundle.path()).output().unwrap())
    }

    /// Its output goes nowhere: who lives on would keep a pipe open.
    #[track_caller]
    fn run_detached(&self) {
        let mut run = self.command();
        run.args(["run", "-d", &self.bundle.id])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        assert!(run.status().unwrap().success());
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

/// The user is one that an account belongs to, and is lent numbers.
const LEND: &str =
    "for it in passwd group subuid subgid; do cp /etc/$it $it; mount --bind $it /etc/$it; done
    echo lent:x:1234:1234::/:/bin/sh >>passwd; echo lent:x:1234: >>group
    echo lent:200000:100 >>subuid; echo lent:300000:100 >>subgid";

/// Maps the user and as many more.
fn more(spec: &mut Value, size: u32) {
    for (name, first) in [("uidMappings", 200_000), ("gidMappings", 300_000)] {
        let range = json!({"containerID": 1, "hostID": first, "size": size});
        spec["linux"][name].as_array_mut().unwrap().push(range);
    }
}

fn can_map() -> bool {
    let is_there = Path::new("/usr/bin/newuidmap").exists();
    if !is_there {
        eprintln!("skipped: this host has no newuidmap");
    }
    is_there
}

#[test]
fn an_ordinary_user_maps_the_numbers_that_were_lent_to_them() {
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G; pwd";
    let owned = Owned::with(script, |spec| {
        more(spec, 100);
        spec["process"]["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7]});
        // Root of the namespace may not enter it: its group is none there.
        spec["process"]["cwd"] = "/private".into();
    });
    let Some(owned) = owned.filter(|_| can_map()) else {
        return;
    };
    let before = format!("{LEND}; mkdir -m 700 rootfs/private; chown 200004:0 rootfs/private");
    let out = owned.run_after(&before).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    let maps = [
        "0", USER, "1", "1", "200000", "100", "0", USER, "1", "1", "300000", "100",
    ];
    assert_eq!(words[..12], maps);
    assert_eq!(words[12..], ["5", "6", "7", "/private"]);
}

#[test]
fn numbers_that_nobody_lent_are_refused_with_who_could_lend_them() {
    let Some(owned) = Owned::with("true", |spec| more(spec, 101)).filter(|_| can_map()) else {
        return;
    };
    let error = owned.run_after(LEND).failed();
    for word in ["`linux.uidMappings`", "newuidmap refuses: ", "/etc/subuid"] {
        assert!(error.contains(word), "{error}");
    }
    let error = owned.run_after("ln -s $(command -v setpriv) setpriv; PATH=$PWD");
    let error = error.failed();
    assert!(
        error.contains("by newuidmap, which is not there"),
        "{error}"
    );
}

#[test]
fn a_domain_is_named_and_the_created_is_entered_by_an_ordinary_user() {
    let script = "cat /proc/sys/kernel/domainname; cd /sys/fs/cgroup; \
                  test \"$(cat cgroup.procs */cgroup.procs 2>/dev/null)\" && grep -w $PWD /proc/mounts | tail -n 1";
    let Some(owned) = Owned::with(script, |spec| spec["domainname"] = "ring".into()) else {
        return;
    };
    let id = owned.bundle.id.as_str();
    let log = std::fs::File::create(owned.bundle.path().join("log")).unwrap();
    let mut create = owned.command();
    create
        .args(["create", id])
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    assert!(create.status().unwrap().success(), "{}", owned.bundle.log());
    let exec = ["exec", id, "cat", "/proc/sys/kernel/domainname"];
    assert_eq!(owned.oci(&exec).ok(), "ring\n");
    owned.oci(&["start", id]).ok();
    for _ in 0..1000 {
        if owned.oci(&["state", id]).ok().contains("stopped") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let log = owned.bundle.log();
    let groups = log.strip_prefix("ring\n").unwrap_or_default();
    assert!(groups.contains(" ro,"), "{log}");
}

#[test]
fn whose_processes_nobody_can_tell_is_warned_of() {
    let owned = Owned::with("true", |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| it["type"] != "pid");
        spec["mounts"][0] = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
    });
    let Some(owned) = owned else { return };
    let went = owned.oci(&["run", &owned.bundle.id]);
    assert_eq!(went.code, 0, "{}", went.err);
    let is_told = went
        .err
        .contains("Such configuration is strongly discouraged");
    assert!(is_told, "{}", went.err);
}

#[test]
fn who_has_no_name_is_told_by_number() {
    let Some(owned) = Owned::new("sleep 1000") else {
        return;
    };
    owned.run_detached();
    let state = owned.oci(&["state", &owned.bundle.id]).ok();
    assert!(
        state.contains(&format!("\"owner\": \"#{USER}\"")),
        "{state}"
    );
    let list = owned.oci(&["list"]).ok();
    assert!(list.contains(&format!("#{USER}")), "{list}");
}

#[test]
fn root_of_an_ordinary_user_s_namespace_finds_what_the_user_runs() {
    let Some(owned) = Owned::new("sleep 1000") else {
        return;
    };
    owned.run_detached();
    let own = owned.bundle.path().join("ringside-oci.d");
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::symlink("../user-state", own.join("ringside-oci")).unwrap();
    let listed = |user: &str| {
        let mut list = owned.as_root_of_a_namespace();
        list.args(["list", "--quiet"])
            .env("XDG_RUNTIME_DIR", &own)
            .env("USER", user);
        Went::of(&list.output().unwrap())
    };
    assert_eq!(listed("somebody").ok(), format!("{}\n", owned.bundle.id));
    // Root of a container for whole systems is root in every respect.
    assert!(!listed("root").out.contains(&owned.bundle.id));
}

#[test]
fn root_of_an_ordinary_user_s_namespace_gives_a_container_the_host_s_devices() {
    let script = "stat -c %t:%T /dev/zero /dev/null; echo x >/dev/null && echo written; id -u";
    let owned = Owned::with(script, |spec| {
        for name in ["uidMappings", "gidMappings"] {
            spec["linux"][name] = json!([]);
        }
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| it["type"] != "user");
        spec["linux"]["devices"] =
            json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]);
    });
    let Some(owned) = owned else { return };
    let mut run = owned.as_root_of_a_namespace();
    run.args(["--root", "user-state", "run", &owned.bundle.id]);
    let out = Went::of(&run.output().unwrap()).ok();
    assert_eq!(out, "1:5\n1:3\nwritten\n0\n");
}

//! What an ordinary user's container does without cgroups of its own, and with a delegated one.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support_oci::Bundle;

const USER: u32 = 12345;

/// A bundle that belongs to an ordinary user, and the runtime where that user can execute it.
struct Theirs {
    bundle: Bundle,
    runtime: PathBuf,
}

impl Theirs {
    fn new(script: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let bundle = Bundle::new(script, |spec| {
            // The mounts and the program stay, the rest is an ordinary user's.
            let (mounts, args) = (spec["mounts"].clone(), spec["process"]["args"].clone());
            *spec = ringside_container::runtime::default_spec(true);
            let binds = mounts.as_array().into_iter().flatten();
            let binds = binds.filter(|it| it["type"] == "bind").cloned();
            spec["mounts"]
                .as_array_mut()
                .into_iter()
                .for_each(|it| it.extend(binds.clone()));
            spec["process"]["args"] = args;
            spec["process"]["terminal"] = false.into();
            spec["root"]["readonly"] = false.into();
            for (map, id) in [("uidMappings", USER), ("gidMappings", USER)] {
                spec["linux"][map][0]["hostID"] = id.into();
            }
            change(spec);
        })?;
        let runtime = bundle.path().join("ringside-oci");
        // By another process: a program that is open for writing in one that forks cannot be executed.
        let mut copy = std::process::Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_ringside-oci")).arg(&runtime);
        assert!(copy.status().ok()?.success());
        std::fs::set_permissions(bundle.path(), PermissionsExt::from_mode(0o755)).ok()?;
        for path in [
            bundle.path().to_owned(),
            bundle.rootfs(),
            bundle.rootfs().join("tmp"),
        ] {
            chown(path, Some(USER), Some(USER)).ok()?;
        }
        Some(Self { bundle, runtime })
    }

    /// Runs the container as that user, after `before` in a shell that is root's.
    fn run(&self, before: &str) -> Output {
        let script = format!(
            "{before} exec setpriv --reuid {USER} --regid {USER} --clear-groups {} --root {}/state run {}",
            self.runtime.display(),
            self.bundle.path().display(),
            self.bundle.id
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(self.bundle.path());
        shell.output().unwrap()
    }
}

#[test]
fn without_cgroups_a_container_that_asks_for_none_runs_in_the_callers() {
    let Some(theirs) = Theirs::new("exit 7", |_| {}) else {
        return;
    };
    let out = theirs.run("");
    assert_eq!(
        out.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(theirs.bundle.groups(), Vec::<PathBuf>::new());
}

#[test]
fn without_cgroups_a_limit_or_a_path_is_refused_and_not_forgotten() {
    let limit =
        |spec: &mut Value| spec["linux"]["resources"]["pids"] = serde_json::json!({"limit": 9});
    let path = |spec: &mut Value| spec["linux"]["cgroupsPath"] = "/somewhere/of/ours".into();
    for change in [limit as fn(&mut Value), path] {
        let Some(theirs) = Theirs::new("exit 7", change) else {
            return;
        };
        let out = theirs.run("");
        let message = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{message}");
        assert!(
            message.contains("unable to apply cgroup configuration (`linux.cgroupsPath`)")
                && message.contains("Delegate=yes")
                && message.contains("no limits + no cgrouppath"),
            "{message}"
        );
    }
}

#[test]
fn a_delegated_group_with_some_controllers_holds_the_container_with_its_limits() {
    let script = "cd /sys/fs/cgroup; cat cgroup.controllers pids.max; \
                  test $(find . -type d | wc -l) = 1 && exit 7";
    let limit =
        |spec: &mut Value| spec["linux"]["resources"]["pids"] = serde_json::json!({"limit": 99});
    let Some(theirs) = Theirs::new(script, limit) else {
        return;
    };
    let top = Path::new("/sys/fs/cgroup");
    if !top.join("cgroup.controllers").exists() {
        eprintln!("skipped: only version 2 is delegated to users, and this host has no cgroup v2");
        return;
    }
    // As systemd lends them: of all that the host has, a few.
    std::fs::write(top.join("cgroup.subtree_control"), "+pids").unwrap();
    let between = top.join(format!("between-{}", theirs.bundle.id));
    let given = between.join("given");
    let leaf = given.join("caller");
    std::fs::create_dir_all(&leaf).unwrap();
    std::fs::write(between.join("cgroup.subtree_control"), "+pids").unwrap();
    for path in [&given, &leaf] {
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            chown(path.join(file), Some(USER), Some(USER)).unwrap();
        }
    }
    let out = theirs.run(&format!("echo $$ > {}/cgroup.procs;", leaf.display()));
    let handed_down = std::fs::read_to_string(given.join("cgroup.subtree_control")).unwrap();
    for path in [leaf, given, between] {
        std::fs::remove_dir(path).unwrap();
    }
    assert_eq!(
        out.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(handed_down, "pids\n");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "pids\n99\n");
    assert_eq!(theirs.bundle.groups(), Vec::<PathBuf>::new());
}

#[test]
fn groups_of_version_1_that_were_lent_need_none_of_version_2_beside_them() {
    let top = Path::new("/sys/fs/cgroup");
    if !top.join("pids/cgroup.procs").exists() {
        eprintln!("skipped: this host has no cgroups of version 1");
        return;
    }
    let Some(theirs) = Theirs::new("cat /proc/self/cgroup; exit 7", |spec| {
        spec["linux"]["resources"]["pids"] = serde_json::json!({"limit": 99});
        spec["linux"]["cgroupsPath"] = "/somewhere".into();
        let namespaces = spec["linux"]["namespaces"].as_array_mut();
        namespaces.unwrap().retain(|it| it["type"] != "cgroup");
    }) else {
        return;
    };
    let config = theirs.bundle.path().join("config.json");
    let group = format!("/given-{}/inside", theirs.bundle.id);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("/somewhere", &group)).unwrap();
    let hierarchies = std::fs::read_dir(top).unwrap().flatten();
    let hierarchies = hierarchies.map(|it| it.path());
    let is_v1 = |it: &PathBuf| it.join("tasks").exists();
    let given: Vec<PathBuf> = hierarchies
        .filter(is_v1)
        .map(|it| {
            it.join(group.trim_start_matches('/'))
                .parent()
                .unwrap()
                .into()
        })
        .collect();
    for path in &given {
        std::fs::create_dir(path).unwrap();
        for file in ["", "cgroup.procs", "tasks", "cpuset.cpus", "cpuset.mems"] {
            if path.join(file).exists() {
                chown(path.join(file), Some(USER), Some(USER)).unwrap();
            }
        }
    }
    let out = theirs.run("");
    for path in given {
        std::fs::remove_dir(path).unwrap();
    }
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(7), "{error}");
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(told.contains(&format!(":pids:{group}\n")), "{told}");
}

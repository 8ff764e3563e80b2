//! Many containers: at once, and one after the other. `RINGSIDE_MANY=500` sets how many are alive at
//! once, and twice as many are started in sequence; without it a test's share of that.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::collections::BTreeSet;
use std::path::PathBuf;

use support_oci::Bundle;

/// How many at once.
fn many() -> usize {
    let asked = std::env::var("RINGSIDE_MANY").ok();
    asked.and_then(|it| it.parse().ok()).unwrap_or(12)
}

/// Cgroups whose names begin with the bundle's.
fn groups(bundle: &Bundle) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|it| it.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(&bundle.id) {
                found.push(entry.path());
            }
            pending.push(entry.path());
        }
    }
    found
}

/// Neither cgroup nor state nor mount is left.
#[track_caller]
fn all_are_gone(bundle: &Bundle) {
    assert_eq!(groups(bundle), Vec::<PathBuf>::new());
    let left = std::fs::read_dir(bundle.state_root()).unwrap();
    let left: Vec<PathBuf> = left.flatten().map(|it| it.path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(&*bundle.path().to_string_lossy()),
        "{mounts}"
    );
}

#[test]
fn many_live_at_once_each_in_a_group_of_its_own() {
    let Some(bundle) = Bundle::new("exec sleep 1000", |_| {}) else {
        return;
    };
    let names: Vec<String> = (0..many()).map(|n| format!("{}-{n}", bundle.id)).collect();
    for name in &names {
        // Its output is not waited for: the container keeps it.
        let mut command = bundle.command();
        command.args(["run", "--detach", name]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        assert!(command.status().unwrap().success(), "{name}");
    }
    let list: Vec<serde_json::Value> =
        serde_json::from_str(&bundle.oci(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(list.len(), names.len());
    assert!(list.iter().all(|it| it["status"] == "running"), "{list:?}");
    let inits: BTreeSet<i64> = list.iter().filter_map(|it| it["pid"].as_i64()).collect();
    assert_eq!(inits.len(), names.len());
    // Each is in the group that is named after it, and nobody else is.
    for (name, it) in names
        .iter()
        .map(|name| (name, list.iter().find(|it| it["id"] == name.as_str())))
    {
        let pid = it.unwrap()["pid"].clone();
        let ps = bundle.oci(&["ps", "--format", "json", name]).ok();
        assert_eq!(ps.trim(), format!("[{pid}]"), "{name}");
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(
            own.lines().any(|line| line.ends_with(&format!("/{name}"))),
            "{name}: {own}"
        );
    }
    for name in &names {
        bundle.oci(&["delete", "--force", name]).ok();
    }
    all_are_gone(&bundle);
    for pid in inits {
        // Whoever adopted it may still have to reap it.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(
            !stat.contains("(sleep)") || stat.contains("(sleep) Z"),
            "{pid} lives: {stat}"
        );
    }
}

#[test]
fn many_in_sequence_leave_nothing() {
    let Some(bundle) = Bundle::new("exit 7", |_| {}) else {
        return;
    };
    for n in 0..2 * many() {
        let name = format!("{}-{n}", bundle.id);
        if n % 2 == 0 {
            assert_eq!(bundle.oci(&["run", &name]).code, 7, "{name}");
        } else {
            let mut create = bundle.command();
            create.args(["create", &name]);
            create
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            assert!(create.status().unwrap().success(), "{name}");
            bundle.oci(&["start", &name]).ok();
            bundle.oci(&["delete", "--force", &name]).ok();
        }
    }
    all_are_gone(&bundle);
}

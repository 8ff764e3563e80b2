//! A container's cgroup, as its configuration asks for it and as the container sees it.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use serde_json::json;
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

#[test]
fn the_cgroup_is_the_same_in_every_hierarchy() {
    let Some(bundle) = Bundle::new("cat /proc/self/cgroup", |spec| {
        spec["linux"]["cgroupsPath"] = "/ringside-test-everywhere".into();
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| it["type"] != "cgroup");
    }) else {
        return;
    };
    let shown = bundle.oci(&["run", "ID"]).ok();
    // A hierarchy that is mounted nowhere has no groups for us.
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let is_mounted = |line: &&str| {
        let controllers = line.split(':').nth(1).unwrap();
        controllers.is_empty() || mounts.contains(controllers)
    };
    for line in shown.lines().filter(is_mounted) {
        assert!(line.ends_with(":/ringside-test-everywhere"), "{shown}");
    }
    assert!(!std::path::Path::new("/sys/fs/cgroup/systemd/ringside-test-everywhere").exists());
}

#[test]
fn cgroups_are_seen_in_a_sys_of_the_hosts_as_well() {
    let Some(bundle) = Bundle::new("ls /sys/fs/cgroup | wc -l", |spec| {
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/sys" {
                *mount = json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind"]});
            }
        }
    }) else {
        return;
    };
    assert_ne!(bundle.oci(&["run", "ID"]).ok(), "0\n");
    bundle.is_gone();
}

#[test]
fn a_unified_key_that_is_none_is_named_with_its_field() {
    for (key, words) in [
        (
            "foo.bar",
            "the requested cgroup controller `foo` is not available",
        ),
        (
            "NO-KEY",
            "the specified key has not the form CONTROLLER.VALUE `NO-KEY`",
        ),
    ] {
        let Some(bundle) = Bundle::new("true", |spec| {
            spec["linux"]["resources"]["unified"] = json!({key: "1"});
        }) else {
            return;
        };
        let said = bundle.oci(&["run", "ID"]).failed();
        let field = format!("`linux.resources.unified.{key}`: ");
        assert!(said.contains(&field) && said.contains(words), "{said}");
    }
}

/// As in every runtime, callers still give it.
#[test]
fn a_limit_of_the_kernels_own_memory_is_ignored_with_a_warning() {
    let kernel = |spec: &mut serde_json::Value| {
        spec["linux"]["resources"]["memory"] = json!({"kernel": 9});
        spec["process"]["args"] = json!(["sh", "-c", FOREVER]);
    };
    let Some(bundle) = Bundle::new("", kernel) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    assert!(bundle.log().contains("ignoring"), "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    let update = bundle.oci(&[
        "update",
        "--kernel-memory",
        "1m",
        "--pids-limit",
        "99",
        "ID",
    ]);
    let warning = "`linux.resources.memory.kernel`";
    assert!(
        update.code == 0 && update.err.contains(warning),
        "{}",
        update.err
    );
    bundle.oci(&["delete", "--force", "ID"]).ok();
    bundle.is_gone();
}

/// Below a page there is no memory: nobody starts with that, and whoever runs is ended by it.
#[test]
fn a_limit_below_a_page_is_for_containers_that_run() {
    let forever = |spec: &mut serde_json::Value| {
        spec["process"]["args"] = json!(["sh", "-c", FOREVER]);
        spec["linux"]["resources"]["memory"] = json!({"limit": 1024});
    };
    let Some(bundle) = Bundle::new("", forever) else {
        return;
    };
    let error = bundle.oci(&["run", "--detach", "ID"]).failed();
    let words = "`linux.resources.memory.limit` is \"1024\": it must be at least one page";
    assert!(error.contains(words), "{error}");

    let Some(bundle) = Bundle::new("", |spec| {
        spec["process"]["args"] = json!(["sh", "-c", FOREVER]);
    }) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    let update = bundle.oci(&["update", "--memory", "1024", "ID"]);
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        // The kernel kills before or after it has told us that it takes the limit.
        bundle.until("stopped");
    } else {
        // In version 1 it refuses what it cannot make room for.
        let error = update.failed();
        assert!(error.contains("linux.resources.memory.limit"), "{error}");
        bundle.until("running");
    }
    bundle.oci(&["delete", "--force", "ID"]).ok();
    bundle.is_gone();
}

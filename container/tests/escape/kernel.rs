//! Ways out through what no namespace divides: cgroups, parameters, devices.

use serde_json::json;

use crate::support_oci::Bundle;
use crate::{grant, host};

/// Every `release_agent` of the host's version 1 hierarchies, with what it says.
fn release_agents() -> String {
    host(
        "for it in $(find /sys/fs/cgroup -maxdepth 2 -name release_agent); do echo $it $(cat $it); done",
    )
}

/// CVE-2022-0492, CVE-2023-25809: a container writes to its cgroups, or mounts the whole tree and names a
/// program there that the host then runs.
#[test]
fn a_container_cannot_write_to_cgroups() {
    let script = "mkdir -p /tmp/c; \
        for it in $(find /sys/fs/cgroup -name cgroup.procs); do (echo 0 > $it) 2>/dev/null && echo wrote $it; done; \
        mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo made; \
        for it in cpu memory pids rdma; do mount -t cgroup -o $it x /tmp/c 2>/dev/null && echo mounted $it; done; \
        mount -t cgroup2 x /tmp/c 2>/dev/null && echo mounted 2; \
        unshare -UrmC sh -c 'for it in cpu memory rdma; do mount -t cgroup -o $it x /tmp/c && echo evil > /tmp/c/release_agent && echo wrote agent; done' 2>/dev/null; \
        find /sys/fs/cgroup -name cgroup.procs | head -n 1 | wc -l";
    let before = release_agents();
    let Some(bundle) = Bundle::new(script, |_| {}) else {
        return;
    };
    assert_eq!(bundle.oci(&["run", "ID"]).out, "1\n");
    assert_eq!(release_agents(), before);

    // With a writable mount and the right to mount, the same script gets through.
    let Some(bundle) = Bundle::new(script, |spec| {
        grant(spec, &["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        spec["mounts"][6]["options"] = json!(["nosuid", "noexec", "nodev"]);
    }) else {
        return;
    };
    let out = bundle.oci(&["run", "ID"]).out;
    assert!(
        out.contains("wrote /sys") && out.contains("mounted"),
        "{out}"
    );
    assert_eq!(release_agents(), before);
}

/// CVE-2015-3630 and the plain ones: the kernel's parameters, keys and triggers.
#[test]
fn a_container_cannot_change_the_machine_s_parameters() {
    // It writes what is there already: whoever succeeds does no harm.
    let script = "p=/proc/sys/kernel/core_pattern; v=$(cat $p); (echo \"$v\" > $p) 2>/dev/null && echo wrote; \
        (echo h > /proc/sysrq-trigger) 2>/dev/null && echo triggered; \
        head -c 1 /proc/kcore | wc -c; cat /proc/keys | wc -c; ls /sys/firmware | wc -l; \
        mount -o remount,rw,bind /proc/sys 2>/dev/null && echo remounted; umount /proc/kcore 2>/dev/null && echo uncovered; true";
    let before = host("cat /proc/sys/kernel/core_pattern");
    let Some(bundle) = Bundle::new(script, |_| {}) else {
        return;
    };
    assert_eq!(bundle.oci(&["run", "ID"]).ok(), "0\n0\n0\n");
    let Some(bundle) = Bundle::new(script, |spec| {
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    }) else {
        return;
    };
    assert!(bundle.oci(&["run", "ID"]).out.starts_with("wrote\n"));
    assert_eq!(host("cat /proc/sys/kernel/core_pattern"), before);
}

/// A container that may make devices makes the host's.
#[test]
fn a_device_that_is_not_granted_cannot_be_opened() {
    let script =
        "mknod /tmp/kvm c 10 232; (: < /tmp/kvm) 2>/dev/null && echo opened || echo refused";
    for granted in [false, true] {
        let Some(bundle) = Bundle::new(script, |spec| {
            grant(spec, &["CAP_MKNOD"]);
            let device =
                json!({"allow": granted, "type": "c", "major": 10, "minor": 232, "access": "rm"});
            let node =
                json!({"allow": true, "type": "c", "major": 10, "minor": 232, "access": "m"});
            spec["linux"]["resources"]["devices"]
                .as_array_mut()
                .unwrap()
                .extend([node, device]);
        }) else {
            return;
        };
        let out = bundle.oci(&["run", "ID"]).out;
        assert_eq!(out == "opened\n", granted, "{out}");
    }
}

/// CVE-2021-43784: numbers of bytes that do not fit into the message that takes the namespaces to the
/// child let the rest of it be read as another one.
#[test]
fn nothing_of_a_configuration_overflows() {
    let map = |count: u32| -> Vec<_> {
        (0..count)
            .map(|it| json!({"containerID": it, "hostID": it, "size": 1}))
            .collect()
    };
    let user = |spec: &mut serde_json::Value, count| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = json!(map(count));
        spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 100}]);
    };
    let Some(bundle) = Bundle::new("echo ran", |spec| user(spec, 5000)) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert!(went.out.is_empty() && went.failed().contains("`linux.uidMappings`"));
    let long = format!("/proc/self/ns/{}", "./".repeat(40_000));
    let Some(bundle) = Bundle::new("echo ran", |spec| {
        spec["linux"]["namespaces"][1]["path"] = json!(long);
    }) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(went.out, "");
    assert!(went.failed().contains("File name too long"));

    let Some(bundle) = Bundle::new("wc -l < /proc/self/uid_map", |spec| user(spec, 300)) else {
        return;
    };
    assert_eq!(bundle.oci(&["run", "ID"]).ok().trim(), "300");
}

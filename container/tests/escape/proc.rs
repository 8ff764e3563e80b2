//! Covering the container's `/proc` and `/sys`, so that what the runtime writes or masks there is something
//! else.

use std::os::unix::fs::symlink;

use crate::support_oci::Bundle;
use crate::{Treasure, add_mount};

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: the image's `/proc` is a link, and what
/// is masked under one path is found under another.
#[test]
fn proc_and_sys_are_mounted_on_directories_only() {
    for name in ["proc", "sys"] {
        let Some(bundle) = Bundle::new("echo ran", |_| {}) else {
            return;
        };
        std::fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
        symlink("elsewhere", bundle.rootfs().join(name)).unwrap();
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.out, "");
        assert!(went.failed().contains(&format!("mount /{name}")));
        assert!(
            std::fs::read_dir(bundle.rootfs().join("elsewhere"))
                .unwrap()
                .next()
                .is_none()
        );
        bundle.is_gone();

        std::fs::remove_file(bundle.rootfs().join(name)).unwrap();
        assert_eq!(bundle.oci(&["run", "ID"]).out, "ran\n");
    }
}

/// CVE-2015-3631, CVE-2019-16884, CVE-2025-52881, CVE-2025-62596: a volume over `/proc` or in it receives
/// the labels and parameters that are meant for the kernel, or shows what is masked.
#[test]
fn nothing_is_mounted_over_proc() {
    let treasure = Treasure::new();
    let cases = [
        "/proc",
        "/proc/",
        "/tmp/../proc",
        "/alias",
        "/proc/self/attr",
        "/proc/sys/kernel",
        "/proc/1/task",
        "/alias/sys",
        "/proc/sys/kernel/hostname",
    ];
    for destination in cases {
        for kind in ["bind", "tmpfs"] {
            let is_file = destination.ends_with("hostname");
            let source = if is_file {
                treasure.secret()
            } else {
                treasure.path().into()
            };
            if is_file && kind == "tmpfs" {
                continue;
            }
            let Some(bundle) = Bundle::new("echo ran", |spec| {
                let options: &[&str] = if kind == "bind" { &["rbind"] } else { &[] };
                add_mount(spec, destination, kind, &source, options);
                spec["linux"]["sysctl"] = serde_json::json!({"kernel.msgmax": "8192"});
            }) else {
                return;
            };
            symlink("/proc", bundle.rootfs().join("alias")).unwrap();
            let went = bundle.oci(&["run", "ID"]);
            assert_eq!(went.out, "", "{kind} at {destination}");
            assert!(
                went.failed().contains("Operation not permitted"),
                "{kind} at {destination}"
            );
            treasure.is_untouched();
            bundle.is_gone();
        }
    }
    // What shows the machine may be shown in another way, and others' paths are theirs.
    let Some(bundle) = Bundle::new("cat /proc/uptime /process", |spec| {
        add_mount(spec, "/proc/uptime", "bind", &treasure.secret(), &["bind"]);
        add_mount(spec, "/process", "bind", &treasure.secret(), &["bind"]);
        add_mount(spec, "/old", "proc", "proc".as_ref(), &[]);
    }) else {
        return;
    };
    assert_eq!(bundle.oci(&["run", "ID"]).ok(), crate::SECRET.repeat(2));
}

/// A procfs of the host's is a procfs, but only as a whole: no directory of it may stand for `/proc`.
#[test]
fn only_a_whole_proc_stands_for_proc() {
    for (source, is_allowed) in [("/proc", true), ("/proc/sys", false), ("/proc/self", false)] {
        let Some(bundle) = Bundle::new("echo ran", |spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|it| it["destination"] != "/proc");
            mounts.insert(0, serde_json::json!({"destination": "/proc", "type": "bind", "source": source, "options": ["rbind"]}));
            spec["linux"]["maskedPaths"] = serde_json::json!([]);
            spec["linux"]["readonlyPaths"] = serde_json::json!([]);
        }) else {
            return;
        };
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.out == "ran\n", is_allowed, "{source}: {}", went.err);
    }
}

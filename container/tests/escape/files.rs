//! Mounts, devices and directories that an image's links lead to the host.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::support_oci::Bundle;
use crate::{SECRET, Treasure, add_mount, host};

/// CVE-2019-18837, CVE-2021-30465, CVE-2024-45310: what is made for a mount, a device or the working
/// directory is made in the root, wherever the image's links say that it is.
#[test]
fn what_is_made_behind_a_link_is_made_in_the_root() {
    let treasure = Treasure::new();
    let Some(bundle) = Bundle::new("pwd; cat /through/file", |spec| {
        let tmp = std::path::Path::new("tmpfs");
        add_mount(spec, "/absolute/mount", "tmpfs", tmp, &[]);
        add_mount(spec, "/upward/mount/deep", "tmpfs", tmp, &[]);
        add_mount(
            spec,
            "/absolute/secret",
            "bind",
            "/etc/hostname".as_ref(),
            &["bind"],
        );
        spec["process"]["cwd"] = json!("/absolute/cwd");
        spec["linux"]["devices"] =
            json!([{"path": "/absolute/device", "type": "c", "major": 1, "minor": 3}]);
    }) else {
        return;
    };
    let path = treasure.path().to_str().unwrap();
    symlink(path, bundle.rootfs().join("absolute")).unwrap();
    let up = format!("../../../../../../../..{path}");
    symlink(up, bundle.rootfs().join("upward")).unwrap();
    symlink("absolute", bundle.rootfs().join("through")).unwrap();
    let went = bundle.oci(&["run", "ID"]);
    assert!(went.out.starts_with(path), "{}{}", went.out, went.err);
    treasure.is_untouched();
    let inside = bundle.rootfs().join(&path[1..]);
    for name in ["mount", "cwd", "device", "secret"] {
        assert!(inside.join(name).exists(), "{name}");
    }

    // The links do lead there for whoever follows them.
    std::fs::create_dir_all(bundle.rootfs().join("absolute/control")).unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("upward/control/deep")).unwrap();
    assert_eq!(treasure.others(), ["control"]);
}

/// CVE-2021-30465, CVE-2024-45310: somebody who shares a volume exchanges a directory for a link while
/// the runtime mounts in it.
#[test]
fn a_directory_exchanged_for_a_link_leads_nowhere_else() {
    let treasure = Treasure::new();
    let Some(bundle) = Bundle::new("", |spec| {
        add_mount(spec, "/swap/made/deep", "tmpfs", "tmpfs".as_ref(), &[]);
        add_mount(
            spec,
            "/swap/file",
            "bind",
            "/etc/hostname".as_ref(),
            &["bind", "ro"],
        );
        add_mount(spec, "/swap", "tmpfs", "tmpfs".as_ref(), &[]);
    }) else {
        return;
    };
    let rootfs = bundle.rootfs();
    std::fs::create_dir(rootfs.join("swap")).unwrap();
    symlink(treasure.path(), rootfs.join("other")).unwrap();
    let (ends, exchanged) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            let (one, other) = (rootfs.join("swap"), rootfs.join("other"));
            while !ends.load(Ordering::Relaxed) {
                let flags = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &one, AT_FDCWD, &other, flags).unwrap();
                exchanged.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..15 {
            // Whether it succeeds depends on who was faster; what it may not do is the same.
            let _ = bundle.oci(&["run", "ID"]);
            treasure.is_untouched();
        }
        assert!(exchanged.load(Ordering::Relaxed) > 100);
        // Who follows the link is led there, sooner or later.
        for number in 0.. {
            let _ = std::fs::create_dir_all(rootfs.join(format!("swap/control{number}")));
            if !treasure.others().is_empty() {
                break;
            }
        }
        ends.store(true, Ordering::Relaxed);
    });
}

/// A file that is bound to be read only cannot be written to, and neither can the host's be by way of it.
#[test]
fn what_is_bound_read_only_stays_so() {
    let treasure = Treasure::new();
    let script = "echo changed > /file; echo changed > /directory/secret; mount -o remount,rw,bind /file; echo changed > /file; cat /file";
    let make = |options: &'static [&'static str]| {
        Bundle::new(script, |spec| {
            add_mount(spec, "/file", "bind", &treasure.secret(), options);
            add_mount(spec, "/directory", "bind", treasure.path(), options);
        })
    };
    let Some(bundle) = make(&["rbind", "ro"]) else {
        return;
    };
    assert_eq!(bundle.oci(&["run", "ID"]).out, SECRET);
    treasure.is_untouched();

    let went = make(&["rbind"]).unwrap().oci(&["run", "ID"]);
    assert_eq!(went.out, "changed\n");
    assert_eq!(
        std::fs::read_to_string(treasure.secret()).unwrap(),
        "changed\n"
    );
}

/// CVE-2025-31133, CVE-2025-62161: a container that replaces its `/dev/null` has what it put there mounted
/// over the files that are to be masked.
#[test]
fn a_mask_is_the_host_s_null_device() {
    let dev = Treasure::new();
    let null = dev.path().join("null");
    std::fs::write(&null, SECRET).unwrap();
    let script = "cat /dev/null; echo -; cat /masked; echo changed > /masked; cat /masked; stat -c %t:%T /masked";
    let Some(bundle) = Bundle::new(script, |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|it| !it["destination"].as_str().unwrap().starts_with("/dev"));
        add_mount(spec, "/dev", "bind", dev.path(), &["bind"]);
        spec["linux"]["maskedPaths"] = json!(["/masked"]);
    }) else {
        return;
    };
    std::fs::write(bundle.rootfs().join("masked"), "hide this").unwrap();
    let went = bundle.oci(&["run", "ID"]);
    // The container's null device is what the attacker made it, and the mask is not that.
    assert_eq!(went.out, format!("{SECRET}-\n1:3\n"), "{}", went.err);
    assert_eq!(std::fs::read_to_string(null).unwrap(), SECRET);
}

/// The same with a link in an image that brings its own `/dev`: it is refused, and nothing is bound.
#[test]
fn a_null_device_that_is_a_link_is_refused() {
    let Some(bundle) = Bundle::new("echo ran", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|it| !it["destination"].as_str().unwrap().starts_with("/dev"));
    }) else {
        return;
    };
    std::fs::create_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(
        "/proc/sys/kernel/core_pattern",
        bundle.rootfs().join("dev/null"),
    )
    .unwrap();
    let before = host("cat /proc/sys/kernel/core_pattern");
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(went.out, "");
    assert!(went.failed().contains("/dev/null"));
    assert_eq!(host("cat /proc/sys/kernel/core_pattern"), before);

    std::fs::remove_file(bundle.rootfs().join("dev/null")).unwrap();
    assert_eq!(bundle.oci(&["run", "ID"]).out, "ran\n");
}

/// CVE-2025-52565: the container's terminal is bound to `/dev/console` by its path, which may be a link by
/// then; or the path of `/dev/console` is one.
#[test]
fn the_console_is_the_terminal_and_nothing_else() {
    let treasure = Treasure::new();
    let script = "tty; stat -L -c %t /dev/console";
    let Some(bundle) = Bundle::new(script, |spec| {
        spec["process"]["terminal"] = true.into();
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|it| it["destination"] != "/dev");
    }) else {
        return;
    };
    std::fs::create_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(treasure.secret(), bundle.rootfs().join("dev/console")).unwrap();
    let went = bundle.oci(&["run", "ID"]);
    // 88 hexadecimal is the major number of pseudo terminals.
    assert_eq!(
        went.out.replace('\r', ""),
        "/dev/pts/0\n88\n",
        "{}",
        went.err
    );
    treasure.is_untouched();
    let inside = bundle
        .rootfs()
        .join(&treasure.secret().to_str().unwrap()[1..]);
    assert!(inside.exists());

    // Where the link leads for others.
    let console = bundle.rootfs().join("dev/console");
    assert_eq!(std::fs::read_to_string(console).unwrap(), SECRET);
}

/// A `/dev/pts` of the container's own making gives no terminal of the host's.
#[test]
fn a_false_devpts_is_refused() {
    let false_devpts = tempfile::tempdir().unwrap();
    symlink("/dev/tty0", false_devpts.path().join("ptmx")).unwrap();
    for put in [true, false] {
        let Some(bundle) = Bundle::new("echo ran", |spec| {
            spec["process"]["terminal"] = true.into();
            if put {
                add_mount(spec, "/dev/pts", "bind", false_devpts.path(), &["bind"]);
            }
        }) else {
            return;
        };
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.code == 0, !put, "{}", went.err);
        assert_eq!(went.out.contains("ran"), !put);
    }
}

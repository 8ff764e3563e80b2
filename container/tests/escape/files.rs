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

/// CVE-2026-41579: an image whose `/dev` or `/sys` is a link has `ptmx` and others removed and made anew where
/// it leads.
#[test]
fn links_of_devices_and_controllers_are_made_in_the_root() {
    for upward in ["", "../../../../../../../.."] {
        let treasure = Treasure::new();
        let decoy = treasure.path().join("ptmx");
        std::fs::write(&decoy, SECRET).unwrap();
        let Some(bundle) = Bundle::new("ls -ld /dev/ptmx /dev/fd", |spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|it| {
                let at = it["destination"].as_str().unwrap();
                at == "/sys/fs/cgroup" || !at.starts_with("/dev") && at != "/sys"
            });
        }) else {
            return;
        };
        let path = treasure.path().to_str().unwrap();
        for name in ["dev", "sys"] {
            symlink(format!("{upward}{path}"), bundle.rootfs().join(name)).unwrap();
        }
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(treasure.others(), ["ptmx"], "{}", went.err);
        assert_eq!(std::fs::read_to_string(&decoy).unwrap(), SECRET);
        let inside = bundle.rootfs().join(&path[1..]);
        assert!(went.out.contains("/dev/ptmx -> pts/ptmx"), "{}", went.err);
        assert!(inside.join("fd").is_symlink());
        assert!(inside.join("fs/cgroup").is_dir());

        // The link does lead there for whoever follows it.
        std::fs::remove_file(bundle.rootfs().join("dev/ptmx")).unwrap();
        assert_eq!(treasure.others(), Vec::<String>::new());
    }
}

/// CVE-2026-88265: the program's streams are opened anew by `/dev/null`, which is a link to a file of the
/// host's that the container was given to read, and that file gets the container's user as its owner.
#[test]
fn the_streams_are_the_caller_s_whatever_the_null_device_is() {
    use std::os::unix::fs::MetadataExt;
    let treasure = Treasure::new();
    let bind = treasure.secret();
    let script = "echo ran; echo changed >&0; readlink /proc/self/fd/1";
    let Some(bundle) = Bundle::new(script, |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|it| !it["destination"].as_str().unwrap().starts_with("/dev"));
        add_mount(spec, "/given", "bind", &bind, &["bind"]);
        add_mount(spec, "/dev", "tmpfs", "tmpfs".as_ref(), &["tmpcopyup"]);
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    }) else {
        return;
    };
    std::fs::create_dir(bundle.rootfs().join("dev")).unwrap();
    symlink("/given", bundle.rootfs().join("dev/null")).unwrap();
    let went = bundle.oci(&["run", "ID"]);
    // It is refused, or its streams are pipes as they were.
    let is_refused = went.code != 0 && went.out.is_empty();
    let has_pipes = went.out.starts_with("ran\npipe:[");
    assert!(is_refused || has_pipes, "{}{}", went.out, went.err);
    treasure.is_untouched();
    assert_eq!(std::fs::metadata(treasure.secret()).unwrap().uid(), 0);

    // By such a link, whoever may write to the file does.
    let Some(bundle) = Bundle::new("echo changed > /through", |spec| {
        add_mount(spec, "/given", "bind", &bind, &["bind"]);
    }) else {
        return;
    };
    symlink("/given", bundle.rootfs().join("through")).unwrap();
    bundle.oci(&["run", "ID"]).ok();
    assert_eq!(
        std::fs::read_to_string(treasure.secret()).unwrap(),
        "changed\n"
    );
}

/// CVE-2026-88264: `/dev/console` is a link that leads to where nothing is yet, and a file is made there.
#[test]
fn a_console_that_is_a_link_makes_no_file_of_the_host_s() {
    let treasure = Treasure::new();
    let Some(bundle) = Bundle::new("test -t 0 && echo terminal", |spec| {
        spec["process"]["terminal"] = true.into();
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|it| it["destination"] != "/dev");
    }) else {
        return;
    };
    let new = treasure.path().join("new");
    std::fs::create_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(&new, bundle.rootfs().join("dev/console")).unwrap();
    let went = bundle.oci(&["run", "ID"]);
    assert!(went.out.contains("terminal"), "{}", went.err);
    treasure.is_untouched();

    // Whoever follows it makes one.
    std::fs::write(bundle.rootfs().join("dev/console"), "").unwrap();
    assert!(new.exists());
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

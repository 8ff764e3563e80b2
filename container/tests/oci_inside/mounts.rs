//! Mounts, what they cover, and what is hidden.

use serde_json::{Value, json};

use crate::support_oci::Bundle;
use crate::{add, inside};

#[test]
fn mounts_have_their_options_and_what_is_in_them_too() {
    let list = "grep -E ' /mnt' /proc/self/mountinfo | cut -d' ' -f5,6 | sed 's/,relatime//'; touch /mnt/sub/x || echo refused";
    for (option, expected) in [
        ("rro", "/mnt ro\n/mnt/sub ro\nrefused\n"),
        ("ro", "/mnt ro\n/mnt/sub rw\n"),
        ("rnosuid", "/mnt rw,nosuid\n/mnt/sub rw,nosuid\n"),
        ("rnoexec", "/mnt rw,noexec\n/mnt/sub rw,noexec\n"),
        ("nosymfollow", "/mnt rw,nosymfollow\n/mnt/sub rw\n"),
    ] {
        let Some(bundle) = Bundle::new(list, |spec| {
            add(
                spec,
                "/mounts",
                json!({"destination": "/mnt", "source": "tree", "options": ["rbind", option]}),
            );
        }) else {
            return;
        };
        let sub = bundle.path().join("tree/sub");
        std::fs::create_dir_all(&sub).unwrap();
        let none = None::<&str>;
        nix::mount::mount(
            Some("t"),
            &sub,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            none,
        )
        .unwrap();
        let out = bundle.oci(&["run", "ID"]);
        nix::mount::umount2(&sub, nix::mount::MntFlags::MNT_DETACH).unwrap();
        assert_eq!(out.ok(), expected, "{option}");
        bundle.is_gone();
    }
}

#[test]
fn a_bind_keeps_its_sources_options_unless_it_names_some() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    for (options, expected) in [
        (json!(["bind"]), "ro,nodev,noexec,noatime"),
        (json!(["bind", "rprivate"]), "ro,nodev,noexec,noatime"),
        (json!(["bind", "dev"]), "rw,noatime"),
        (json!(["bind", "nosuid"]), "rw,nosuid,noatime"),
        (json!(["bind", "relatime"]), "rw,relatime"),
        (json!(["bind", "nodiratime"]), "rw,nodiratime,relatime"),
        // In a user namespace those of the host stay.
        (
            json!(["bind", "nosuid", "user"]),
            "ro,nosuid,nodev,noexec,noatime",
        ),
        (json!(["bind", "dev", "user"]), "EPERM"),
        (json!(["bind", "relatime", "user"]), "EPERM"),
    ] {
        let list = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6";
        let Some(bundle) = Bundle::new(list, |_| {}) else {
            return;
        };
        let tree = bundle.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let none = None::<&str>;
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        mount(
            Some("t"),
            &tree,
            Some("tmpfs"),
            flags | MsFlags::MS_RDONLY,
            none,
        )
        .unwrap();
        let config = bundle.path().join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        // A destination that says where the host has it means the same place.
        let destination = bundle.rootfs().join("mnt");
        let mut named: Vec<String> = serde_json::from_value(options.clone()).unwrap();
        if named.pop_if(|it| it == "user").is_some() {
            let all = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
            add(&mut spec, "/linux/namespaces", json!({"type": "user"}));
            (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (all.clone(), all);
        }
        let bind = json!({"destination": destination, "source": tree, "options": named});
        add(&mut spec, "/mounts", bind);
        std::fs::write(&config, spec.to_string()).unwrap();
        let out = bundle.oci(&["run", "ID"]);
        umount2(&tree, MntFlags::MNT_DETACH).unwrap();
        if expected == "EPERM" {
            let error = out.failed();
            assert!(error.contains("EPERM"), "{options}: {error}");
        } else {
            assert_eq!(out.ok().trim_end(), expected, "{options}");
        }
        bundle.is_gone();
    }
}

#[test]
fn a_tmpfs_starts_with_what_it_covers_and_its_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let script = "stat -c %a /data; cat /data/in/file; readlink /data/link; touch /data/new; stat -c %a /other /fresh; \
                  touch /ro/x 2>/dev/null || cat /ro/file";
    let Some(bundle) = Bundle::new(script, |spec| {
        let tmpfs = |path: &str, options: Value| json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options});
        add(spec, "/mounts", tmpfs("/data", json!(["tmpcopyup"])));
        add(spec, "/mounts", tmpfs("/ro", json!(["tmpcopyup", "ro"])));
        add(spec, "/mounts", tmpfs("/other", json!(["mode=1500"])));
        add(spec, "/mounts", tmpfs("/fresh", json!(["nodev"])));
    }) else {
        return;
    };
    let root = bundle.rootfs();
    for name in ["data/in", "ro", "other"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::write(root.join("data/in/file"), "copied\n").unwrap();
    std::fs::write(root.join("ro/file"), "kept\n").unwrap();
    std::os::unix::fs::symlink("in", root.join("data/link")).unwrap();
    std::fs::set_permissions(root.join("data"), std::fs::Permissions::from_mode(0o710)).unwrap();
    assert_eq!(
        bundle.oci(&["run", "ID"]).ok(),
        "710\ncopied\nin\n1500\n1777\nkept\n"
    );
    assert!(!root.join("data/new").exists());
    bundle.is_gone();
}

#[test]
fn a_link_is_copied_where_that_is_asked_for_and_a_file_is_mounted() {
    let script = "readlink /a/deep/link; cat /file; readlink /file || echo none";
    let Some(bundle) = Bundle::new(script, |spec| {
        for (destination, source) in [("/a/deep/link", "link"), ("/file", "file")] {
            let bind = json!({"destination": destination, "type": "bind", "source": source,
                "options": ["rbind", "copy-symlink"]});
            add(spec, "/mounts", bind);
        }
    }) else {
        return;
    };
    std::os::unix::fs::symlink("to/nowhere", bundle.path().join("link")).unwrap();
    std::fs::write(bundle.path().join("file"), "mounted\n").unwrap();
    assert_eq!(
        bundle.oci(&["run", "ID"]).ok(),
        "to/nowhere\nmounted\nnone\n"
    );
    bundle.is_gone();
}

#[test]
fn dev_may_be_read_only_and_has_its_devices() {
    let out = inside(
        "echo x > /dev/null && echo null; touch /dev/x || echo refused",
        |spec| {
            add(spec, "/mounts/1/options", "ro".into());
        },
    );
    assert!(out.is_none_or(|out| out == "null\nrefused\n"));
}

#[test]
fn hidden_directories_are_one_empty_file_system_that_nobody_writes_to() {
    let script = "stat -c %d /a /b | sort -u | wc -l; ls /a /b; touch /a/x || echo refused; cat /file; mkdir /c/x || echo refused";
    let Some(bundle) = Bundle::new(script, |spec| {
        spec["linux"]["maskedPaths"] = json!(["/a", "/b", "/file", "/no/such"]);
        spec["linux"]["readonlyPaths"] = json!(["/c", "/no/such"]);
    }) else {
        return;
    };
    for name in ["a", "b", "c"] {
        std::fs::create_dir(bundle.rootfs().join(name)).unwrap();
        std::fs::write(bundle.rootfs().join(name).join("secret"), "").unwrap();
    }
    std::fs::write(bundle.rootfs().join("file"), "secret").unwrap();
    assert_eq!(
        bundle.oci(&["run", "ID"]).ok(),
        "1\n/a:\n\n/b:\nrefused\nrefused\n"
    );
    bundle.is_gone();
}

#[test]
fn a_mount_is_made_where_a_dangling_link_in_the_root_leads() {
    let Some(bundle) = Bundle::new("cat /place/inner/file", |spec| {
        add(
            spec,
            "/mounts",
            json!({"destination": "/link/file", "source": "config.json", "options": ["bind"]}),
        );
    }) else {
        return;
    };
    std::os::unix::fs::symlink("../../../place/inner", bundle.rootfs().join("link")).unwrap();
    let out = bundle.oci(&["run", "ID"]).ok();
    assert!(out.contains("ociVersion"), "{out}");
    assert!(bundle.rootfs().join("place/inner/file").exists());
    bundle.is_gone();
}

#[test]
fn proc_is_not_mounted_where_a_link_leads() {
    let Some(bundle) = Bundle::new("echo ran", |_| {}) else {
        return;
    };
    std::os::unix::fs::symlink("/elsewhere", bundle.rootfs().join("proc")).unwrap();
    let error = bundle.oci(&["run", "ID"]).failed();
    assert!(error.contains("ordinary directory"), "{error}");
    bundle.is_gone();
}

#[test]
fn a_root_that_is_moved_leaves_no_proc_of_the_host() {
    let script = "unshare -r sh -c 'mount -t proc none /mnt && cat /mnt/sysrq-trigger && echo seen' 2>/dev/null || echo hidden";
    let Some(bundle) = Bundle::new(script, |spec| {
        spec["process"]["noNewPrivileges"] = false.into();
    }) else {
        return;
    };
    std::fs::create_dir(bundle.rootfs().join("mnt")).unwrap();
    assert_eq!(bundle.oci(&["run", "--no-pivot", "ID"]).ok(), "hidden\n");
    bundle.is_gone();
}

#[test]
fn root_propagation_is_as_asked() {
    for (name, seen) in [
        ("shared", "shared:"),
        ("slave", ""),
        ("private", ""),
        ("unbindable", "unbindable"),
    ] {
        let out = inside(
            "grep ' / / ' /proc/self/mountinfo || grep -m1 ' / ' /proc/self/mountinfo",
            |spec| {
                spec["linux"]["rootfsPropagation"] = name.into();
            },
        );
        let Some(out) = out else { return };
        let root = out.lines().last().unwrap();
        if seen.is_empty() {
            assert!(!root.contains("shared:"), "{name}: {out}");
        } else {
            assert!(root.contains(seen), "{name}: {out}");
        }
    }
}

/// Mounts that go when this does.
struct SharedTree(tempfile::TempDir);

impl SharedTree {
    /// A shared mount with another one in it.
    fn new() -> Self {
        use nix::mount::{MsFlags, mount};
        let it = Self(tempfile::tempdir().unwrap());
        let (outer, none) = (it.0.path(), None::<&str>);
        mount(Some(outer), outer, none, MsFlags::MS_BIND, none).unwrap();
        mount(none, outer, none, MsFlags::MS_SHARED, none).unwrap();
        let inner = outer.join("sub");
        std::fs::create_dir(&inner).unwrap();
        mount(none, &inner, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        it
    }
}

impl Drop for SharedTree {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_bind_has_the_propagation_that_was_asked_for() {
    let shows = "grep ' /there' /proc/self/mountinfo | cut -d' ' -f7 | tr '\\n:' '  ' | tr -d 0-9";
    for (option, expected) in [
        ("shared", "shared  master "),
        ("rshared", "shared  shared "),
        ("rslave", "master  master "),
        ("private", "-  master "),
        ("rprivate", "- - "),
    ] {
        let tree = SharedTree::new();
        let Some(bundle) = Bundle::new(shows, |spec| {
            let bind = json!({"destination": "/there", "source": tree.0.path(), "options": ["rbind", option]});
            spec["mounts"].as_array_mut().unwrap().push(bind);
        }) else {
            return;
        };
        let out = bundle.oci(&["run", "ID"]).ok();
        let words: Vec<&str> = out.split_whitespace().collect();
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(words, expected, "{option}");
        bundle.is_gone();
    }
}

//! Namespaces of a container, joined and new, and mounts with other owners: as seen from inside.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::{Value, json};
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

/// A user namespace whose root is 100000 outside.
fn with_users(spec: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
}

/// The bundle's directory can be passed through by everybody, and its root belongs to 100000.
fn open_to_users(bundle: &Bundle) {
    std::fs::set_permissions(bundle.path(), Permissions::from_mode(0o711)).unwrap();
    for path in [bundle.rootfs(), bundle.rootfs().join("tmp")] {
        chown(path, Some(100_000), Some(100_000)).unwrap();
    }
}

#[test]
fn a_user_namespace_without_maps_has_the_caller_s() {
    let script = "cat /proc/self/uid_map; touch /tmp/mine; stat -c %u /tmp/mine; id -u";
    let Some(bundle) = Bundle::new(script, |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        spec["process"]["user"] = json!({"uid": 7, "gid": 8});
    }) else {
        return;
    };
    std::fs::set_permissions(bundle.path(), Permissions::from_mode(0o711)).unwrap();
    std::fs::set_permissions(bundle.rootfs().join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    let out = bundle.oci(&["run", "ID"]).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "4294967295", "7", "7"]);
    bundle.is_gone();
}

#[test]
fn root_of_a_user_namespace_is_mapped_and_has_its_devices() {
    let script = "cat /proc/self/uid_map; id -u; touch /tmp/mine; stat -c %u /tmp/mine; \
                  echo x > /dev/null && head -c1 /dev/zero | wc -c; readlink /dev/fd /dev/ptmx";
    let Some(bundle) = Bundle::new(script, with_users) else {
        return;
    };
    open_to_users(&bundle);
    let out = bundle.oci(&["run", "ID"]).ok();
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536"]
    );
    assert_eq!(&lines[1..], ["0", "0", "1", "/proc/self/fd", "pts/ptmx"]);
    let file = std::fs::metadata(bundle.rootfs().join("tmp/mine")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&file), 100_000);
    bundle.is_gone();
}

#[test]
fn root_of_a_user_namespace_sees_the_hosts_cgroups_where_it_has_none_of_its_own() {
    let script = "ls /sys/fs/cgroup | wc -l; \
                  grep ' /sys/fs/cgroup' /proc/self/mounts | grep -v 'ro,nosuid,nodev,noexec' | wc -l";
    let Some(bundle) = Bundle::new(script, |spec| {
        with_users(spec);
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| it["type"] != "cgroup");
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|it| it["destination"] != "/sys/fs/cgroup");
        mounts.push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]
        }));
    }) else {
        return;
    };
    open_to_users(&bundle);
    let out = bundle.oci(&["run", "ID"]).ok();
    let lines: Vec<&str> = out.lines().collect();
    let entries: usize = lines[0].parse().unwrap();
    assert!(entries > 1, "{lines:?}");
    assert_eq!(lines[1], "0", "every mount of them is only read");
    bundle.is_gone();
}

#[test]
fn a_bind_that_its_root_could_not_reach_is_taken_by_the_runtime() {
    use std::os::unix::fs::PermissionsExt;
    let Some(bundle) = Bundle::new("cat /mnt/file", |spec| {
        with_users(spec);
        let bind =
            json!({"destination": "/mnt", "source": "secret/open", "options": ["bind", "ro"]});
        spec["mounts"].as_array_mut().unwrap().push(bind);
    }) else {
        return;
    };
    open_to_users(&bundle);
    let secret = bundle.path().join("secret");
    std::fs::create_dir_all(secret.join("open")).unwrap();
    std::fs::write(secret.join("open/file"), "there\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bundle.oci(&["run", "ID"]).ok(), "there\n");
    bundle.is_gone();
}

#[test]
fn every_namespace_is_joined_by_its_path() {
    let Some(first) = Bundle::new(FOREVER, |spec| {
        with_users(spec);
        spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "time"}));
        spec["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 5000, "nanosecs": 7}});
    }) else {
        return;
    };
    open_to_users(&first);
    assert_eq!(first.create(), 0, "{}", first.log());
    first.oci(&["start", "ID"]).ok();
    first.until("running");
    let pid = first.state("pid").as_i64().unwrap();
    let kinds = [
        ("user", "user"),
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ];
    let script = "for n in user pid net ipc uts cgroup time mnt; do readlink /proc/self/ns/$n; done; id -u; ls /proc/1/task";
    let join = |spec: &mut Value| {
        let joined = kinds
            .iter()
            .map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
        spec["linux"]["namespaces"] = joined.chain([json!({"type": "mount"})]).collect();
        spec["hostname"] = Value::Null;
    };
    let second = Bundle::new(script, join).unwrap();
    open_to_users(&second);
    let out = second.oci(&["run", "ID"]).ok();
    let lines: Vec<&str> = out.lines().collect();
    for (index, (_, file)) in kinds.iter().enumerate() {
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        assert_eq!(lines[index], theirs.to_str().unwrap(), "{file}");
    }
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_ne!(lines[7], theirs.to_str().unwrap());
    // In that PID namespace the other container's init is number 1.
    assert_eq!(&lines[8..], ["0", "1"]);
    second.is_gone();
}

#[test]
fn a_container_without_mounts_of_its_own_is_in_its_root_all_the_same() {
    let Some(bundle) = Bundle::new("", |spec| {
        spec["process"]["args"] = json!(["/bin/sh", "-c", "ls /; readlink /proc/self/ns/mnt"]);
        spec["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "uts"}]);
        for name in ["maskedPaths", "readonlyPaths"] {
            spec["linux"][name] = json!([]);
        }
        let kept = |mount: &Value| mount["destination"] == "/proc" || mount["type"] == "bind";
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(kept);
    }) else {
        return;
    };
    let out = bundle.oci(&["run", "ID"]).ok();
    assert!(!out.contains("boot") && out.contains("proc"), "{out}");
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert!(out.contains(own.to_str().unwrap()), "{out}");
    // Nothing of it stays among the host's mounts.
    bundle.is_gone();
}

#[test]
fn a_namespace_of_another_type_is_refused_by_its_field() {
    for (path, said) in [
        ("/proc/self/ns/ipc", "another type"),
        ("/proc/self/status", "no namespace"),
        ("/no/such", "/no/such"),
    ] {
        let Some(bundle) = Bundle::new("echo ran", |spec| {
            spec["linux"]["namespaces"][1]["path"] = path.into();
        }) else {
            return;
        };
        let error = bundle.oci(&["run", "ID"]).failed();
        assert!(error.contains(said), "{error}");
        bundle.is_gone();
    }
}

#[test]
fn clocks_of_a_time_namespace_are_ahead() {
    for has_users in [false, true] {
        let Some(bundle) = Bundle::new("cat /proc/self/timens_offsets", |spec| {
            if has_users {
                with_users(spec);
            }
            spec["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({"type": "time"}));
            spec["linux"]["timeOffsets"] =
                json!({"monotonic": {"secs": 7881, "nanosecs": 11}, "boottime": {"secs": 1337}});
        }) else {
            return;
        };
        open_to_users(&bundle);
        let out = bundle.oci(&["run", "ID"]).ok();
        let words: Vec<&str> = out.split_whitespace().collect();
        assert_eq!(words, ["monotonic", "7881", "11", "boottime", "1337", "0"]);
        bundle.is_gone();
    }
}

/// An ext4 file system in a file, mounted, with a `file` of user 1000 and group 1001, and open to all: not
/// every file system can show other owners.
struct Image(tempfile::TempDir);

impl Image {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let (file, point) = (directory.path().join("image"), directory.path().join("fs"));
        std::fs::create_dir(&point).unwrap();
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let went = std::process::Command::new(program).args(arguments).output();
            went.is_ok_and(|went| went.status.success())
        };
        let (file_name, point_name) = (file.as_os_str(), point.as_os_str());
        std::fs::File::create(&file)
            .unwrap()
            .set_len(8 << 20)
            .unwrap();
        for module in ["loop", "ext4"] {
            run("modprobe", &[module.as_ref()]);
        }
        if !run("mkfs.ext4", &["-q".as_ref(), file_name])
            || !run(
                "mount",
                &["-o".as_ref(), "loop".as_ref(), file_name, point_name],
            )
        {
            eprintln!("skipped: no ext4 in a file here");
            return None;
        }
        let image = Self(directory);
        let file = image.path().join("file");
        std::fs::write(&file, "").unwrap();
        chown(&file, Some(1000), Some(1001)).unwrap();
        for (path, mode) in [(image.path().as_path(), 0o777), (image.0.path(), 0o711)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        Some(image)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("fs")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn devices_that_the_host_has_no_path_for_are_there_in_a_user_namespace() {
    let script = "stat -c '%t:%T %a %u:%g %F' /dev/mine /dev/block; head -c1 /dev/mine | wc -c";
    let Some(bundle) = Bundle::new(script, |spec| {
        with_users(spec);
        let rule = json!({"allow": true, "type": "c", "access": "rwm"});
        let rules = spec["linux"]["resources"]["devices"]
            .as_array_mut()
            .unwrap();
        rules.push(rule);
        spec["linux"]["devices"] = json!([
            {"type": "c", "path": "/dev/mine", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 0, "gid": 4},
            {"type": "b", "path": "/dev/block", "major": 1, "minor": 5, "uid": 10, "gid": 11},
        ]);
    }) else {
        return;
    };
    open_to_users(&bundle);
    assert_eq!(
        bundle.oci(&["run", "ID"]).ok(),
        "1:5 640 0:4 character special file\n1:5 666 10:11 block special file\n1\n"
    );
    bundle.is_gone();
}

#[test]
fn an_idmapped_mount_shows_other_owners() {
    let Some(image) = Image::new() else { return };
    let map = |host: u32, size: u32| json!([{"containerID": 0, "hostID": host, "size": size}]);
    let script = "stat -c %u:%g /mnt/file; touch /mnt/new; grep ' /mnt ' /proc/self/mountinfo | grep -c shared:";
    let cases = [
        // By maps of the mount.
        (
            json!(["bind"]),
            Some(map(7000, 2000)),
            false,
            "8000:8001\n",
            (7000u32, 2000u32),
        ),
        (
            json!(["rbind", "ridmap"]),
            Some(map(7000, 2000)),
            false,
            "8000:8001\n",
            (7000, 2000),
        ),
        // By the container's user namespace: what it sees is what is on the disk.
        (
            json!(["bind", "idmap", "shared"]),
            None,
            true,
            "1000:1001\n1\n",
            (0, 65536),
        ),
    ];
    for (options, maps, has_users, expected, (host, size)) in cases {
        let bundle = Bundle::new(script, |spec| {
            if has_users {
                with_users(spec);
            }
            // Root of the host is nobody in that mount, so it makes nothing there.
            if !has_users {
                spec["process"]["args"][2] = "stat -c %u:%g /mnt/file".into();
            }
            let mut mount =
                json!({"destination": "/mnt", "type": "bind", "source": image.path(), "options": options});
            if let Some(maps) = maps {
                mount["uidMappings"] = maps.clone();
                mount["gidMappings"] = maps;
            }
            spec["mounts"].as_array_mut().unwrap().push(mount);
        })
        .unwrap();
        open_to_users(&bundle);
        assert_eq!(bundle.oci(&["run", "ID"]).ok(), expected, "{host} {size}");
        bundle.is_gone();
    }
    let new = std::fs::metadata(image.path().join("new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&new), 0);
}

#[test]
fn what_an_earlier_mount_has_put_into_the_root_is_mounted_with_other_owners() {
    let Some(image) = Image::new() else { return };
    for (has_users, owners) in [(false, "8000:8001\n"), (true, "1000:1001\n")] {
        let bundle = Bundle::new("stat -c %u:%g /two/file", |spec| {
            let mut second = json!({"destination": "/two", "type": "bind", "source": "rootfs/one", "options": ["bind", "idmap"]});
            if has_users {
                with_users(spec);
            } else {
                let maps = json!([{"containerID": 0, "hostID": 7000, "size": 2000}]);
                second["uidMappings"] = maps.clone();
                second["gidMappings"] = maps;
            }
            let first = json!({"destination": "/one", "type": "bind", "source": image.path(), "options": ["bind"]});
            spec["mounts"].as_array_mut().unwrap().extend([first, second]);
        })
        .unwrap();
        open_to_users(&bundle);
        assert_eq!(bundle.oci(&["run", "ID"]).ok(), owners);
        bundle.is_gone();
    }
}

#[test]
fn an_idmapped_mount_without_maps_is_refused_by_its_field() {
    let Some(bundle) = Bundle::new("echo ran", |spec| {
        let mount = json!({"destination": "/mnt", "source": "/tmp", "options": ["bind", "idmap"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    }) else {
        return;
    };
    let error = bundle.oci(&["run", "ID"]).failed();
    assert!(error.contains(".uidMappings`"), "{error}");
    bundle.is_gone();
}

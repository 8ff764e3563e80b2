//! What a configuration asks for, as its container sees it.

mod support_oci;

use serde_json::{Value, json};
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

fn add(spec: &mut Value, list: &str, entry: Value) {
    spec.pointer_mut(list)
        .unwrap()
        .as_array_mut()
        .unwrap()
        .push(entry);
}

/// Runs `script` in a container changed by `change`; its output.
fn inside(script: &str, change: impl FnOnce(&mut Value)) -> Option<String> {
    let bundle = Bundle::new(script, change)?;
    let out = bundle.oci(&["run", "ID"]).ok();
    bundle.is_gone();
    Some(out)
}

/// Scripts that look at one thing each, what is asked for, and what they see.
#[test]
fn each_field_of_a_process_is_seen_from_inside() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 11] = [
        (
            "ulimit -n; ulimit -Hn",
            |it| {
                it["process"]["rlimits"] =
                    json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}])
            },
            "77\n88\n",
        ),
        (
            "cat /proc/self/oom_score_adj; umask; touch /tmp/f; stat -c %a /tmp/f",
            |it| {
                it["process"]["oomScoreAdj"] = 555.into();
                it["process"]["user"]["umask"] = 0o27.into();
            },
            "555\n0027\n640\n",
        ),
        (
            "id -u; id -g; id -G; echo $HOME",
            |it| {
                it["process"]["user"] =
                    json!({"uid": 65534, "gid": 65533, "additionalGids": [12, 34]})
            },
            "65534\n65533\n65533 12 34\n/\n",
        ),
        (
            "uname -m",
            |it| it["linux"]["personality"] = json!({"domain": "LINUX32"}),
            "i686\n",
        ),
        (
            "chrt -p $$ | sed 's/.*: //'",
            |it| it["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7}),
            "SCHED_BATCH\n0\n",
        ),
        (
            "ionice",
            |it| it["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
            "best-effort: prio 6\n",
        ),
        (
            "echo $A-$B",
            |it| it["process"]["env"] = json!(["PATH=/usr/bin:/bin", "A=1", "B=2", "A=3"]),
            "3-2\n",
        ),
        (
            "grep -E 'Cap|NoNew' /proc/self/status | cut -f2",
            |it| {
                it["process"]["noNewPrivileges"] = false.into();
                it["process"]["user"] = json!({"uid": 7, "gid": 7});
                it["process"]["capabilities"] = json!({
                    "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYSLOG"],
                    "permitted": ["CAP_CHOWN", "CAP_KILL"],
                    "inheritable": ["CAP_CHOWN"],
                    "effective": ["CAP_CHOWN"],
                    "ambient": ["CAP_CHOWN"],
                });
            },
            // Through `execve` an ordinary user keeps what is ambient.
            "0000000000000001\n0000000000000001\n0000000000000001\n0000000400000021\n0000000000000001\n0\n",
        ),
        (
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax; cat /proc/sys/kernel/domainname",
            |it| {
                it["linux"]["sysctl"] =
                    json!({"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "9000"});
                it["domainname"] = "ring".into();
            },
            "80\n9000\nring\n",
        ),
        (
            "grep Cpus_allowed_list /proc/self/status | cut -f2",
            // Only what joins by `exec` goes to processors of its own.
            |it| it["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"}),
            "ALL\n",
        ),
        (
            "stat -c '%t:%T %a %u %g %F' /dev/mine; stat -c %F /dev/pipe; readlink /dev/stdin",
            |it| {
                add(
                    it,
                    "/linux/resources/devices",
                    json!({"allow": true, "type": "c", "access": "rwm"}),
                );
                it["linux"]["devices"] = json!([
                    {"type": "c", "path": "/dev/mine", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
                    {"type": "p", "path": "/dev/pipe", "fileMode": 0o600}
                ]);
            },
            "1:3 640 3 4 character special file\nfifo\n/proc/self/fd/0\n",
        ),
    ];
    for (script, change, expected) in cases {
        let Some(out) = inside(script, change) else {
            return;
        };
        let all = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
        let expected = if expected == "ALL\n" { &all } else { expected };
        assert_eq!(&out, expected, "{script}");
    }
}

#[test]
fn exec_goes_to_its_processors_and_to_the_containers_personality() {
    let Some(bundle) = Bundle::new(FOREVER, |spec| {
        spec["linux"]["personality"] = json!({"domain": "LINUX32"});
        spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    }) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    bundle.until("running");
    let script = "uname -m; grep Cpus_allowed_list /proc/self/status | cut -f2";
    assert_eq!(
        bundle.oci(&["exec", "ID", "sh", "-c", script]).ok(),
        "i686\n0\n"
    );
    let odd = json!({"args": ["true"], "cwd": "/", "execCPUAffinity": {"final": "3-1"}});
    std::fs::write(bundle.path().join("odd.json"), odd.to_string()).unwrap();
    let error = bundle
        .oci(&["exec", "--process", "odd.json", "ID"])
        .failed();
    assert!(error.contains("`process.execCPUAffinity.final`"), "{error}");
}

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

#[test]
fn its_pages_come_from_the_nodes_of_its_policy_and_exec_joins_in() {
    let command = "head -1 /proc/self/numa_maps | cut -d' ' -f2";
    let Some(bundle) = Bundle::new(&format!("{command}; sleep 60"), |spec| {
        spec["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    }) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    let exec = bundle.oci(&["exec", "ID", "sh", "-c", command]).ok();
    assert_eq!(exec, "bind=static:0\n");
    bundle.oci(&["delete", "--force", "ID"]).ok();
    assert_eq!(bundle.log(), "bind=static:0\n");

    let Some(refused) = Bundle::new("true", |spec| {
        spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_DEFAULT", "nodes": "0"});
    }) else {
        return;
    };
    let error = refused.oci(&["run", "ID"]).failed();
    assert!(
        error.contains("`linux.memoryPolicy`") && error.contains("has_memory"),
        "{error}"
    );
    refused.is_gone();
}

/// A pair of interfaces that goes when this does, wherever the first one is.
struct Pair {
    ours: String,
    other: String,
}

impl Pair {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = |end| format!("rs{}{end}{number}", std::process::id() % 1_000_000);
        let it = Self {
            ours: name("a"),
            other: name("b"),
        };
        it.ip("link add OURS mtu 1300 type veth peer name OTHER");
        it
    }

    fn ip(&self, line: &str) -> bool {
        let line = line
            .replace("OURS", &self.ours)
            .replace("OTHER", &self.other);
        let ran = std::process::Command::new("ip")
            .args(line.split(' '))
            .output();
        ran.unwrap().status.success()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.ip("link del OTHER");
    }
}

#[test]
fn interfaces_of_the_hosts_go_in_with_their_addresses() {
    let pair = Pair::new();
    for address in ["10.99.0.1/24", "10.98.0.1/24 scope link"] {
        assert!(pair.ip(&format!("addr add {address} dev OURS")));
    }
    let shows = "cat /sys/class/net/*/mtu; ip -o -4 addr show eth0; ip -o link show eth0";
    let Some(bundle) = Bundle::new(shows, |spec| {
        spec["linux"]["netDevices"][&pair.ours] = json!({"name": "eth%d"});
    }) else {
        return;
    };
    let out = bundle.oci(&["run", "ID"]).ok();
    assert!(out.starts_with("1300\n"), "{out}");
    assert!(out.contains("inet 10.99.0.1/24"), "{out}");
    // Of the link's own concern only, which it is on no other.
    assert!(!out.contains("10.98"), "{out}");
    assert!(out.contains(",UP"), "{out}");
    bundle.is_gone();
}

#[test]
fn an_interface_that_cannot_go_in_is_named() {
    let pair = Pair::new();
    for (name, inside, said) in [
        ("rs-no-such", "", "see `ip link`"),
        ("lo", "eth0", "stays where it was made"),
        (pair.ours.as_str(), "lo", "give another in `name`"),
        (pair.ours.as_str(), "a/b", "no interface has such a name"),
        (
            pair.ours.as_str(),
            "sixteen-letters-",
            "no interface has such a name",
        ),
    ] {
        let Some(bundle) = Bundle::new("true", |spec| {
            spec["linux"]["netDevices"][name] = json!({"name": inside});
        }) else {
            return;
        };
        let error = bundle.oci(&["run", "ID"]).failed();
        let field = format!("linux.netDevices.{name}");
        assert!(error.contains(&field) && error.contains(said), "{error}");
        bundle.is_gone();
    }
    assert!(pair.ip("link show OURS"));
}

/// A profile that allows all but what `rules` say.
fn filter(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}

#[test]
fn the_listener_of_a_filter_goes_to_whoever_listens() {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::os::fd::AsRawFd;
    for no_new_privileges in [false, true] {
        let mut path = Value::Null;
        let Some(bundle) = Bundle::new("mkdir /tmp/x 2>/dev/null; echo $?", |spec| {
            spec["process"]["noNewPrivileges"] = no_new_privileges.into();
            spec["linux"]["seccomp"] =
                filter(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
            spec["annotations"] = json!({"a": "b"});
        }) else {
            return;
        };
        let socket = bundle.path().join("agent");
        path.clone_from(&json!(socket));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let config = bundle.path().join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        spec["linux"]["seccomp"]["listenerPath"] = path;
        spec["linux"]["seccomp"]["listenerMetadata"] = "note".into();
        std::fs::write(&config, spec.to_string()).unwrap();
        let agent = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let (mut bytes, mut space) = ([0; 4096], nix::cmsg_space!([i32; 2]));
            let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message =
                recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
            let descriptors = message.cmsgs().unwrap().filter_map(|it| match it {
                ControlMessageOwned::ScmRights(list) => Some(list),
                _ => None,
            });
            let descriptors: Vec<i32> = descriptors.flatten().collect();
            let length = message.bytes;
            // Nobody answers: when the last copy is closed, such calls fail with ENOSYS.
            for fd in &descriptors {
                drop(ringside_container::runtime::own_descriptor(*fd));
            }
            let state: Value = serde_json::from_slice(&bytes[..length]).unwrap();
            (state, descriptors.len())
        });
        // Before the start: whoever decides is there when the program comes.
        assert_eq!(bundle.create(), 0, "{}", bundle.log());
        let (state, descriptors) = agent.join().unwrap();
        bundle.oci(&["start", "ID"]).ok();
        bundle.until("stopped");
        assert_eq!(bundle.log(), "1\n");
        bundle.oci(&["delete", "ID"]).ok();
        assert_eq!(descriptors, 1);
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "note");
        assert_eq!(state["state"]["id"], bundle.id.as_str());
        assert_eq!(state["state"]["annotations"]["a"], "b");
        assert_eq!(state["pid"], state["state"]["pid"]);
        bundle.is_gone();
    }
}

#[test]
fn filters_that_cannot_be_are_refused_by_their_field() {
    let notify = |names: Value| json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]);
    for (seccomp, field) in [
        (
            filter(notify(json!(["mkdir"]))),
            "linux.seccomp.listenerPath",
        ),
        (
            filter(notify(json!(["mkdir", "write"]))),
            "linux.seccomp.syscalls[0].names",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            "linux.seccomp.defaultAction",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}),
            "linux.seccomp.flags[0]",
        ),
    ] {
        let Some(bundle) = Bundle::new("echo ran", |spec| spec["linux"]["seccomp"] = seccomp)
        else {
            return;
        };
        let error = bundle.oci(&["run", "ID"]).failed();
        assert!(error.contains(&format!("`{field}`")), "{error}");
        bundle.is_gone();
    }
}

#[test]
fn several_conditions_on_one_argument_are_alternatives() {
    let out = inside(
        "chmod 640 /tmp && echo a; chmod 600 /tmp && echo b; chmod 700 /tmp && echo c",
        |spec| {
            let is = |value: u32| json!({"index": 2, "value": value, "op": "SCMP_CMP_EQ"});
            let rule = json!({"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "args": [is(0o640), is(0o600)]});
            spec["linux"]["seccomp"] = filter(json!([rule]));
            spec["linux"]["seccomp"]["flags"] =
                json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
        },
    );
    assert!(out.is_none_or(|out| out == "c\n"));
}

#[test]
fn a_filter_may_forbid_to_ask_for_the_directory() {
    for no_new_privileges in [false, true] {
        let out = inside("readlink /proc/$$/cwd", |spec| {
            spec["process"]["noNewPrivileges"] = no_new_privileges.into();
            spec["process"]["cwd"] = "/tmp".into();
            let rule = json!({"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"});
            spec["linux"]["seccomp"] = filter(json!([rule]));
        });
        assert!(out.is_none_or(|out| out == "/tmp\n"));
    }
}

#[test]
fn a_hook_without_an_environment_has_that_of_whoever_runs_it() {
    let hook = |script: &str, env: Value| {
        let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        if !env.is_null() {
            hook["env"] = env;
        }
        hook
    };
    let Some(bundle) = Bundle::new("true", |spec| {
        add(spec, "/process/env", "OWN=program".into());
        let script = "test \"$OWN\" = program && test -z \"$OUTER\" && test -n \"$HOME\"";
        spec["hooks"] = json!({
            "createRuntime": [hook("test \"$OUTER\" = yes", Value::Null), hook("test -z \"$OUTER\"", json!([]))],
            "startContainer": [hook(script, Value::Null)],
        });
    }) else {
        return;
    };
    let went = bundle
        .command()
        .env("OUTER", "yes")
        .args(["run", &bundle.id])
        .output()
        .unwrap();
    assert!(
        went.status.success(),
        "{}",
        String::from_utf8_lossy(&went.stderr)
    );
    bundle.is_gone();
}

#[test]
fn a_hook_that_fails_is_named_by_its_kind_and_place() {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
    ] {
        let Some(bundle) = Bundle::new("echo ran", |spec| {
            spec["hooks"] = json!({kind: [{"path": "/bin/true"}, {"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 4"]}]});
        }) else {
            return;
        };
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.out, "");
        let error = went.failed();
        assert!(
            error.contains(&format!("error running {kind} hook #1:")) && error.contains("why"),
            "{error}"
        );
        bundle.is_gone();
    }
}

//! A container between commands: what each does, what it refuses, and that nothing is left.

mod support_oci;

use serde_json::json;
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

#[test]
fn run_passes_output_and_status_and_leaves_nothing() {
    let Some(bundle) = Bundle::new("echo out; echo err >&2; exit 9", |_| {}) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(
        (went.code, went.out.as_str(), went.err.as_str()),
        (9, "out\n", "err\n")
    );
    bundle.is_gone();
}

#[test]
fn run_tells_of_a_signal_as_shells_do() {
    let Some(bundle) = Bundle::new("kill -KILL $$; sleep 9", |spec| {
        // PID 1 of a namespace cannot kill itself.
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "uts"}]);
    }) else {
        return;
    };
    assert_eq!(bundle.oci(&["run", "ID"]).code, 137);
    bundle.is_gone();
}

#[test]
fn a_container_waits_between_create_and_start() {
    let Some(bundle) = Bundle::new("echo here", |_| {}) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    assert_eq!(bundle.state("status"), "created");
    let pid = bundle.state("pid").as_i64().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(bundle.log(), "");
    // Asking changes nothing.
    assert_eq!(bundle.state("status"), "created");
    bundle.oci(&["start", "ID"]).ok();
    bundle.until("stopped");
    assert_eq!(bundle.log(), "here\n");
    assert_eq!(bundle.state("pid"), 0);
    bundle.oci(&["delete", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn each_command_refuses_what_is_in_another_state() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    for command in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        let error = bundle.oci(&[command, "ID"]).failed();
        assert!(
            error.contains("container does not exist"),
            "{command}: {error}"
        );
    }
    bundle.oci(&["delete", "--force", "ID"]).ok();
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    assert!(
        bundle
            .oci(&["create", "ID"])
            .failed()
            .contains("already exists")
    );
    assert!(
        bundle
            .oci(&["resume", "ID"])
            .failed()
            .contains("in the created state")
    );
    bundle.oci(&["start", "ID"]).ok();
    assert!(
        bundle
            .oci(&["start", "ID"])
            .failed()
            .contains("in the running state")
    );
    assert!(
        bundle
            .oci(&["delete", "ID"])
            .failed()
            .contains("not stopped")
    );
    bundle.oci(&["kill", "ID", "KILL"]).ok();
    bundle.until("stopped");
    assert!(
        bundle
            .oci(&["kill", "ID", "TERM"])
            .failed()
            .contains("container not running")
    );
    assert!(
        bundle
            .oci(&["exec", "ID", "true"])
            .failed()
            .contains("stopped")
    );
    bundle.oci(&["delete", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn what_was_created_is_deleted_without_force() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["delete", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn a_paused_container_stands_still_and_can_be_killed() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    bundle
        .oci(&["create", "--help=false", "nobody/else"])
        .failed();
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    bundle.oci(&["pause", "ID"]).ok();
    assert_eq!(bundle.state("status"), "paused");
    assert!(
        bundle
            .oci(&["exec", "ID", "true"])
            .failed()
            .contains("paused")
    );
    bundle.oci(&["resume", "ID"]).ok();
    assert_eq!(bundle.state("status"), "running");
    bundle.oci(&["pause", "ID"]).ok();
    bundle.oci(&["kill", "ID", "KILL"]).ok();
    bundle.until("stopped");
    bundle.oci(&["delete", "ID"]).ok();
    bundle.is_gone();
}

/// It listens for `start` and answers nobody: as many as ask get an answer all the same.
#[test]
fn a_container_that_was_paused_before_its_start_keeps_nobody_waiting() {
    let Some(bundle) = Bundle::new("echo begun; sleep 1000", |_| {}) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["pause", "ID"]).ok();
    for _ in 0..20 {
        assert_eq!(bundle.state("status"), "paused");
    }
    let refused = bundle.oci(&["start", "ID"]).failed();
    assert!(refused.contains("in the paused state"), "{refused}");
    assert_eq!(bundle.log(), "");
    bundle.oci(&["resume", "ID"]).ok();
    assert_eq!(bundle.state("status"), "created");
    bundle.oci(&["start", "ID"]).ok();
    assert_eq!(bundle.state("status"), "running");
    bundle.oci(&["delete", "--force", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn exec_joins_namespaces_cgroup_and_rights() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    let script = "cat /proc/1/cmdline | tr '\\0' ' '; echo; hostname; pwd; echo $A; id -u; id -g; grep -c ringside-test /proc/self/cgroup; \
                  for n in mnt pid net ipc uts; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done; \
                  grep CapEff /proc/self/status; exit 5";
    let went = bundle.oci(&[
        "exec",
        "--env",
        "A=b",
        "--cwd=/usr",
        "ID",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(went.code, 5, "{}", went.err);
    let lines: Vec<&str> = went.out.lines().collect();
    assert!(lines[0].starts_with("sh -c trap"), "{lines:?}");
    assert_eq!(&lines[1..6], ["ringside", "/usr", "b", "0", "0"]);
    // On version 2 its own group is the topmost that it sees.
    assert!(lines[6].parse::<u32>().is_ok(), "{lines:?}");
    assert_eq!(lines[7], "CapEff:\t0000000020000420", "{lines:?}");
    assert_eq!(
        bundle
            .oci(&["exec", "ID", "--user", "7:8", "id", "-u"])
            .ok(),
        "7\n"
    );
    // The program's own options are the program's.
    assert_eq!(
        bundle.oci(&["exec", "ID", "echo", "-t", "--user"]).ok(),
        "-t --user\n"
    );
    let missing = bundle.oci(&["exec", "ID", "no-such-program"]);
    assert_eq!(missing.code, 255);
    assert!(
        missing.err.contains("executable file not found in $PATH"),
        "{}",
        missing.err
    );
    let process = json!({"args": ["sh", "-c", "umask; cat /proc/self/oom_score_adj; ulimit -n"], "cwd": "/", "user": {"uid": 0, "gid": 0, "umask": 63},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}], "env": ["PATH=/usr/bin:/bin"]});
    std::fs::write(bundle.path().join("process.json"), process.to_string()).unwrap();
    assert_eq!(
        bundle
            .oci(&["exec", "--process", "process.json", "ID"])
            .ok(),
        "0077\n0\n99\n"
    );
}

#[test]
fn what_cannot_be_executed_is_told_by_create_or_start_and_leaves_nothing() {
    let Some(bundle) = Bundle::new("", |spec| spec["process"]["args"] = json!(["/no/such"])) else {
        return;
    };
    assert_eq!(bundle.create(), 1);
    assert!(bundle.log().contains("no such file or directory"));
    bundle.is_gone();
    let error = bundle.oci(&["run", "ID"]).failed();
    assert!(
        error.contains("no such file or directory") && error.contains("/no/such"),
        "{error}"
    );
    bundle.is_gone();
}

#[test]
fn a_step_that_fails_is_told_with_its_field_and_leaves_nothing() {
    let Some(bundle) = Bundle::new("", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}),
        );
    }) else {
        return;
    };
    let error = bundle.oci(&["run", "ID"]).failed();
    assert!(
        error.contains("mount /x") && error.contains("/no/such"),
        "{error}"
    );
    bundle.is_gone();
}

#[test]
fn an_invalid_configuration_is_named_by_its_path_before_anything_is_made() {
    let Some(bundle) = Bundle::new("", |spec| spec["process"]["cwd"] = json!("tmp")) else {
        return;
    };
    let error = bundle
        .oci(&["--log", "log.json", "--log-format", "json", "run", "ID"])
        .failed();
    assert!(error.contains("`process.cwd`"), "{error}");
    let log = std::fs::read_to_string(bundle.path().join("log.json")).unwrap();
    let line: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("`process.cwd`"));
    bundle.is_gone();
}

#[test]
fn hooks_run_in_their_order_with_the_state() {
    let Some(bundle) = Bundle::new("echo program >> /hooks", |spec| {
        let hook = |name: &str, file: &str| {
            let script =
                format!("echo {name} $(sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') >> {file}");
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 20}])
        };
        let outside = "rootfs/hooks";
        spec["hooks"] = json!({
            "prestart": hook("prestart", outside),
            "createRuntime": hook("createRuntime", outside),
            "createContainer": hook("createContainer", "hooks"),
            "startContainer": hook("startContainer", "/hooks"),
            "poststart": hook("poststart", outside),
            "poststop": hook("poststop", outside),
        });
    }) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(went.code, 0, "{}", went.err);
    let hooks = std::fs::read_to_string(bundle.rootfs().join("hooks")).unwrap();
    let mut lines: Vec<&str> = hooks.lines().collect();
    // These two run side by side.
    lines[4..6].sort_unstable();
    assert_eq!(
        lines,
        [
            "prestart created",
            "createRuntime creating",
            "createContainer creating",
            "startContainer created",
            "poststart running",
            "program",
            "poststop stopped"
        ]
    );
}

#[test]
fn a_hook_that_fails_or_hangs_ends_the_container() {
    for (script, said) in [
        ("echo why >&2; exit 3", "why"),
        ("sleep 60", "did not end within 1 s"),
    ] {
        let Some(bundle) = Bundle::new("echo ran", |spec| {
            spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1}]});
        }) else {
            return;
        };
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.out, "");
        assert!(went.failed().contains(said));
        bundle.is_gone();
    }
}

#[test]
fn a_hook_of_a_start_or_an_end_that_fails_keeps_none_of_the_others_back() {
    let Some(bundle) = Bundle::new("true", |spec| {
        let write = |name: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} >> rootfs/hooks")]});
        let fail = json!({"path": "/bin/false"});
        spec["ociVersion"] = "1.2.0".into();
        spec["hooks"] = json!({
            "poststart": [fail, write("poststart"), fail],
            "poststop": [fail, write("poststop"), fail],
        });
    }) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(went.code, 0, "{}", went.err);
    let hooks = std::fs::read_to_string(bundle.rootfs().join("hooks")).unwrap();
    assert_eq!(hooks, "poststart\npoststop\n");
    for hook in [
        "poststart hook #0",
        "poststart hook #2",
        "poststop hook #0",
        "poststop hook #2",
    ] {
        let warning = format!("warning: error running {hook}");
        assert!(went.err.contains(&warning), "{hook}: {}", went.err);
    }
}

#[test]
fn a_runtime_killed_at_work_leaves_nothing_that_delete_cannot_remove() {
    for delay_us in (0..6000).step_by(300) {
        let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
            return;
        };
        let mut child = bundle
            .command()
            .args(["create", &bundle.id])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay_us));
        child.kill().unwrap();
        child.wait().unwrap();
        bundle.oci(&["delete", "--force", "ID"]).ok();
        bundle.is_gone();
    }
}

#[test]
fn list_knows_all_containers() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    assert_eq!(bundle.oci(&["list", "-q"]).ok(), "");
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    assert_eq!(bundle.oci(&["list", "-q"]).ok(), format!("{}\n", bundle.id));
    let all: serde_json::Value =
        serde_json::from_str(&bundle.oci(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(all[0]["status"], "created");
    let pids: Vec<i64> =
        serde_json::from_str(&bundle.oci(&["ps", "--format", "json", "ID"]).ok()).unwrap();
    assert_eq!(pids, [bundle.state("pid").as_i64().unwrap()]);
}

#[test]
fn a_filter_decides_calls_by_their_arguments() {
    for no_new_privileges in [false, true] {
        let Some(bundle) = Bundle::new(
            "mkdir /tmp/a; chmod 0 /tmp && echo chmod; chmod 700 /tmp; grep Seccomp: /proc/self/status",
            |spec| {
                spec["process"]["noNewPrivileges"] = no_new_privileges.into();
                spec["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                    "syscalls": [
                        {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                        {"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 2, "value": 448, "op": "SCMP_CMP_EQ"}]}
                    ]
                });
            },
        ) else {
            return;
        };
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.out, "chmod\nSeccomp:\t2\n", "{}", went.err);
        assert!(went.err.contains("No space left"), "{}", went.err);
        assert!(went.err.contains("Operation not permitted"), "{}", went.err);
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

#[test]
fn a_label_of_mounts_that_no_module_reads_is_told_of() {
    let label = "system_u:object_r:container_file_t:s0";
    let Some(bundle) = Bundle::new("echo ran", |spec| {
        spec["linux"]["mountLabel"] = label.into();
    }) else {
        return;
    };
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        eprintln!("skipped: this kernel's SELinux reads it");
        return;
    }
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!((went.code, went.out.as_str()), (0, "ran\n"), "{}", went.err);
    let warning = format!("warning: ignoring `linux.mountLabel` {label:?}");
    assert!(went.err.contains(&warning), "{}", went.err);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cases = [
        (
            "/process/apparmorProfile",
            json!("profile"),
            "process.apparmorProfile",
        ),
        (
            "/process/selinuxLabel",
            json!("label"),
            "process.selinuxLabel",
        ),
    ];
    for (pointer, value, field) in cases {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let change = |spec: &mut serde_json::Value| {
            spec["hostname"] = serde_json::Value::Null;
            spec.pointer_mut(parent).unwrap()[name] = value;
        };
        let Some(bundle) = Bundle::new("echo ran", change) else {
            return;
        };
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.out, "");
        assert!(went.failed().contains(&format!("`{field}`")));
        bundle.is_gone();
    }
}

#[test]
fn since_1_3_a_poststart_hook_that_fails_ends_the_container() {
    let Some(bundle) = Bundle::new("sleep 60; echo ran", |spec| {
        spec["ociVersion"] = "1.3.0".into();
        spec["hooks"] = json!({"poststart": [{"path": "/bin/true"}, {"path": "/bin/false"}]});
    }) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(went.out, "");
    let said = went.failed();
    assert!(said.contains("error running poststart hook #1"), "{said}");
    bundle.is_gone();

    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).failed();
    bundle.until("stopped");
    bundle.oci(&["delete", "ID"]).ok();
}

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

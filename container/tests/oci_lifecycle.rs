//! A container between commands: what each does, what it refuses, and that nothing is left.

#[expect(dead_code, reason = "what other tests of bundles use")]
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

    // Where callers keep a log it is told there: standard error is the container's.
    let went = bundle.oci(&["--log", "log", "run", "ID"]);
    assert_eq!((went.code, went.err.as_str()), (0, ""));
    let log = std::fs::read_to_string(bundle.path().join("log")).unwrap();
    assert!(log.contains("level=warning msg=\"ignoring"), "{log}");
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

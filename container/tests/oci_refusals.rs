//! What options and files beside the configuration ask for and cannot have is refused, by its name and in
//! time: nothing is passed over in silence.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use serde_json::json;
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

/// The last line of what a command says that has to fail.
#[track_caller]
fn refused(bundle: &Bundle, arguments: &[&str]) -> String {
    let error = bundle.oci(arguments).failed();
    error.lines().last().unwrap_or_default().to_owned()
}

#[track_caller]
fn has_all(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

/// 4294967295 is how the kernel is told to leave a user as it is: root.
#[test]
fn nobody_stays_root_by_a_number_that_changes_nothing() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    for (arguments, field) in [
        (
            ["exec", "--user", "4294967295", "ID", "id"],
            "process.user.uid",
        ),
        (
            ["exec", "--user", "1:4294967295", "ID", "id"],
            "process.user.gid",
        ),
        (
            ["exec", "--additional-gids", "4294967295", "ID", "id"],
            "process.user.additionalGids[0]",
        ),
    ] {
        has_all(&refused(&bundle, &arguments), &[field, "4294967295"]);
    }
}

#[test]
fn a_terminal_of_exec_that_nobody_has_is_refused_and_so_is_a_socket_for_none() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    let error = refused(&bundle, &["exec", "-d", "-t", "ID", "true"]);
    has_all(
        &error,
        &["cannot allocate tty if runc will detach without setting console socket"],
    );
    let path = bundle.path().join("console");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let path = path.to_str().unwrap();
    let error = refused(&bundle, &["exec", "--console-socket", path, "ID", "true"]);
    has_all(&error, &["cannot use console socket"]);
    let error = refused(
        &bundle,
        &["exec", "-t", "--console-socket", "/no/where", "ID", "true"],
    );
    has_all(&error, &["--console-socket", "/no/where", "ENOENT", "; "]);
}

#[test]
fn a_file_that_an_option_names_is_named_with_the_field_in_it() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    let file = bundle.path().join("given.json");
    let path = file.to_str().unwrap();
    let process = ["exec", "--process", path, "ID"];
    let limits = ["update", "--resources", path, "ID"];
    has_all(
        &refused(&bundle, &process),
        &["--process", "given.json", "ENOENT"],
    );
    has_all(&refused(&bundle, &limits), &["given.json", "ENOENT"]);
    for (text, arguments, parts) in [
        ("{", process, &["given.json: EOF while parsing"][..]),
        ("{", limits, &["given.json: EOF while parsing"]),
        (
            r#"{"args": ["id"]}"#,
            process,
            &["given.json: `cwd` is missing"],
        ),
        (
            r#"{"args": ["id"], "cwd": "/", "scheduler": {"policy": "SCHED_JOY"}}"#,
            process,
            &["given.json: `scheduler.policy`"],
        ),
        (
            r#"{"memory": {"limit": "x"}}"#,
            limits,
            &["given.json: `memory.limit`"],
        ),
        (
            r#"{"cpu": {"quota": 5}}"#,
            limits,
            &["`linux.resources.cpu.quota` is \"5\""],
        ),
        (
            r#"{"cpu": {"cpus": "4094"}}"#,
            limits,
            &["`linux.resources.cpu.cpus`", "4094", "; "],
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = refused(&bundle, &arguments);
        has_all(&error, parts);
        assert!(!error.contains("config.json"), "{error}");
    }
}

#[test]
fn processors_of_exec_that_are_not_there_are_told_by_their_field() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    let file = bundle.path().join("process.json");
    let process = json!({"args": ["true"], "cwd": "/", "execCPUAffinity": {"final": "1023"}});
    std::fs::write(&file, process.to_string()).unwrap();
    let error = refused(
        &bundle,
        &["exec", "--process", file.to_str().unwrap(), "ID"],
    );
    has_all(
        &error,
        &[
            "sched_setaffinity([1023])",
            "EINVAL",
            "process.execCPUAffinity",
        ],
    );
}

#[test]
fn a_descriptor_to_inherit_has_to_be_there() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    for command in [
        &["exec", "--preserve-fds", "1", "ID", "true"][..],
        &["run", "--preserve-fds", "1", "other"],
    ] {
        let error = refused(&bundle, command);
        has_all(
            &error,
            &["unable to stat preserved-fd 0", "descriptor 3 is not open"],
        );
    }
}

/// Callers written for crun and youki name a bound, below which there may be no descriptor at all.
#[test]
fn descriptors_to_inherit_may_be_fewer() {
    for (opened, told) in [("exec 3</dev/null;", "1\n"), ("exec 3<&-;", "0\n")] {
        let Some(bundle) = Bundle::new("test -e /proc/$$/fd/3; echo $((1 - $?))", |_| {}) else {
            return;
        };
        let mut command = std::process::Command::new("sh");
        let line = "exec \"$0\" --root \"$1\" run --preserve-fds 100 \"$2\"";
        command.args(["-c", &format!("{opened} {line}")]);
        command.arg(env!("CARGO_BIN_EXE_ringside-oci"));
        command.arg(bundle.state_root()).arg(&bundle.id);
        let went = command.current_dir(bundle.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&went.stdout), told, "{went:?}");
        assert!(went.stderr.is_empty(), "{went:?}");
        bundle.is_gone();
    }
}

#[test]
fn a_limit_that_the_host_refuses_is_named_by_its_field() {
    let cases = [
        (json!({"cpu": {"cpus": "4094"}}), "linux.resources.cpu.cpus"),
        (
            json!({"blockIO": {"throttleWriteIOPSDevice": [{"major": 4000, "minor": 0, "rate": 9}]}}),
            "linux.resources.blockIO.throttleWriteIOPSDevice",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "4MB", "limit": 0}]}),
            "linux.resources.hugepageLimits",
        ),
        (
            json!({"unified": {"memory.no_such_file": "1"}}),
            "linux.resources.unified.memory.no_such_file",
        ),
    ];
    for (resources, field) in cases {
        let Some(bundle) = Bundle::new("true", |spec| spec["linux"]["resources"] = resources)
        else {
            return;
        };
        let error = refused(&bundle, &["run", "ID"]);
        has_all(&error, &[&format!("(`{field}`)"), "; "]);
        bundle.is_gone();
    }
}

#[test]
fn words_after_two_dashes_are_no_options() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    bundle.oci(&["state", "--", "ID"]).ok();
    assert_eq!(
        bundle.oci(&["exec", "--", "ID", "echo", "-n", "a"]).ok(),
        "a"
    );
    assert_eq!(
        bundle.oci(&["exec", "ID", "--", "echo", "-n", "a"]).ok(),
        "a"
    );
    let lines = bundle.oci(&["ps", "ID", "--", "-eo", "pid,comm"]).ok();
    assert!(
        lines.starts_with("    PID") || lines.trim_start().starts_with("PID"),
        "{lines}"
    );
}

#[test]
fn what_ps_does_not_do_is_told_in_its_words() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    has_all(
        &refused(&bundle, &["ps", "-f", "odd", "ID"]),
        &["invalid format \"odd\""],
    );
    has_all(
        &refused(&bundle, &["ps", "ID", "--no-such-option"]),
        &["no-such-option"],
    );
    has_all(
        &refused(&bundle, &["ps", "ID", "-eo", "comm"]),
        &["couldn't find PID field", "; "],
    );
}

/// A pipe holds 64 KiB of it, and who does not read keeps whoever writes more waiting.
#[test]
fn a_hook_that_does_not_read_a_long_state_ends_in_time() {
    let Some(bundle) = Bundle::new("true", |spec| {
        spec["annotations"] = json!({"long": "x".repeat(200_000)});
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
    }) else {
        return;
    };
    let error = refused(&bundle, &["run", "ID"]);
    has_all(
        &error,
        &[
            "createRuntime hook #0",
            "`hooks.createRuntime[0]`",
            "did not end within 1 s",
        ],
    );
    bundle.is_gone();
}

#[test]
fn a_capability_of_exec_that_there_is_not_is_told() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    let went = bundle.oci(&["exec", "--cap", "CAP_JOY", "ID", "true"]);
    has_all(
        &went.err,
        &["ignoring unknown or unavailable capabilities: [CAP_JOY]"],
    );
    went.ok();
}

#[test]
fn a_share_or_limit_of_nothing_is_refused_for_containers_of_the_hosts_files() {
    use ringside_container::Limits;
    let none = Limits::default();
    for (limits, named) in [
        (
            Limits {
                cpu_weight: Some(0),
                ..none
            },
            "cpu_weight",
        ),
        (
            Limits {
                cpus: Some(0.0),
                ..none
            },
            "cpus",
        ),
        (
            Limits {
                pids: Some(0),
                ..none
            },
            "pids",
        ),
        (
            Limits {
                memory_bytes: Some(1),
                ..none
            },
            "memory_bytes",
        ),
    ] {
        let limited = ringside_container::runtime::host_bundle::limit(&mut json!({}), &limits);
        let error = limited.unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

//! The command line itself: options, help, the log, and the words that callers look for.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use serde_json::{Value, json};
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

#[test]
fn options_come_before_and_after_the_name_and_unknown_ones_are_named() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    assert_eq!(
        bundle
            .oci(&["exec", "ID", "-e", "A=1", "sh", "-c", "echo $A"])
            .ok(),
        "1\n"
    );
    assert_eq!(
        bundle
            .oci(&[
                "exec",
                "-e=A=2",
                "--cwd",
                "/usr",
                "ID",
                "sh",
                "-c",
                "echo $A; pwd"
            ])
            .ok(),
        "2\n/usr\n"
    );
    let error = bundle.oci(&["kill", "--odd", "ID"]).failed();
    assert!(
        error.contains("flag provided but not defined: -odd"),
        "{error}"
    );
    for (arguments, said) in [
        (
            vec!["frob"],
            "No help topic for 'frob'; --help lists the commands",
        ),
        (vec!["--log-format", "xml", "list"], "log-format"),
        (vec!["--rootless", "maybe", "list"], "--rootless"),
        (
            vec!["update", "--l3-cache-schema", "x", "ID"],
            "l3-cache-schema",
        ),
        (
            vec!["exec", "--apparmor", "no-such-profile", "ID", "true"],
            "pparmor",
        ),
        (
            vec!["exec", "--process-label", "label", "ID", "true"],
            "process.selinuxLabel",
        ),
        (vec!["exec", "ID", "/etc"], "exec"),
    ] {
        let error = bundle.oci(&arguments).failed();
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    // Accepted, as it is what happens anyway.
    bundle.oci(&["--rootless", "auto", "--debug", "list"]).ok();
}

#[test]
fn help_and_debugging_are_given_where_asked_for() {
    let Some(bundle) = Bundle::new("true", |_| {}) else {
        return;
    };
    let help = bundle.oci(&["--help"]).ok();
    assert!(
        help.starts_with("NAME:\n   ringside-oci, as runc - Open Container Initiative runtime"),
        "{help}"
    );
    for command in ["create", "exec", "update", "checkpoint"] {
        let help = bundle.oci(&[command, "--help"]).ok();
        assert!(help.contains(&format!("as runc {command} - ")), "{help}");
    }
    bundle
        .oci(&[
            "--debug",
            "--log",
            "log.json",
            "--log-format",
            "json",
            "run",
            "ID",
        ])
        .ok();
    let log = std::fs::read_to_string(bundle.path().join("log.json")).unwrap();
    let line: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "debug");
    // Each step, and at some of them what runc says.
    for said in [
        "init: enter the root",
        "nsexec container setup",
        "child process in init()",
        "init: closing the pipe to signal completion",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    let version = bundle.oci(&["--version"]).ok();
    let lines: Vec<_> = version.lines().collect();
    assert!(lines[0].starts_with("ringside-oci version "), "{version}");
    assert!(lines[0].contains("runc version 1."), "{version}");
    assert!(lines[1].starts_with("commit: "), "{version}");
    assert!(lines[2].starts_with("spec: 1."), "{version}");
}

#[test]
fn debugging_tells_where_exec_begins() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    let process = r#"{"args": ["/bin/true"], "cwd": "/", "execCPUAffinity": {"initial": "0"}}"#;
    std::fs::write(bundle.path().join("process.json"), process).unwrap();
    let log = [
        "--debug",
        "--log",
        "exec.log",
        "exec",
        "--process",
        "process.json",
        "ID",
    ];
    bundle.oci(&log).ok();
    let log = std::fs::read_to_string(bundle.path().join("exec.log")).unwrap();
    for said in ["nsexec: affinity: 0x1", "setns_init: about to exec"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    bundle.oci(&["delete", "--force", "ID"]).ok();
}

#[test]
fn features_are_what_is_understood() {
    let features = ringside_container::runtime::features();
    let options = features["mountOptions"].as_array().unwrap();
    for option in [
        "idmap",
        "ridmap",
        "tmpcopyup",
        "rro",
        "rnosymfollow",
        "lazytime",
    ] {
        assert!(options.contains(&option.into()), "{option}");
    }
    assert_eq!(
        features["linux"]["mountExtensions"]["idmap"]["enabled"],
        true
    );
    assert_eq!(features["linux"]["intelRdt"]["enabled"], false);
    let checkpoints = "org.opencontainers.runc.checkpoint.enabled";
    assert_eq!(features["annotations"][checkpoints], "true");
    // It is what podman asks for in this way.
    assert_eq!(
        features["potentiallyUnsafeConfigAnnotations"],
        json!(["run.oci.keep_original_groups"])
    );
    assert_eq!(
        features["linux"]["seccomp"]["actions"]
            .as_array()
            .unwrap()
            .len(),
        9
    );
}

#[test]
fn a_mount_that_is_refused_is_told_in_the_words_that_callers_know() {
    let Some(bundle) = Bundle::new("true", |spec| {
        let mount =
            json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    }) else {
        return;
    };
    let said = bundle.oci(&["run", "ID"]).failed();
    let words = "runc run failed: unable to start container process: error during container init: error mounting: no such file or directory: init cannot mount /x (`mounts[";
    assert!(said.contains(words), "{said}");
}

//! Hooks of all kinds: when they run, what they are told, and what becomes of a container whose hook fails.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use serde_json::json;
use support_oci::Bundle;

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

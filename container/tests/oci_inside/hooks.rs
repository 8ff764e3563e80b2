//! Hooks: their environment, and the words about one that fails.

use serde_json::{Value, json};

use crate::add;
use crate::support_oci::Bundle;

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

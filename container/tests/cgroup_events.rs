//! `events`: reports at intervals, one of running out of memory, and an end when the container ends.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use support_oci::Bundle;

/// Takes 64 MiB once it may.
const GREEDY: &str = "until [ -e /tmp/go ]; do sleep 0.1; done; head -c 67108864 /dev/zero | tail > /dev/null; sleep 1000";

#[test]
fn what_a_container_uses_is_told_and_that_it_ran_out_of_memory() {
    let limit = |spec: &mut Value| {
        spec["linux"]["resources"]["memory"] =
            serde_json::json!({"limit": 16 << 20, "swap": 16 << 20});
        spec["linux"]["resources"]["pids"] = serde_json::json!({"limit": 20});
    };
    let Some(bundle) = Bundle::new(GREEDY, limit) else {
        return;
    };
    let mut run = bundle.command();
    run.args(["run", "--detach", &bundle.id])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(run.status().unwrap().success());

    let once: Value = serde_json::from_str(&bundle.oci(&["events", "--stats", "ID"]).ok()).unwrap();
    assert_eq!(once["type"], "stats");
    assert_eq!(once["id"], bundle.id.as_str());
    assert_eq!(once["data"]["memory"]["usage"]["limit"], 16 << 20);
    assert_eq!(once["data"]["pids"]["limit"], 20);
    assert!(
        once["data"]["cpu"]["usage"]["total"].as_u64() > Some(0),
        "{once}"
    );

    let mut events = bundle.command();
    events.args(["events", "--interval", "100ms", &bundle.id]);
    let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let mut kinds = lines.map(|line| {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        event["type"].as_str().unwrap().to_owned()
    });
    assert_eq!(kinds.next().unwrap(), "stats");
    std::fs::write(bundle.rootfs().join("tmp/go"), "").unwrap();
    assert!(
        kinds.any(|kind| kind == "oom"),
        "it ended without a word of memory"
    );
    // Only the one that took too much was killed.
    assert_eq!(bundle.state("status"), "running");

    bundle.oci(&["delete", "--force", "ID"]).ok();
    assert!(kinds.all(|kind| kind == "stats" || kind == "oom"));
    assert!(events.wait().unwrap().success());
    let message = bundle.oci(&["events", "ID"]).failed();
    assert!(message.contains("does not exist"), "{message}");
    bundle.is_gone();
}

#[test]
fn an_interval_that_is_no_time_is_refused() {
    let Some(bundle) = Bundle::new("true", |_| {}) else {
        return;
    };
    for interval in ["", "5", "x", "-1s", "0s", "5 parsecs"] {
        let message = bundle
            .oci(&["events", "--interval", interval, "ID"])
            .failed();
        assert!(message.contains("-interval"), "{message}");
    }
}

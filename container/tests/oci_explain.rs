//! `--explain`: the plan is what is done, and it can be read without doing any of it.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use serde_json::Value;
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

/// What each step does and who takes it, in order.
fn steps(values: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let step = |it: &Value| (text(&it["actor"]), text(&it["what"]));
    values.iter().map(step).collect()
}

fn planned(bundle: &Bundle, command: &[&str]) -> Vec<Value> {
    let arguments = [&["--explain=plan", "--json"], command].concat();
    serde_json::from_str(&bundle.oci(&arguments).ok()).unwrap()
}

fn told(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn a_plan_is_printed_and_nothing_is_done() {
    let Some(bundle) = Bundle::new("echo ran > /ran", |_| {}) else {
        return;
    };
    let story = bundle.oci(&["--explain=plan", "run", "ID"]).ok();
    for part in [
        "clone3(CLONE_NEWNS",
        "pivot_root",
        "why: ",
        "[mounts[0]]",
        "[linux.maskedPaths]",
        "execve",
    ] {
        assert!(story.contains(part), "{part} is not in\n{story}");
    }
    assert!(!bundle.rootfs().join("ran").exists());
    bundle.is_gone();
    for step in planned(&bundle, &["run", "ID"]) {
        assert!(
            !step["why"].as_str().unwrap().is_empty() && step["calls"][0].is_string(),
            "{step}"
        );
    }
}

/// Each process takes its steps in the plan's order; the two run side by side.
#[test]
fn what_is_planned_is_what_is_taken() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    let log = bundle.path().join("log");
    let narrate = |command: &[&str]| {
        let file = std::fs::File::create(&log).unwrap();
        let mut oci = bundle.command();
        oci.args(["--explain", "--json"]).args(command);
        let status = oci.stdout(file.try_clone().unwrap()).stderr(file).status();
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(status.unwrap().success(), "{text}");
        told(&text)
    };
    let id = bundle.id.clone();
    let commands: [&[&str]; 4] = [
        &["create", &id],
        &["start", &id],
        &["exec", &id, "true"],
        &["delete", "--force", &id],
    ];
    for command in commands {
        let plan = planned(&bundle, command);
        let taken = narrate(command);
        assert!(taken.iter().all(|it| it["outcome"] != "alternative"));
        for actor in ["runtime", "init"] {
            let of = |values: &[Value]| -> Vec<_> {
                let all = steps(values).into_iter();
                all.filter(|(who, _)| who == actor).collect()
            };
            let (plan, taken) = (of(&plan), of(&taken));
            // After `create` init waits; the rest of its steps are told by `start`.
            let expected = match plan.iter().position(|(_, what)| what == "wait for start") {
                Some(at) if (actor, command[0]) == ("init", "create") => &plan[..at],
                _ => &plan[..],
            };
            assert_eq!(taken, expected, "{command:?}");
        }
    }
    bundle.is_gone();
}

#[test]
fn the_story_ends_where_the_failure_is_and_the_last_line_says_why() {
    let Some(bundle) = Bundle::new("", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(serde_json::json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}));
    }) else {
        return;
    };
    let error = bundle.oci(&["--explain", "run", "ID"]).failed();
    let last = error.lines().last().unwrap();
    for part in ["init", "/x", "`mounts[", "/no/such", "ENOENT", "; "] {
        assert!(last.contains(part), "{part} is not in {last}");
    }
    bundle.is_gone();
}

//! Device rules: version 1's control files, or an eBPF program in version 2.

mod support_cgroup;

use ringside_container::cgroup::{
    Controller, Controllers, DeviceAccess, DeviceKind, DeviceRule, Limits,
};
use support_cgroup::{TestGroup, has, layout, shell_in};

const DEVICES: Controllers = Controllers::of(&[Controller::Devices]);

/// Allows a character device.
fn char_device(major: u32, minor: u32, access: &str) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: DeviceKind::Char,
        major: Some(major),
        minor: Some(minor),
        access: DeviceAccess::parse(access).expect("letters"),
    }
}

/// What a shell in the group can do: one word for each of reading zero, writing null, reading null
/// and making a node.
fn probe(group: &TestGroup) -> Vec<String> {
    let node = std::env::temp_dir().join(format!("node-{}", support_cgroup::unique_name()));
    let node = node.display();
    let script = format!(
        "ok() {{ if \"$@\" >&2; then echo yes; else echo no; fi; }}
         ok head -c 1 /dev/zero; ok sh -c 'echo > /dev/null'; ok head -c 1 /dev/null
         ok mknod {node} c 1 7; rm -f {node}"
    );
    let output = shell_in(group, &script)
        .go()
        .wait_with_output()
        .expect("wait");
    let text = String::from_utf8(output.stdout).expect("words");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn rules_decide_what_may_be_opened_and_made() {
    let Some(layout) = layout() else { return };
    if !has(&layout, DEVICES) {
        return;
    }
    let group = TestGroup::new(&layout, DEVICES);
    assert_eq!(probe(&group), ["yes", "yes", "yes", "yes"], "without rules");

    let mut limits = Limits::default();
    let apply = |limits: &Limits| group.apply(limits).unwrap_or_else(|e| panic!("{e}"));
    limits.devices = vec![DeviceRule::everything(false), char_device(1, 3, "w")];
    apply(&limits);
    assert_eq!(
        probe(&group),
        ["no", "yes", "no", "no"],
        "only writing to null"
    );

    // Rules replace rules, so what was allowed before is gone.
    limits.devices = vec![char_device(1, 5, "r"), char_device(1, 3, "rw")];
    apply(&limits);
    assert_eq!(probe(&group), ["yes", "yes", "yes", "no"], "zero and null");
    limits.devices = vec![
        char_device(1, 5, "r"),
        char_device(1, 3, "r"),
        char_device(1, 7, "m"),
    ];
    apply(&limits);
    assert_eq!(probe(&group), ["yes", "no", "yes", "yes"], "less of null");

    limits.devices = vec![
        DeviceRule::everything(true),
        DeviceRule {
            allow: false,
            ..char_device(1, 5, "r")
        },
    ];
    apply(&limits);
    assert_eq!(probe(&group), ["no", "yes", "yes", "yes"], "all but zero");
}

#[test]
fn a_group_below_cannot_allow_itself_more() {
    let Some(layout) = layout() else { return };
    if !has(&layout, DEVICES) {
        return;
    }
    let outer = TestGroup::new(&layout, DEVICES);
    let mut limits = Limits {
        devices: vec![DeviceRule::everything(false), char_device(1, 3, "rw")],
        ..Limits::default()
    };
    outer.apply(&limits).expect("apply");
    let inner = outer.paths().map(|path| path.join("inner"));
    let inner: Vec<_> = inner
        .inspect(|path| std::fs::create_dir(path).expect("mkdir"))
        .collect();
    let inner = ringside_container::cgroup::Group::from_paths(&layout, &inner, DEVICES);
    let inner = TestGroup(inner.expect("open"));
    limits.devices = vec![char_device(1, 5, "r"), char_device(1, 3, "rw")];
    // Version 1 refuses the rule; version 2 takes the program, and both programs must agree.
    let _ = inner.apply(&limits);
    assert_eq!(probe(&inner)[..3], ["no", "yes", "yes"]);
}

use proptest::prelude::*;

use super::program::*;
use super::*;
use crate::cgroup::sys::Instruction;

/// What a process asks for.
#[derive(Clone, Copy, Debug)]
struct Access {
    kind: DeviceKind,
    major: u32,
    minor: u32,
    access: DeviceAccess,
}

/// Runs a device program as the kernel would, for the few instructions that ours use.
fn run(program: &[Instruction], ask: Access) -> bool {
    let kind = if ask.kind == DeviceKind::Block {
        BLOCK
    } else {
        CHAR
    };
    let context = [
        u32::from(ask.access.bits()) << 16 | kind as u32,
        ask.major,
        ask.minor,
    ];
    let mut registers = [0u64; 11];
    let mut at = 0;
    loop {
        // Out of bounds: the verifier would have refused it, and the test panics.
        let Instruction {
            op,
            registers: regs,
            offset,
            immediate,
        } = program[at];
        let (dst, src) = (usize::from(regs & 15), usize::from(regs >> 4));
        at += 1;
        match op {
            LOAD_WORD => registers[dst] = context[offset as usize / 4].into(),
            MOVE_IMMEDIATE => registers[dst] = (immediate as u32).into(),
            MOVE => registers[dst] = registers[src] & 0xffff_ffff,
            AND_IMMEDIATE => registers[dst] = u64::from(registers[dst] as u32 & immediate as u32),
            SHIFT_RIGHT_IMMEDIATE => {
                registers[dst] = u64::from(registers[dst] as u32 >> immediate);
            }
            JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL => {
                let equal = registers[dst] == i64::from(immediate) as u64;
                if equal == (op == JUMP_IF_EQUAL) {
                    at = at.checked_add_signed(offset.into()).unwrap();
                }
            }
            EXIT => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// What the rules mean, said once more and plainly: for each kind of access the last rule decides.
fn meaning(rules: &[DeviceRule], ask: Access) -> bool {
    let covers = |rule: &DeviceRule, bit: u8| {
        (rule.kind == DeviceKind::All || rule.kind == ask.kind)
            && rule.major.is_none_or(|major| major == ask.major)
            && rule.minor.is_none_or(|minor| minor == ask.minor)
            && rule.access.bits() & bit != 0
    };
    let allowed = |bit| {
        rules
            .iter()
            .rev()
            .find(|r| covers(r, bit))
            .is_some_and(|r| r.allow)
    };
    [1, 2, 4]
        .into_iter()
        .filter(|bit| ask.access.bits() & bit != 0)
        .all(allowed)
}

/// What version 1's kernel code makes of a default and exceptions (`__devcgroup_check_permission`):
/// one exception must cover all that is asked, or (by default allowed) may touch none of it.
fn v1_meaning(shape: &v1::Shape, ask: Access) -> bool {
    let bits = ask.access.bits();
    let same = |e: &&DeviceRule| {
        e.kind == ask.kind
            && e.major.is_none_or(|major| major == ask.major)
            && e.minor.is_none_or(|minor| minor == ask.minor)
    };
    let mut matching = shape.exceptions.iter().filter(same);
    match shape.allow {
        true => !matching.any(|e| e.access.bits() & bits != 0),
        false => matching.any(|e| bits & !e.access.bits() == 0),
    }
}

fn rule(text: &str) -> DeviceRule {
    let words: Vec<&str> = text[1..].split(' ').collect();
    let (major, minor) = words[1].split_once(':').unwrap();
    DeviceRule {
        allow: text.starts_with('+'),
        kind: match words[0] {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            _ => DeviceKind::Char,
        },
        major: major.parse().ok(),
        minor: minor.parse().ok(),
        access: DeviceAccess::parse(words[2]).unwrap(),
    }
}

fn rules(text: &[&str]) -> Vec<DeviceRule> {
    text.iter().map(|text| rule(text)).collect()
}

fn ask(text: &str) -> Access {
    let rule = rule(&format!("+{text}"));
    Access {
        kind: rule.kind,
        major: rule.major.unwrap(),
        minor: rule.minor.unwrap(),
        access: rule.access,
    }
}

#[test]
fn a_container_gets_its_null_and_no_disk() {
    let rules = rules(&["-a *:* rwm", "+c *:* m", "+c 1:3 rw", "+c 136:* rw"]);
    let program = assemble(&rules);
    for (text, allowed) in [
        ("c 1:3 rw", true),
        ("c 1:3 rwm", true),
        ("c 136:77 w", true),
        ("c 9:9 m", true),
        ("c 9:9 r", false),
        ("b 1:3 r", false),
        ("b 8:0 m", false),
        ("c 9:9 rm", false),
    ] {
        assert_eq!(run(&program, ask(text)), allowed, "{text}");
    }
}

#[test]
fn no_rules_deny_and_one_rule_for_everything_is_all_there_is() {
    assert!(!run(&assemble(&[]), ask("c 1:3 r")));
    let everything = assemble(&rules(&["-c 1:3 r", "+a *:* rwm"]));
    assert!(run(&everything, ask("c 1:3 r")));
    // The prologue and the answer: what comes before the last word cannot be reached.
    assert_eq!(everything.len(), 8);
}

#[test]
fn what_version_1_cannot_say_is_refused_and_the_rule_named() {
    let shape = v1::shape(&rules(&["-a *:* rwm", "+c 1:* rwm", "-c 1:3 w"]));
    let error = shape.unwrap_err().to_string();
    assert!(error.contains("device rule 2 (`-c 1:3 w`)"), "{error}");
}

#[test]
fn version_1_gets_a_default_and_exceptions() {
    let shape = |text: &[&str]| v1::shape(&rules(text)).unwrap();
    let plain = shape(&[
        "+c 5:5 r",
        "-a *:* rwm",
        "+c 1:3 r",
        "+c 1:3 w",
        "+b 8:0 r",
        "-b 8:0 rw",
    ]);
    assert_eq!(
        (plain.allow, plain.exceptions),
        (false, rules(&["+c 1:3 rw"]))
    );
    let open = shape(&["+a *:* rwm", "-c 1:3 rwm"]);
    assert_eq!(
        (open.allow, open.exceptions),
        (true, rules(&["-c 1:3 rwm"]))
    );
    let both_kinds = shape(&["+a 7:* r"]);
    assert_eq!(both_kinds.exceptions, rules(&["+c 7:* r", "+b 7:* r"]));
}

#[test]
fn numbers_that_no_device_has_are_refused() {
    for bad in ["+c 4096:0 r", "+c 0:1048576 r"] {
        validate(&rules(&[bad])).expect_err(bad);
    }
    let none = DeviceRule {
        access: DeviceAccess::of(0),
        ..DeviceRule::everything(true)
    };
    validate(&[none]).unwrap_err();
    assert_eq!(DeviceAccess::parse("rx"), None);
}

fn any_rule() -> impl Strategy<Value = DeviceRule> {
    let kind = prop_oneof![
        Just(DeviceKind::All),
        Just(DeviceKind::Char),
        Just(DeviceKind::Block)
    ];
    let number = || prop::option::of(0..3u32);
    (any::<bool>(), kind, number(), number(), 1..8u8).prop_map(
        |(allow, kind, major, minor, access)| DeviceRule {
            allow,
            kind,
            major,
            minor,
            access: DeviceAccess::of(access),
        },
    )
}

fn any_access() -> impl Strategy<Value = Access> {
    let kind = prop_oneof![Just(DeviceKind::Char), Just(DeviceKind::Block)];
    (kind, 0..4u32, 0..4u32, 1..8u8).prop_map(|(kind, major, minor, access)| Access {
        kind,
        major,
        minor,
        access: DeviceAccess::of(access),
    })
}

proptest! {
    #[test]
    fn the_program_means_what_the_rules_mean(
        rules in prop::collection::vec(any_rule(), 0..8),
        ask in any_access(),
    ) {
        prop_assert_eq!(run(&assemble(&rules), ask), meaning(&rules, ask));
    }

    /// For one kind of access at a time version 1 means the same, where it can say it at all; for
    /// several at once it is stricter, since one exception must have them all.
    #[test]
    fn the_v1_shape_means_what_the_rules_mean(
        rules in prop::collection::vec(any_rule(), 0..8),
        ask in any_access(),
    ) {
        if let Ok(shape) = v1::shape(&rules) {
            let allowed = v1_meaning(&shape, ask);
            if ask.access.bits().count_ones() == 1 {
                prop_assert_eq!(allowed, meaning(&rules, ask), "{:?}", shape);
            } else {
                prop_assert!(!allowed || meaning(&rules, ask), "{:?}", shape);
            }
        }
    }
}

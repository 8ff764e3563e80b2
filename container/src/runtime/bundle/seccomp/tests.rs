use super::*;
use crate::spec::SeccompArgument;
use proptest::prelude::*;

/// What the program answers to a call, by a machine of our own.
fn answer(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = vec![number, architecture, 0, 0];
    data.extend(
        arguments
            .iter()
            .flat_map(|it| [*it as u32, (it >> 32) as u32]),
    );
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let (code, yes, no, operand) = program[at];
        at += 1;
        let mut jump = |is_true: bool| at += usize::from(if is_true { yes } else { no });
        match code {
            LOAD => accumulator = data[operand as usize / 4],
            AND => accumulator &= operand,
            JUMP => at += operand as usize,
            JUMP_EQUAL => jump(accumulator == operand),
            JUMP_GREATER => jump(accumulator > operand),
            JUMP_AT_LEAST => jump(accumulator >= operand),
            RETURN => return operand,
            other => panic!("{other:#x}"),
        }
    }
}

fn profile(args: Vec<SeccompArgument>) -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        architectures: vec!["SCMP_ARCH_X86_64".into(), "SCMP_ARCH_X86".into()],
        syscalls: vec![
            SeccompRule {
                names: vec!["personality".into()],
                action: "SCMP_ACT_ALLOW".into(),
                errno_ret: None,
                args,
            },
            SeccompRule {
                names: vec!["read".into(), "nonsense".into()],
                action: "SCMP_ACT_ALLOW".into(),
                errno_ret: None,
                args: vec![],
            },
        ],
        ..Seccomp::default()
    }
}

#[test]
fn calls_are_told_apart_by_number_and_architecture() {
    let (program, flags) = compile(&profile(vec![])).unwrap();
    assert_eq!(flags, 4);
    let ask = |architecture, number| answer(&program, architecture, number, [0; 6]);
    assert_eq!(ask(X86_64, 0), 0x7fff_0000);
    assert_eq!(ask(X86_64, 1), ERRNO | 1);
    assert_eq!(ask(I386, 3), 0x7fff_0000);
    assert_eq!(ask(I386, 0), ERRNO | 1);
    assert_eq!(ask(X86_64, 9999), ENOSYS, "newer than the profile");
    assert_eq!(ask(X86_64, X32_BIT), ENOSYS);
    assert_eq!(ask(0xc000_00b7, 0), KILL_PROCESS, "another architecture");
}

#[test]
fn what_is_not_supported_is_named() {
    let refused = |change: fn(&mut Seccomp)| {
        let mut profile = profile(vec![]);
        change(&mut profile);
        compile(&profile)
            .unwrap_err()
            .field_path()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        refused(|it| it.default_action = "X".into()),
        "linux.seccomp.defaultAction"
    );
    assert_eq!(
        refused(|it| it.syscalls[1].action = "SCMP_ACT_NOTIFY".into()),
        "linux.seccomp.listenerPath"
    );
    assert_eq!(
        refused(|it| it.syscalls[1].errno_ret = Some(4096)),
        "linux.seccomp.syscalls[1].errnoRet"
    );
    assert_eq!(
        refused(|it| it.flags = Some(vec!["X".into()])),
        "linux.seccomp.flags[0]"
    );
    assert_eq!(
        refused(|it| it.architectures = vec!["X".into()]),
        "linux.seccomp.architectures[0]"
    );
}

proptest! {
    #[test]
    fn conditions_mean_what_they_say(
        value: u64, two: u64, argument: u64, index in 0u32..6,
        op in prop::sample::select(vec!["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]),
        nearness in 0u8..5,
    ) {
        // Values that share a half, or all, with what they are compared with.
        let argument = match nearness {
            0 => value,
            1 => value ^ 1,
            2 => value ^ 1 << 40,
            3 => value & two,
            _ => argument,
        };
        let two = if nearness == 3 { value & two } else { two };
        let expected = match op {
            "EQ" => argument == value,
            "NE" => argument != value,
            "LT" => argument < value,
            "LE" => argument <= value,
            "GT" => argument > value,
            "GE" => argument >= value,
            _ => argument & value == two,
        };
        let condition = SeccompArgument { index, value, value_two: two, op: format!("SCMP_CMP_{op}") };
        let always = SeccompArgument { index: (index + 1) % 6, value: 0, value_two: 0, op: "SCMP_CMP_GE".into() };
        let (program, _) = compile(&profile(vec![always, condition])).unwrap();
        let mut arguments = [7; 6];
        arguments[index as usize] = argument;
        let answer = answer(&program, X86_64, 135, arguments);
        prop_assert_eq!(answer == 0x7fff_0000, expected);
    }
}

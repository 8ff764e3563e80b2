//! The conditions of a rule: comparisons of arguments, which have 64 bits where the machine has 32.

use super::{AND, ARGUMENTS, Instruction, JUMP_AT_LEAST, JUMP_EQUAL, JUMP_GREATER, LOAD, RETURN};
use crate::spec::{Error, SeccompArgument};

/// Whether two conditions are about the same argument.
pub(super) fn has_twice(arguments: &[SeccompArgument]) -> bool {
    let again = |(at, it): (usize, &SeccompArgument)| {
        arguments[..at].iter().any(|other| other.index == it.index)
    };
    arguments.iter().enumerate().any(again)
}

/// Where a comparison goes on.
#[derive(Clone, Copy, PartialEq)]
enum To {
    Next,
    /// This condition holds.
    Pass,
    /// The rule does not match.
    Fail,
}

/// The instructions of a rule: its action if all conditions hold, what comes after it if not.
pub(super) fn conditions(
    at: &str,
    arguments: &[SeccompArgument],
    action: u32,
) -> Result<Vec<Instruction>, Error> {
    let mut parts = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        parts.push(condition(&format!("{at}.args[{index}]"), argument)?);
    }
    let total: usize = parts.iter().map(Vec::len).sum::<usize>() + 1;
    let mut program = Vec::new();
    let mut end_of_part = 0;
    for part in parts {
        end_of_part += part.len();
        for (code, yes, no, operand) in part {
            let after = program.len() + 1;
            let jump = |to| match to {
                To::Next => 0,
                To::Pass => (end_of_part - after) as u8,
                // Six conditions of at most seven instructions: it fits.
                To::Fail => (total - after) as u8,
            };
            program.push((code, jump(yes), jump(no), operand));
        }
    }
    program.push((RETURN, 0, 0, action));
    Ok(program)
}

/// One comparison of 64 bits, in two halves.
fn condition(at: &str, argument: &SeccompArgument) -> Result<Vec<(u16, To, To, u32)>, Error> {
    use To::{Fail, Next, Pass};
    let low = ARGUMENTS + 8 * argument.index.min(5);
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high_value, low_value) = halves(argument.value);
    let load = |offset| (LOAD, Next, Next, offset);
    let ordered = |above: To, below: To, code: u16, yes: To, no: To| {
        vec![
            load(low + 4),
            (JUMP_GREATER, above, Next, high_value),
            (JUMP_EQUAL, Next, below, high_value),
            load(low),
            (code, yes, no, low_value),
        ]
    };
    Ok(match argument.op.as_str() {
        "SCMP_CMP_EQ" => vec![
            load(low + 4),
            (JUMP_EQUAL, Next, Fail, high_value),
            load(low),
            (JUMP_EQUAL, Pass, Fail, low_value),
        ],
        "SCMP_CMP_NE" => vec![
            load(low + 4),
            (JUMP_EQUAL, Next, Pass, high_value),
            load(low),
            (JUMP_EQUAL, Fail, Pass, low_value),
        ],
        "SCMP_CMP_GT" => ordered(Pass, Fail, JUMP_GREATER, Pass, Fail),
        "SCMP_CMP_GE" => ordered(Pass, Fail, JUMP_AT_LEAST, Pass, Fail),
        "SCMP_CMP_LT" => ordered(Fail, Pass, JUMP_AT_LEAST, Fail, Pass),
        "SCMP_CMP_LE" => ordered(Fail, Pass, JUMP_GREATER, Fail, Pass),
        "SCMP_CMP_MASKED_EQ" => {
            let (high, low_two) = halves(argument.value_two);
            vec![
                load(low + 4),
                (AND, Next, Next, high_value),
                (JUMP_EQUAL, Next, Fail, high),
                load(low),
                (AND, Next, Next, low_value),
                (JUMP_EQUAL, Pass, Fail, low_two),
            ]
        }
        other => {
            return Err(Error::field(
                format!("{at}.op"),
                other,
                "give SCMP_CMP_EQ, NE, LT, LE, GT, GE or MASKED_EQ",
            ));
        }
    })
}

//! The eBPF program that version 2 runs whenever a process of the group opens or makes a device node.
//!
//! It gets a pointer to `struct bpf_cgroup_dev_ctx` in r1, and returns 1 to allow or 0 to deny:
//!
//! ```text
//! offset 0   access_type   bits 0..16: 1 block, 2 character; bits 16..32: 1 mknod, 2 read, 4 write
//!        4   major
//!        8   minor
//! ```
//!
//! The last rule that covers a kind of access decides on it, so the rules run backwards: a rule
//! that allows takes its kinds out of those still asked for, and when none is left the answer is
//! yes; a rule that denies one still asked for answers no.
//!
//! ```text
//!     r2 = type   r3 = access asked for   r4 = major   r5 = minor
//!     for each rule, from the last to the first:
//!         if r2 != kind, r4 != major or r5 != minor: goto next      (each unless it is a wildcard)
//!         allow:  r3 &= ~access; if r3 != 0: goto next; return 1
//!         deny:   r0 = r3 & access; if r0 == 0: goto next; return 0
//!     next: …
//!     return 0
//! ```
//!
//! It is data until [`sys`](super::super::sys) hands it to the kernel, so the tests run it in an
//! interpreter of fifty lines. Source: the kernel's `Documentation/bpf/standardization`.

use super::super::sys::Instruction;
use super::{DeviceAccess, DeviceKind, DeviceRule};

/// `BPF_DEVCG_DEV_BLOCK`, `BPF_DEVCG_DEV_CHAR`.
pub(super) const BLOCK: i32 = 1;
pub(super) const CHAR: i32 = 2;

/// `*(u32 *)(src + offset)` into dst.
pub(super) const LOAD_WORD: u8 = 0x61;
/// 32-bit: dst = immediate.
pub(super) const MOVE_IMMEDIATE: u8 = 0xb4;
/// 32-bit: dst = src.
pub(super) const MOVE: u8 = 0xbc;
/// 32-bit: dst &= immediate.
pub(super) const AND_IMMEDIATE: u8 = 0x54;
/// 32-bit: dst >>= immediate, filling with zeros.
pub(super) const SHIFT_RIGHT_IMMEDIATE: u8 = 0x74;
/// 64-bit: if dst == immediate, skip `offset` instructions.
pub(super) const JUMP_IF_EQUAL: u8 = 0x15;
/// 64-bit: if dst != immediate, skip `offset` instructions.
pub(super) const JUMP_UNLESS_EQUAL: u8 = 0x55;
/// Return r0.
pub(super) const EXIT: u8 = 0x95;

/// The result, and scratch.
const R0: u8 = 0;
/// The context at the start.
const R1: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(op: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        op,
        registers: src << 4 | dst,
        offset,
        immediate,
    }
}

/// Assembles the program for valid rules.
pub(in super::super) fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, R1, 0, 0),
        instruction(MOVE, ACCESS, KIND, 0, 0),
        instruction(AND_IMMEDIATE, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_IMMEDIATE, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, R1, 4, 0),
        instruction(LOAD_WORD, MINOR, R1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        if rule.kind == DeviceKind::All
            && (rule.major, rule.minor) == (None, None)
            && rule.access == DeviceAccess::ALL
        {
            // Nothing gets past this one, and the verifier refuses code that cannot be reached.
            program.extend(answer(rule.allow));
            return program;
        }
        append(&mut program, rule);
    }
    program.extend(answer(false));
    program
}

/// Appends the block of one rule.
fn append(program: &mut Vec<Instruction>, rule: &DeviceRule) {
    let access = i32::from(rule.access.bits());
    let mut block = Vec::new();
    let kind = match rule.kind {
        DeviceKind::All => None,
        DeviceKind::Block => Some(BLOCK),
        DeviceKind::Char => Some(CHAR),
    };
    let number = |n: Option<u32>| n.map(|n| n as i32);
    for (register, value) in [
        (KIND, kind),
        (MAJOR, number(rule.major)),
        (MINOR, number(rule.minor)),
    ] {
        if let Some(value) = value {
            block.push(instruction(JUMP_UNLESS_EQUAL, register, 0, 0, value));
        }
    }
    if rule.allow {
        block.push(instruction(AND_IMMEDIATE, ACCESS, 0, 0, !access));
        block.push(instruction(JUMP_UNLESS_EQUAL, ACCESS, 0, 0, 0));
    } else {
        block.push(instruction(MOVE, R0, ACCESS, 0, 0));
        block.push(instruction(AND_IMMEDIATE, R0, 0, 0, access));
        block.push(instruction(JUMP_IF_EQUAL, R0, 0, 0, 0));
    }
    block.extend(answer(rule.allow));
    // Every jump of a block leads behind its end, and a block has at most eight instructions.
    let length = block.len();
    for (at, i) in block.iter_mut().enumerate() {
        if matches!(i.op, JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL) {
            i.offset = (length - at - 1) as i16;
        }
    }
    program.extend(block);
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        instruction(MOVE_IMMEDIATE, R0, 0, 0, i32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

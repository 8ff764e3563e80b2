//! From `linux.seccomp` to a program for the kernel's filter (`man 2 seccomp`,
//! `Documentation/userspace-api/seccomp_filter.rst`):
//!
//! ```text
//! which architecture? ── not listed: kill
//!   newer than every call that the profile knows? ── ENOSYS, so that programs fall back to older calls
//!   call 1? ── arguments match? ── its action
//!   call 2? …
//!   the default action
//! ```
//!
//! A call without conditions costs nothing: the kernel keeps a bitmap of those that are always allowed.

mod conditions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::syscalls;
use crate::spec::{Error, Seccomp, SeccompRule};
use conditions::{conditions, has_twice};

/// An instruction of the classic BPF machine: code, jump if true, jump if false, operand.
pub type Instruction = (u16, u8, u8, u32);

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where `struct seccomp_data` has the number, the architecture and the first argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` of <linux/seccomp.h>.
const NEW_LISTENER: u32 = 8;
/// `SECCOMP_FILTER_FLAG_TSYNC`.
const ALL_THREADS: u32 = 1;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
const WAIT_KILLABLE: u32 = 32;
const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;
/// The kernel's limit (`BPF_MAXINSNS`).
const MOST_INSTRUCTIONS: usize = 4096;

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` of <linux/audit.h>.
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
/// Set in the numbers of the x32 ABI, which is refused: hardly a kernel has it.
const X32_BIT: u32 = 0x4000_0000;

/// Architectures that no program here is of: the native one, and those that others have.
const OTHER_ARCHITECTURES: [&str; 23] = [
    "X86_64",
    "X32",
    "ARM",
    "AARCH64",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
    "NATIVE",
];

/// The program and the flags to load it with.
///
/// # Errors
/// A field that means nothing, or that this runtime cannot do.
pub fn compile(seccomp: &Seccomp) -> Result<(Vec<Instruction>, u32), Error> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Error::field(
            "linux.seccomp",
            std::env::consts::ARCH,
            "filters are made for x86_64 only",
        ));
    }
    let default = action(
        "linux.seccomp.defaultAction",
        &seccomp.default_action,
        ("linux.seccomp.defaultErrnoRet", seccomp.default_errno_ret),
    )?;
    let mut tables: Vec<(u32, &[(&str, u32)])> = vec![(X86_64, &syscalls::X86_64)];
    for (index, name) in seccomp.architectures.iter().enumerate() {
        match name.as_str() {
            "SCMP_ARCH_X86" => tables.push((I386, &syscalls::I386)),
            other
                if other
                    .strip_prefix("SCMP_ARCH_")
                    .is_some_and(|it| OTHER_ARCHITECTURES.contains(&it)) => {}
            other => {
                return Err(Error::field(
                    format!("linux.seccomp.architectures[{index}]"),
                    other,
                    "give SCMP_ARCH_X86_64, SCMP_ARCH_X86 or another of `config-linux.md`",
                ));
            }
        }
    }
    let mut program = Vec::new();
    for (architecture, table) in tables {
        let part = calls(seccomp, table, default)?;
        program.push((LOAD, 0, 0, ARCHITECTURE));
        program.push((JUMP_EQUAL, 1, 0, architecture));
        program.push((JUMP, 0, 0, part.len() as u32));
        program.extend(part);
    }
    program.push((RETURN, 0, 0, KILL_PROCESS));
    if program.len() > MOST_INSTRUCTIONS {
        return Err(Error::field(
            "linux.seccomp.syscalls",
            seccomp.syscalls.len(),
            "its program is longer than the kernel takes",
        ));
    }
    // A listener that is named is told even when nothing asks it, as with crun.
    let has_listener = notifies(seccomp)? || !seccomp.listener_path.is_empty();
    let listener = if has_listener { NEW_LISTENER } else { 0 };
    let flags = flags(seccomp)?;
    // There is one thread, and the kernel takes a listener with neither; without one, nobody waits for it.
    let flags = match listener {
        0 => flags & !WAIT_KILLABLE,
        _ => flags & !ALL_THREADS,
    };
    Ok((program, flags | listener))
}

/// The action of calls that a listener decides about.
pub const NOTIFY_NAME: &str = "SCMP_ACT_NOTIFY";

/// Whether some call is decided by a listener.
fn notifies(seccomp: &Seccomp) -> Result<bool, Error> {
    if seccomp.default_action == NOTIFY_NAME {
        let why = "SCMP_ACT_NOTIFY cannot be used as default action; the listener could never be passed on";
        return Err(Error::field(
            "linux.seccomp.defaultAction",
            NOTIFY_NAME,
            why,
        ));
    }
    let asks = |rule: &&SeccompRule| rule.action == NOTIFY_NAME;
    let Some(rule) = seccomp.syscalls.iter().position(|rule| asks(&rule)) else {
        return Ok(false);
    };
    let at = format!("linux.seccomp.syscalls[{rule}]");
    let written = |rule: &SeccompRule| rule.names.iter().any(|it| it == "write");
    if seccomp.syscalls.iter().filter(asks).any(written) {
        let why =
            "SCMP_ACT_NOTIFY cannot be used for the write syscall: the listener is told of by it";
        return Err(Error::field(format!("{at}.names"), "write", why));
    }
    if seccomp.listener_path.is_empty() {
        let why = "name the socket of who decides about SCMP_ACT_NOTIFY";
        return Err(Error::Missing {
            field: "linux.seccomp.listenerPath".into(),
            why,
        });
    }
    Ok(true)
}

/// As every runtime has it, a filter that names no flags does not slow its processes down by a
/// mitigation (`man 2 seccomp`, `SECCOMP_FILTER_FLAG_SPEC_ALLOW`).
fn flags(seccomp: &Seccomp) -> Result<u32, Error> {
    const SPEC_ALLOW: u32 = 4;
    let Some(names) = &seccomp.flags else {
        return Ok(SPEC_ALLOW);
    };
    let mut flags = 0;
    for (index, name) in names.iter().enumerate() {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => ALL_THREADS,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => WAIT_KILLABLE,
            other => {
                return Err(Error::field(
                    format!("linux.seccomp.flags[{index}]"),
                    other,
                    "this flag is not supported",
                ));
            }
        };
    }
    Ok(flags)
}

/// An action, by the field of its name and that of its errno.
fn action(field: &str, name: &str, errno: (&str, Option<u32>)) -> Result<u32, Error> {
    let data = errno.1.unwrap_or(libc::EPERM as u32);
    if data > 4095 {
        return Err(Error::field(errno.0, data, "an errno is 0 to 4095"));
    }
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => ERRNO | data,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => return Err(Error::field(field, other, "this action is not supported")),
    })
}

/// One architecture's part.
fn calls(
    seccomp: &Seccomp,
    table: &[(&str, u32)],
    default: u32,
) -> Result<Vec<Instruction>, Error> {
    let mut blocks: BTreeMap<u32, Vec<Instruction>> = BTreeMap::new();
    let mut is_decided: BTreeMap<u32, bool> = BTreeMap::new();
    for (index, rule) in seccomp.syscalls.iter().enumerate() {
        let at = format!("linux.seccomp.syscalls[{index}]");
        let errno = format!("{at}.errnoRet");
        let errno = (errno.as_str(), rule.errno_ret);
        let action = action(&format!("{at}.action"), &rule.action, errno)?;
        // All conditions have to hold, but as runc has it, of several on one argument any.
        let block = if has_twice(&rule.args) {
            let each = rule.args.chunks(1);
            let blocks = each.map(|one| conditions(&at, one, action));
            blocks.collect::<Result<Vec<_>, _>>()?.concat()
        } else {
            conditions(&at, &rule.args, action)?
        };
        // A name that this architecture does not have is for another one.
        let number = |name: &String| table.iter().find(|it| it.0 == name).map(|it| it.1);
        for number in rule.names.iter().filter_map(number) {
            // The first rule that matches holds: after one without conditions no other is asked.
            let decided = is_decided.entry(number).or_default();
            if !*decided {
                blocks.entry(number).or_default().extend(&block);
                *decided = rule.args.is_empty();
            }
        }
    }
    let mut program = vec![
        (LOAD, 0, 0, NUMBER),
        (JUMP_AT_LEAST, 0, 1, X32_BIT),
        (RETURN, 0, 0, ENOSYS),
    ];
    let is_refusal = default == 0 || default == KILL_PROCESS || default & 0xffff_0000 == ERRNO;
    if let (true, Some(newest)) = (is_refusal, blocks.keys().next_back()) {
        program.extend([(JUMP_GREATER, 0, 1, *newest), (RETURN, 0, 0, ENOSYS)]);
    }
    for (number, block) in blocks {
        program.push((JUMP_EQUAL, 1, 0, number));
        program.push((JUMP, 0, 0, block.len() as u32 + 1));
        program.extend(block);
        program.push((RETURN, 0, 0, default));
    }
    program.push((RETURN, 0, 0, default));
    Ok(program)
}

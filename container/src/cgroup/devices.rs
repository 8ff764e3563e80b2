//! Controller `devices`: which device nodes a group may open for reading or writing, or make.
//!
//! A list of rules counts in order, and the last that covers a device and a kind of access decides;
//! what no rule covers is denied. Version 1 takes rules as text in `devices.allow` and
//! `devices.deny`; version 2 runs an eBPF program of ours at every access, see [`program`].
//!
//! Sources: `cgroup-v1/devices.rst`, `cgroup-v2.rst` ("Device controller"),
//! `kernel/bpf/cgroup.c`, OCI `config-linux.md` ("Allowed Device list").

use std::fmt;
use std::os::fd::AsFd;

use super::directory::Directory;
use super::{Controller, Error, Group, Result, Version, sys};

pub(super) mod program;
mod v1;

/// Linux packs a device number into 12 bits of major and 20 bits of minor (`MINORBITS`).
const MAX_MAJOR: u32 = 0xfff;
const MAX_MINOR: u32 = 0xf_ffff;

/// A kind of device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Both kinds: `a`.
    All,
    /// Character devices: `c`.
    Char,
    /// Block devices: `b`.
    Block,
}

/// Kinds of access, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceAccess(u8);

impl DeviceAccess {
    /// Making the node; bit 0, as in the kernel's `BPF_DEVCG_ACC_MKNOD`.
    pub const MKNOD: DeviceAccess = DeviceAccess(1);
    /// Opening it for reading; bit 1.
    pub const READ: DeviceAccess = DeviceAccess(2);
    /// Opening it for writing; bit 2.
    pub const WRITE: DeviceAccess = DeviceAccess(4);
    /// All three.
    pub const ALL: DeviceAccess = DeviceAccess(7);

    /// Reads letters out of `rwm`; an empty list means all, as runc takes it. `None` for another
    /// letter.
    pub fn parse(letters: &str) -> Option<DeviceAccess> {
        if letters.is_empty() {
            return Some(DeviceAccess::ALL);
        }
        letters.chars().try_fold(DeviceAccess(0), |set, letter| {
            let bit = match letter {
                'm' => DeviceAccess::MKNOD,
                'r' => DeviceAccess::READ,
                'w' => DeviceAccess::WRITE,
                _ => return None,
            };
            Some(DeviceAccess(set.0 | bit.0))
        })
    }

    /// The kernel's bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    pub(super) const fn of(bits: u8) -> DeviceAccess {
        DeviceAccess(bits & DeviceAccess::ALL.0)
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [
            (DeviceAccess::READ, "r"),
            (DeviceAccess::WRITE, "w"),
            (DeviceAccess::MKNOD, "m"),
        ];
        letters
            .iter()
            .filter(|(bit, _)| self.0 & bit.0 != 0)
            .try_for_each(|(_, l)| f.write_str(l))
    }
}

/// Allows or denies access to some devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceRule {
    /// Whether it allows.
    pub allow: bool,
    /// Which kind of node.
    pub kind: DeviceKind,
    /// Major number, 0 to 4095; `None` for every one.
    pub major: Option<u32>,
    /// Minor number, 0 to 1048575; `None` for every one.
    pub minor: Option<u32>,
    /// Which kinds of access.
    pub access: DeviceAccess,
}

impl DeviceRule {
    /// The rule for everything.
    pub const fn everything(allow: bool) -> DeviceRule {
        DeviceRule {
            allow,
            kind: DeviceKind::All,
            major: None,
            minor: None,
            access: DeviceAccess::ALL,
        }
    }
}

/// As version 1 writes it, with `+` or `-` before it: `+c 1:3 rw`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            if self.allow { '+' } else { '-' },
            v1::text(self)
        )
    }
}

/// Checks that every rule can match something.
pub(super) fn validate(rules: &[DeviceRule]) -> Result<()> {
    for (index, rule) in rules.iter().enumerate() {
        let fail = |why| {
            Err(Error::DeviceRule {
                index,
                rule: *rule,
                why,
            })
        };
        if rule.major.is_some_and(|major| major > MAX_MAJOR) {
            return fail("the major number must be 0 to 4095, or absent for all");
        }
        if rule.minor.is_some_and(|minor| minor > MAX_MINOR) {
            return fail("the minor number must be 0 to 1048575, or absent for all");
        }
        if rule.access.0 == 0 {
            return fail("it names no access; give some of r, w and m");
        }
    }
    Ok(())
}

/// Makes `rules` the rules of the group, in the place of what held before.
pub(super) fn apply(rules: &[DeviceRule], group: &Group) -> Result<()> {
    let dir = group.joined(Controller::Devices)?;
    match dir.version() {
        Version::V1 => v1::apply(rules, dir),
        Version::V2 => attach(rules, dir),
    }
}

/// Version 2: loads a program for the rules and puts it in the place of the one before. Between
/// two programs there is no moment without any.
fn attach(rules: &[DeviceRule], dir: &Directory) -> Result<()> {
    let failed = |step| {
        move |source| Error::Bpf {
            step,
            path: dir.path().into(),
            source,
        }
    };
    let program = program::assemble(rules);
    let old = sys::attached_device_programs(dir.as_fd())
        .map_err(failed("list the attached device programs"))?;
    let program = sys::load_device_program(&program).map_err(failed("load the device program"))?;
    let replaced = if let [only] = &old[..] {
        Some(only.as_fd())
    } else {
        None
    };
    sys::attach_device_program(dir.as_fd(), program.as_fd(), replaced)
        .map_err(failed("attach the device program"))?;
    if old.len() > 1 {
        for program in &old {
            sys::detach_device_program(dir.as_fd(), program.as_fd())
                .map_err(failed("detach an old device program"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

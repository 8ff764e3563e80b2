//! Whom the users and groups of a new user namespace stand for (`man 7 user_namespaces`). An ordinary user may
//! map nobody but themself; for the numbers that an administrator lent them there are programs that may
//! (`man 1 newuidmap`, `man 5 subuid`).

use std::io;
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::bundle;
use super::executor::write_proc;
use crate::spec::{IdMapping, NamespaceKind, Spec};

/// Numbers that could not be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody is there who may do it.
    #[error(
        "cannot map its users (`linux.{field}`): an ordinary user maps others by {tool}, which is not there; install it (of Debian's package `uidmap`), run as root, or map 0 to this user alone"
    )]
    Missing {
        /// The program.
        tool: &'static str,
        /// The configuration's field.
        field: &'static str,
    },
    /// The program could not be executed.
    #[error("cannot map its users (`linux.{field}`): {tool}: {source}")]
    Start {
        /// The program.
        tool: &'static str,
        /// The configuration's field.
        field: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The program does not do it.
    #[error(
        "cannot map its users (`linux.{field}`): {tool} refuses: {said}; map what {list} lends this user, or ask an administrator for more"
    )]
    Refused {
        /// The program.
        tool: &'static str,
        /// The configuration's field.
        field: &'static str,
        /// Where it looks.
        list: &'static str,
        /// Its words.
        said: String,
    },
}

/// The file, the field that asks for it, who writes it for an ordinary user, and where that one looks.
const FILES: [(&str, &str, &str, &str); 2] = [
    ("uid_map", "uidMappings", "newuidmap", "/etc/subuid"),
    ("gid_map", "gidMappings", "newgidmap", "/etc/subgid"),
];

/// A new user namespace that says nothing of its users and groups, as callers of crun leave it, has root's own, or of
/// an ordinary user that one alone, as root.
pub fn complete(spec: &mut Spec) {
    let linux = &spec.linux;
    let says = !(linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty());
    if says || !bundle::is_new(spec, NamespaceKind::User) {
        return;
    }
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let map = |file: &str, own: u32| match user.is_root() {
        true => own_map(&std::fs::read_to_string(file).unwrap_or_default()),
        false => vec![mapping(0, own, 1)],
    };
    spec.linux.uid_mappings = map("/proc/self/uid_map", user.as_raw());
    spec.linux.gid_mappings = map("/proc/self/gid_map", group.as_raw());
}

fn mapping(container_id: u32, host_id: u32, size: u32) -> IdMapping {
    IdMapping {
        container_id,
        host_id,
        size,
    }
}

/// Every number that a process with this map has, as itself.
fn own_map(text: &str) -> Vec<IdMapping> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let (Some(Ok(first)), Some(Ok(size))) = (numbers.next(), numbers.nth(1)) else {
            return None;
        };
        Some(mapping(first, first, size))
    };
    text.lines().filter_map(line).collect()
}

/// Writes `uid_map` or `gid_map` of a child's, or has it written where the caller may not.
///
/// # Errors
/// [`super::Error::IdMap`], or the kernel's reason in [`super::Error::File`].
pub fn write(pid: i32, file: &'static str, text: &str) -> Result<(), super::Error> {
    match write_proc(pid, file, text) {
        Err(error) if error.errno() == Errno::EPERM => {}
        other => return other,
    }
    let (_, field, tool, list) = FILES[usize::from(file != "uid_map")];
    let output = Command::new(tool)
        .arg(pid.to_string())
        .args(text.split_whitespace())
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { tool, field },
        _ => Error::Start {
            tool,
            field,
            source,
        },
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches(tool);
    Err(super::Error::from(Error::Refused {
        tool,
        field,
        list,
        said: said.trim_start_matches(": ").replace('\n', "; "),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_numbers_are_those_inside_whatever_they_are_outside() {
        assert_eq!(
            own_map("         0       1000          1\n         1     100000      65536\n"),
            [mapping(0, 0, 1), mapping(1, 1, 65_536)]
        );
        assert_eq!(own_map("odd"), []);
    }
}

//! Whom the users and groups of a new user namespace stand for (`man 7 user_namespaces`). An ordinary user may
//! map nobody but themself; for the numbers that an administrator lent them there are programs that may
//! (`man 1 newuidmap`, `man 5 subuid`).

use std::io;
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::executor::write_proc;

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

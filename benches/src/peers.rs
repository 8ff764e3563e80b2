//! Other implementations of what Ringside does, as far as they are installed: who stands beside us in
//! a measurement, and in which version.
//!
//! A program on `PATH` is asked for its version once, and never waited for longer than
//! [`PATIENCE`]: it may be anything.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::child::{Child, ChildError};
use crate::interrupt::Interrupt;

/// How long a program gets to print its version.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// A program that Ringside can be compared with, or that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// What people call it.
    pub name: &'static str,
    /// What it is, in a few words.
    pub role: &'static str,
    /// The name of its program on `PATH`.
    #[serde(skip)]
    pub program: &'static str,
    /// What to do to get it.
    #[serde(skip)]
    pub install: &'static str,
}

/// The peers and tools that [`find`] is worth asking for.
pub const PEERS: [Peer; 5] = [
    Peer {
        name: "sysbench",
        role: "the benchmark that `primes` follows",
        program: "sysbench",
        install: "apt-get install sysbench",
    },
    Peer {
        name: "runc",
        role: "container runtime, in Go",
        program: "runc",
        install: "apt-get install runc",
    },
    Peer {
        name: "crun",
        role: "container runtime, in C",
        program: "crun",
        install: "apt-get install crun",
    },
    Peer {
        name: "QEMU",
        role: "virtual machine monitor, in C",
        program: "qemu-system-x86_64",
        install: "apt-get install qemu-system-x86",
    },
    Peer {
        name: "Firecracker",
        role: "virtual machine monitor, in Rust",
        program: "firecracker",
        install: "put a release's binary from https://github.com/firecracker-microvm/firecracker on PATH",
    },
];

/// An installed program and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Where on `PATH` it is.
    pub path: PathBuf,
    /// The first line that `--version` printed.
    pub version: String,
}

/// Why there is no version of a program.
#[derive(Debug, Error)]
pub enum PeerError {
    /// Nothing of that name is on `PATH`.
    #[error("not installed; {install}")]
    NotInstalled {
        /// What to do to get it.
        install: &'static str,
    },
    /// It is there, and does not run or does not answer.
    #[error("{} --version {source}; run it by hand to see why", path.display())]
    Failed {
        /// The program.
        path: PathBuf,
        /// What it did instead.
        source: ChildError,
    },
    /// It ended, or closed its output, without a word.
    #[error("{} --version printed nothing; install it again", path.display())]
    Empty {
        /// The program.
        path: PathBuf,
    },
}

/// Looks for every one of [`PEERS`], all at once, so that a silent one costs [`PATIENCE`] and no more.
pub fn find_all() -> Vec<(Peer, Result<Installed, PeerError>)> {
    thread::scope(|scope| {
        let searches = PEERS.map(|peer| (peer, scope.spawn(move || find(peer))));
        searches
            .into_iter()
            .map(|(peer, search)| (peer, search.join().expect("find does not panic")))
            .collect()
    })
}

/// Looks for one program on `PATH` and asks it for its version.
///
/// # Errors
/// [`PeerError`], whose text says what to do.
pub fn find(peer: Peer) -> Result<Installed, PeerError> {
    let path = on_path(peer.program).ok_or(PeerError::NotInstalled {
        install: peer.install,
    })?;
    let version = version(&path, PATIENCE)?;
    Ok(Installed { path, version })
}

/// The first executable file of that name in a folder of `PATH`, as `execvp` would choose it.
fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| {
            fs::metadata(path)
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}

/// The first line that `path --version` prints, without control characters. As soon as it is there, the
/// program and what it may have started are ended.
fn version(path: &Path, patience: Duration) -> Result<String, PeerError> {
    let failed = |source| PeerError::Failed {
        path: path.into(),
        source,
    };
    let mut command = Command::new(path);
    command.arg("--version");
    let interrupt = Interrupt::never().map_err(|error| failed(error.into()))?;
    let mut child = Child::spawn(command, patience, &interrupt).map_err(failed)?;
    let output = child.read_until(|output| output.trim_ascii_start().contains(&b'\n'));
    match printable(output.map_err(failed)?) {
        empty if empty.is_empty() => Err(PeerError::Empty { path: path.into() }),
        version => Ok(version),
    }
}

/// The first line of `output` as it may be shown on a terminal: it could hold an escape sequence.
fn printable(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.trim_start().lines().next().unwrap_or_default();
    line.trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .take(120)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that does what `script` says.
    fn program(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    fn version_of(script: &str, patience: Duration) -> Result<String, PeerError> {
        let (_folder, path) = program(script);
        version(&path, patience)
    }

    #[test]
    fn takes_the_first_line_that_is_not_blank() {
        let version = version_of("echo; echo ' peer 1.2 '; echo more", PATIENCE);
        assert_eq!(version.unwrap(), "peer 1.2");
    }

    #[test]
    fn does_not_wait_for_a_program_that_never_answers() {
        let silent = version_of("sleep 1000", Duration::from_millis(100));
        let message = silent.unwrap_err().to_string();
        assert!(message.contains("--version ended after"), "{message}");
    }

    #[test]
    fn does_not_wait_for_children_that_keep_the_output_open() {
        let version = version_of("sleep 1000 & echo peer 3", PATIENCE);
        assert_eq!(version.unwrap(), "peer 3");
    }

    #[test]
    fn says_that_a_program_printed_nothing() {
        let empty = version_of("exit 1", PATIENCE);
        assert!(matches!(empty, Err(PeerError::Empty { .. })), "{empty:?}");
    }

    #[test]
    fn shows_no_control_characters_and_no_endless_line() {
        let version = version_of(
            r"printf '\033[31mpeer\007 4 '; head -c 100000 /dev/zero | tr '\0' x",
            PATIENCE,
        );
        let version = version.unwrap();
        assert!(version.starts_with("[31mpeer 4 xxx"), "{version}");
        assert_eq!(version.len(), 120);
    }

    #[test]
    fn an_absent_program_comes_with_the_way_to_get_it() {
        let peer = Peer {
            program: "ringside-no-such-program",
            ..PEERS[1]
        };
        let error = find(peer).unwrap_err();
        assert_eq!(error.to_string(), "not installed; apt-get install runc");
    }

    #[test]
    fn a_folder_on_the_path_is_no_program() {
        assert_eq!(on_path("."), None);
        assert!(on_path("sh").is_some_and(|path| path.is_absolute()));
    }
}

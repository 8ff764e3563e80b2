//! Other implementations of what Ringside does, as far as they are installed: who stands beside us in
//! a measurement, and in which version.
//!
//! A program on `PATH` is asked for its version once, and never waited for longer than
//! [`PATIENCE`]: it may be anything.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;
use thiserror::Error;

/// How long a program gets to print its version.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// More than any program's first line of version has, in bytes.
const LINE_LIMIT_BYTES: u64 = 4096;

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
    /// It is there and cannot be started.
    #[error("cannot run {}: {source}; install it again", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It printed nothing in time.
    #[error("{} --version printed nothing within {} s; run it by hand to see what it waits for", path.display(), patience.as_secs())]
    Silent {
        /// The program.
        path: PathBuf,
        /// How long it got.
        patience: Duration,
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

/// The first line that `path --version` prints, without control characters.
///
/// The program leads a process group of its own, which is killed as soon as that line is there, so
/// that neither it nor a child of it stays.
fn version(path: &Path, patience: Duration) -> Result<String, PeerError> {
    let mut child = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|source| PeerError::Start {
            path: path.into(),
            source,
        })?;
    let output = child.stdout.take().expect("asked for above");
    // A read cannot be given up; a thread that waits in one can be left.
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut output = BufReader::new(output.take(LINE_LIMIT_BYTES));
        while line.trim_ascii().is_empty()
            && output
                .read_until(b'\n', &mut line)
                .is_ok_and(|bytes| bytes > 0)
        {}
        // The receiver may have given up.
        let _ = sender.send(line);
    });
    let line = receiver.recv_timeout(patience);
    // It may have ended on its own. It has not been waited for, so the number is still its.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    let _ = child.wait();
    let line = line.map_err(|_| PeerError::Silent {
        path: path.into(),
        patience,
    })?;
    match printable(&line) {
        empty if empty.is_empty() => Err(PeerError::Empty { path: path.into() }),
        version => Ok(version),
    }
}

/// A line as it may be shown on a terminal: what a program printed could be an escape sequence.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim()
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

    /// Runs it. A file that was just written may still be open for writing in a child that another
    /// test forked in between, until that child executes (`ETXTBSY`): try again.
    fn version_of(script: &str, patience: Duration) -> Result<String, PeerError> {
        let (_folder, path) = program(script);
        loop {
            match version(&path, patience) {
                Err(PeerError::Start { source, .. })
                    if source.kind() == io::ErrorKind::ExecutableFileBusy => {}
                other => return other,
            }
        }
    }

    #[test]
    fn takes_the_first_line_that_is_not_blank() {
        let version = version_of("echo; echo ' peer 1.2 '; echo more", PATIENCE);
        assert_eq!(version.unwrap(), "peer 1.2");
    }

    #[test]
    fn does_not_wait_for_a_program_that_never_answers() {
        let silent = version_of("sleep 1000", Duration::from_millis(100));
        assert!(
            matches!(silent, Err(PeerError::Silent { .. })),
            "{silent:?}"
        );
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

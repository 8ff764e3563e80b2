//! How a forked child enters its group cheaply.
//!
//! Moving another process (a pid written to `cgroup.procs`) takes a lock that keeps every process on
//! the machine from forking and exiting, and taking it waits for an RCU grace period: milliseconds.
//! A task that moves *itself alone* needs no lock (`cgroup_procs_write_start` in the kernel), which
//! in version 1 is a `0` written to `tasks`. A child that was just forked has one thread, so for it
//! this moves the whole process: 3 to 20 µs per hierarchy instead of 7,000 to 15,000.
//!
//! In version 2 `clone3(CLONE_INTO_CGROUP)` does the same at birth; the files here are the way for
//! kernels before 5.7.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::directory::{Directory, PROCS, write_all};
use super::{Error, Result, Version};

/// Version 1: the threads of a group; writing 0 moves the calling thread here.
const TASKS: &str = "tasks";

/// Open files through which the calling process enters a group.
///
/// The kernel checks the permissions of whoever *opened* the files, so a child that has given up its
/// rights can still enter.
#[derive(Debug)]
pub struct Entrance {
    doors: Vec<Door>,
}

#[derive(Debug)]
struct Door {
    path: PathBuf,
    fd: OwnedFd,
}

/// A door that did not open. [`Entrance::path`] tells which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot enter the cgroup (door {door}): {errno}")]
pub struct EntranceError {
    /// Which of the group's directories, from 0.
    pub door: usize,
    /// Why.
    pub errno: Errno,
}

impl Entrance {
    pub(super) fn open<'a>(directories: impl Iterator<Item = &'a Directory>) -> Result<Entrance> {
        let door = |dir: &Directory| {
            let name = match dir.version() {
                Version::V1 => TASKS,
                Version::V2 => PROCS,
            };
            let fd = dir
                .open_file(name, OFlag::O_WRONLY)
                .map_err(|source| Error::Write {
                    path: dir.file(name),
                    value: "0".into(),
                    source,
                })?;
            Ok(Door {
                path: dir.file(name),
                fd,
            })
        };
        Ok(Entrance {
            doors: directories.map(door).collect::<Result<_>>()?,
        })
    }

    /// Moves the calling process into every hierarchy of the group. Call it with one thread (after
    /// a fork): in version 1 only the calling thread moves.
    ///
    /// It does nothing but `write`, so it is safe between fork and exec.
    ///
    /// # Errors
    /// The first door that did not open; the process then stands in the doors before it.
    pub fn enter(&self) -> Result<(), EntranceError> {
        for (door, d) in self.doors.iter().enumerate() {
            write_all(d.fd.as_fd(), b"0").map_err(|errno| EntranceError { door, errno })?;
        }
        Ok(())
    }

    /// The file behind a door, for the message that the parent prints.
    pub fn path(&self, door: usize) -> Option<&Path> {
        self.doors.get(door).map(|d| d.path.as_path())
    }
}

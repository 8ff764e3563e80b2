//! Groups that live as long as one run of the command line.
//!
//! Each run holds a lock (`man 2 flock`) on its group's directories, which the kernel drops when the
//! process ends, however it ends. So a group that can be locked has no run any more. No process
//! number is trusted, since numbers are reused.
//!
//! ```text
//! run                                     sweep
//! mkdir ringside-PID-N                    open
//! open, lock      (if locked: next N)     lock            (if locked: its run is alive)
//! still there?    (if not: next N)        rmdir           (if busy: somebody lives in it)
//! ```
//!
//! Whoever gets the lock first wins: a [sweep](super::sweep) that comes between `mkdir` and `lock`
//! removes the new group, its run notices, and makes another.

use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::directory::{Directory, PROCS};
use super::group::Existing;
use super::{Controllers, Error, Group, Layout, Result};

/// How the names of such groups begin; then come the run's process number and a counter, which make
/// the name readable and unlikely to be taken.
pub const PREFIX: &str = "ringside-";

/// How many names are tried before giving up.
const NAMES: u32 = 1000;

/// A group for one run. It lives beside whatever runs this process: below its own group in version
/// 1, and in version 2 where groups with processes leave room. Dropping it kills what is left in it
/// and removes it.
#[derive(Debug)]
pub struct Ephemeral {
    group: Group,
    /// Held until the group is gone.
    locks: Vec<Flock<OwnedFd>>,
}

impl Ephemeral {
    /// Makes a group with a name that no other run has.
    ///
    /// # Errors
    /// As [`Group::create`].
    pub fn create(layout: &Layout, controllers: Controllers) -> Result<Ephemeral> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut tries = 0;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}", std::process::id());
            let error = match Group::make(
                layout,
                Path::new(&name),
                controllers.into(),
                Existing::Refuse,
            ) {
                Ok(group) => match lock_all(&group)? {
                    Some(locks) => return Ok(Ephemeral { group, locks }),
                    None => {
                        group.remove()?;
                        Error::Path {
                            path: name.into(),
                            why: "every name is taken or swept away at once; try again",
                        }
                    }
                },
                Err(error) => error,
            };
            tries += 1;
            // Taken (another pid namespace has the same number), or swept away while it was made: what is
            // open of a group that is gone says ENODEV.
            let again = match &error {
                Error::Path { .. } => true,
                error => matches!(
                    error.errno(),
                    Some(Errno::EEXIST | Errno::ENOENT | Errno::ENODEV)
                ),
            };
            if !again || tries == NAMES {
                return Err(error);
            }
        }
    }

    /// The group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Kills what is left in the group and removes it.
    ///
    /// # Errors
    /// As [`Group::kill`] and [`Group::remove`].
    pub fn finish(mut self) -> Result<()> {
        self.clear()
    }

    fn clear(&mut self) -> Result<()> {
        if self.group.directories().is_empty() {
            return Ok(());
        }
        // The common case first: everything has ended, and one rmdir for each hierarchy is all.
        match self.group.remove_at_once() {
            Err(Error::Busy { .. }) => {
                self.group.kill()?;
                self.group.remove()?;
            }
            other => other?,
        }
        self.group = Group::none();
        self.locks.clear();
        Ok(())
    }
}

impl Deref for Ephemeral {
    type Target = Group;
    fn deref(&self) -> &Group {
        &self.group
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        // Nobody is left to tell; a sweep will find what could not be removed.
        let _ = self.clear();
    }
}

/// Locks all directories of a new group; `None` if a sweep was faster.
fn lock_all(group: &Group) -> Result<Option<Vec<Flock<OwnedFd>>>> {
    let mut locks = Vec::new();
    for dir in group.directories() {
        match lock(dir)? {
            Some(lock) if dir.has(PROCS) => locks.push(lock),
            _ => return Ok(None),
        }
    }
    Ok(Some(locks))
}

/// Locks a directory; `None` if somebody else has.
pub(super) fn lock(dir: &Directory) -> Result<Option<Flock<OwnedFd>>> {
    let failed = |source| Error::Open {
        path: dir.path().into(),
        source,
    };
    // The copy shares the lock with the original: it is held until both are closed, or until the
    // guard is dropped.
    let fd = dir
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| failed(super::directory::errno_of(&e)))?;
    match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, source)) => Err(failed(source)),
    }
}

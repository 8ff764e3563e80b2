//! Ending every process of a group, including those that are being forked right now.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::{Error, FreezerState, Group, Result, sys};

/// Version 2, since Linux 5.14: 1 kills every process of the group and below.
const V2_KILL: &str = "cgroup.kill";

/// How often the group is looked at, with pauses that double from 50 µs to 20 ms: about two seconds
/// in all.
const TRIES: u32 = 108;
/// In every so many of them the signals are sent again.
const ROUND: u32 = 16;

impl Group {
    /// Sends `signal` to every process of the group and of the groups below it once, and returns to
    /// how many. Processes outside of the caller's pid namespace cannot be signalled.
    ///
    /// A process number may be reused between reading it and signalling it. So a descriptor is
    /// opened for each number first, and only those that are *then* still listed are signalled: a
    /// descriptor of a process that was not in the group has a number that is not listed any more,
    /// or is dead.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::System`].
    pub fn signal(&self, signal: Signal) -> Result<usize> {
        let mut open = Vec::new();
        for pid in self.processes()?.into_iter().filter(|pid| *pid > 0) {
            match sys::pidfd_open(pid) {
                Ok(fd) => open.push((pid, fd)),
                Err(Errno::ESRCH | Errno::EINVAL) => {}
                Err(source) => {
                    return Err(Error::System {
                        what: "open a descriptor for a process of the group",
                        source,
                    });
                }
            }
        }
        let listed = self.processes()?;
        let mut sent = 0;
        for (_, fd) in open
            .iter()
            .filter(|(pid, _)| listed.binary_search(pid).is_ok())
        {
            match sys::pidfd_send_signal(fd.as_fd(), signal as i32) {
                Ok(()) => sent += 1,
                Err(Errno::ESRCH) => {}
                Err(source) => {
                    return Err(Error::System {
                        what: "signal a process of the group",
                        source,
                    });
                }
            }
        }
        Ok(sent)
    }

    /// Kills every process of the group and of the groups below it, frozen or not, and waits until
    /// none is left. (Their parents still have to reap them.) A group that is gone has none.
    ///
    /// Version 2 does it in one write, also for a group that is in both versions. Version 1 alone is
    /// frozen first, so that nothing can fork while the signals go out, and thawed so that they are
    /// received; without a freezer the signals are repeated until nothing is left.
    ///
    /// # Errors
    /// [`Error::SelfInside`] when the caller is one of them; [`Error::Busy`] with the processes that
    /// are still there after two seconds.
    pub fn kill(&self) -> Result<()> {
        self.refuse_self("kill")?;
        let unified = self.unified().filter(|dir| dir.has(V2_KILL));
        if let Some(dir) = unified {
            unless_gone(dir.write(V2_KILL, "1"))?;
        }
        let mut pause = Duration::from_micros(50);
        for attempt in 0..TRIES {
            if self.processes()?.is_empty() {
                return Ok(());
            }
            // A second round is only of use if something forked past the first, or (where version 2
            // has killed already) has left its version 2 group.
            let is_round = attempt % ROUND == if unified.is_some() { ROUND - 1 } else { 0 };
            let frozen = is_round && self.freezer().is_ok() && self.freeze().is_ok();
            if is_round || unified.is_none() {
                self.signal(Signal::SIGKILL)?;
            }
            let stands = || {
                self.freezer_state()
                    .is_ok_and(|s| s != FreezerState::Thawed)
            };
            if frozen || ((attempt == 0 || is_round) && stands()) {
                unless_gone(self.thaw())?;
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Err(Error::Busy {
            path: self.paths().next().unwrap_or("".as_ref()).into(),
            processes: self.processes()?,
        })
    }
}

/// Somebody who waits for the last process may remove the group while it is still being killed.
fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(()),
        other => other,
    }
}

//! Controller `freezer`: stops all processes of a group at once, with nothing that they could catch.
//!
//! Version 1 answers `FREEZING` until the last task has stopped, and one that forks at the wrong
//! moment can keep it there: write again, and thaw now and then. Version 2 reports the end in
//! `cgroup.events`, on which one can wait. A process that is frozen by version 1 does not die of
//! SIGKILL before it is thawed; in version 2 it does.
//!
//! Sources: `cgroup-v1/freezer-subsystem.rst`, `cgroup-v2.rst` ("cgroup.freeze").

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::directory::Directory;
use super::{Controller, Error, Group, Result, Version, value};

/// `THAWED`, `FREEZING` or `FROZEN`; write the first or the last.
const V1_STATE: &str = "freezer.state";
/// 1 freezes, 0 thaws.
const V2_FREEZE: &str = "cgroup.freeze";
/// `populated 0|1` and `frozen 0|1`, with a notification on change.
pub(super) const V2_EVENTS: &str = "cgroup.events";

/// How often version 1 is asked. Every 50th time the group is thawed for 10 ms, so that a task which
/// the freezer cannot reach gets on.
const V1_TRIES: u32 = 1000;
/// How often version 2 is looked at, at the latest every 100 ms.
const V2_TRIES: u32 = 100;

/// Whether a group runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezerState {
    /// It runs.
    Thawed,
    /// Some of it runs still.
    Freezing,
    /// Nothing runs.
    Frozen,
}

impl Group {
    /// Stops all processes of the group and of the groups below it, and returns when they stand.
    ///
    /// # Errors
    /// [`Error::NotJoined`] without the controller `freezer` and without version 2;
    /// [`Error::SelfInside`] when the caller would freeze itself; [`Error::Stuck`] when some task
    /// (in a system call that cannot be interrupted) does not stop: then the group runs again.
    pub fn freeze(&self) -> Result<()> {
        let dir = self.freezer()?;
        self.refuse_self("freeze")?;
        let frozen = match dir.version() {
            Version::V1 => freeze_v1(dir),
            Version::V2 => dir.write(V2_FREEZE, "1").and_then(|()| wait_v2(dir, true)),
        };
        if frozen.is_err() {
            // Half frozen would be worse than not at all; the first error is the one to report.
            let _ = self.thaw();
        }
        frozen
    }

    /// Lets the processes of a frozen group go on.
    ///
    /// # Errors
    /// [`Error::NotJoined`], or [`Error::Stuck`] when a group above is frozen.
    pub fn thaw(&self) -> Result<()> {
        let dir = self.freezer()?;
        match dir.version() {
            Version::V1 => {
                dir.write(V1_STATE, "THAWED")?;
                match state_v1(dir)? {
                    FreezerState::Thawed => Ok(()),
                    state => Err(stuck(
                        dir,
                        "thawed (a group above it may be frozen)",
                        1,
                        state,
                    )),
                }
            }
            Version::V2 => dir.write(V2_FREEZE, "0").and_then(|()| wait_v2(dir, false)),
        }
    }

    /// Whether the group runs.
    ///
    /// # Errors
    /// [`Error::NotJoined`], [`Error::Read`] or [`Error::Malformed`].
    pub fn freezer_state(&self) -> Result<FreezerState> {
        state(self.freezer()?)
    }

    /// Where freezing happens: the controller of version 1 if the group joined it, else any
    /// directory of version 2.
    ///
    /// # Errors
    /// [`Error::NotJoined`].
    pub fn freezer(&self) -> Result<&Directory> {
        let dir = self.directory(Controller::Freezer).or(self.unified());
        dir.map_or_else(|| self.joined(Controller::Freezer), Ok)
    }

    pub(super) fn refuse_self(&self, what: &'static str) -> Result<()> {
        match self.processes()?.contains(&(std::process::id() as i32)) {
            true => Err(Error::SelfInside {
                what,
                path: self.paths().next().unwrap_or("".as_ref()).into(),
            }),
            false => Ok(()),
        }
    }
}

fn stuck(dir: &Directory, wanted: &'static str, tries: u32, state: FreezerState) -> Error {
    Error::Stuck {
        path: dir.path().into(),
        wanted,
        tries,
        state: format!("{state:?}").to_lowercase().into(),
    }
}

/// Whether the group of a directory runs.
pub(super) fn state(dir: &Directory) -> Result<FreezerState> {
    match dir.version() {
        Version::V1 => state_v1(dir),
        Version::V2 => state_v2(dir),
    }
}

fn state_v1(dir: &Directory) -> Result<FreezerState> {
    let text = dir.read(V1_STATE)?;
    match text.trim() {
        "THAWED" => Ok(FreezerState::Thawed),
        "FREEZING" => Ok(FreezerState::Freezing),
        "FROZEN" => Ok(FreezerState::Frozen),
        _ => Err(Error::malformed(
            &dir.file(V1_STATE),
            &text,
            "THAWED, FREEZING or FROZEN",
        )),
    }
}

fn freeze_v1(dir: &Directory) -> Result<()> {
    let mut state = FreezerState::Thawed;
    for i in 0..V1_TRIES {
        if i % 50 == 49 {
            dir.write(V1_STATE, "THAWED")?;
            sleep(Duration::from_millis(10));
        }
        dir.write(V1_STATE, "FROZEN")?;
        if i % 25 == 24 {
            sleep(Duration::from_micros(10));
        }
        state = state_v1(dir)?;
        if state == FreezerState::Frozen {
            return Ok(());
        }
    }
    Err(stuck(dir, "frozen", V1_TRIES, state))
}

fn state_v2(dir: &Directory) -> Result<FreezerState> {
    let frozen = dir.read_keyed(V2_EVENTS)?.get("frozen") == Some(&1);
    let wanted = dir.read(V2_FREEZE)?.trim() == "1";
    Ok(match (frozen, wanted) {
        (true, _) => FreezerState::Frozen,
        (false, true) => FreezerState::Freezing,
        (false, false) => FreezerState::Thawed,
    })
}

/// Waits until `cgroup.events` says so.
fn wait_v2(dir: &Directory, frozen: bool) -> Result<()> {
    let failed = |source| Error::Read {
        path: dir.file(V2_EVENTS),
        source,
    };
    let events = dir.open_file(V2_EVENTS, OFlag::O_RDONLY).map_err(failed)?;
    for _ in 0..V2_TRIES {
        let bytes = super::directory::reread(events.as_fd()).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        if value::keyed(&text).get("frozen") == Some(&u64::from(frozen)) {
            return Ok(());
        }
        let mut wait = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        // An interrupted wait is just a shorter one.
        let _ = poll(&mut wait, PollTimeout::from(100u8));
    }
    let wanted = if frozen {
        "frozen"
    } else {
        "thawed (a group above it may be frozen)"
    };
    Err(stuck(dir, wanted, V2_TRIES, state_v2(dir)?))
}

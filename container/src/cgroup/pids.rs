//! Controller `pids`: how many processes and threads a group may have. Beyond it, `fork` and
//! `clone` fail with EAGAIN inside the group, and a fork bomb stays harmless.
//!
//! Sources: `cgroup-v1/pids.rst`, `cgroup-v2.rst` ("PID"). Both versions use the same files.

use super::{Controller, Error, Group, Limit, Result};

/// Tasks (threads count too); `max` for no bound.
const MAX: &str = "pids.max";
/// Tasks now, descendants included.
const CURRENT: &str = "pids.current";
/// Most tasks ever at once.
const PEAK: &str = "pids.peak";
/// `max N`: how often a fork was refused.
const EVENTS: &str = "pids.events";

/// The kernel's `PID_MAX_LIMIT` on 64-bit machines: no larger bound is taken.
pub const MOST_TASKS: u64 = 4_194_304;

/// Limit of `pids`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// Tasks, threads included.
    pub max: Option<Limit>,
}

/// Use of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidsStats {
    /// Tasks now.
    pub current: u64,
    /// Most tasks ever at once, where the kernel tells (since 6.1).
    pub peak: Option<u64>,
    /// The bound.
    pub limit: Limit,
    /// How often a fork was refused by this bound.
    pub refused: u64,
}

impl Pids {
    pub(super) fn is_set(&self) -> bool {
        self.max.is_some()
    }

    pub(super) fn validate(&self) -> Result<()> {
        match self.max {
            Some(Limit::At(max)) if max > MOST_TASKS => Err(Error::invalid(
                "pids limit",
                max,
                "it must not exceed 4194304; use max for none",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn apply(&self, group: &Group) -> Result<()> {
        match self.max {
            Some(max) => group.joined(Controller::Pids)?.write(MAX, &max.to_string()),
            None => Ok(()),
        }
    }
}

/// Reads the use of tasks, if the group joined the controller.
pub(super) fn stats(group: &Group) -> Result<Option<PidsStats>> {
    let Some(dir) = group.directory(Controller::Pids) else {
        return Ok(None);
    };
    Ok(Some(PidsStats {
        current: dir.read_number(CURRENT)?,
        peak: dir.optional_number(PEAK)?,
        limit: dir.read_limit(MAX)?,
        refused: dir.optional_keyed(EVENTS)?.get("max").copied().unwrap_or(0),
    }))
}

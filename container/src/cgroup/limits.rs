//! What a group may use: one field for each controller.

use super::{Controller, Controllers, Cpu, Cpuset, Group, Memory, Pids, Result};

/// Limits for a group. What is `None` or empty is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Processor time.
    pub cpu: Cpu,
    /// Processors and memory nodes.
    pub cpuset: Cpuset,
    /// Memory and swap.
    pub memory: Memory,
    /// Number of tasks.
    pub pids: Pids,
}

impl Limits {
    /// The controllers that are needed to hold these limits.
    pub fn controllers(&self) -> Controllers {
        let needed = [
            (Controller::Cpu, self.cpu.is_set()),
            (Controller::Cpuset, self.cpuset.is_set()),
            (Controller::Memory, self.memory.is_set()),
            (Controller::Pids, self.pids.is_set()),
        ];
        needed
            .into_iter()
            .filter(|(_, set)| *set)
            .map(|(c, _)| c)
            .collect()
    }

    /// Checks every value against what any kernel takes, without looking at the host.
    ///
    /// # Errors
    /// [`Error::Invalid`](super::Error::Invalid) with the knob, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.cpu.validate()?;
        self.cpuset.validate()?;
        self.memory.validate()?;
        self.pids.validate()
    }

    /// Writes what is set. The order is runc's, tasks and memory first, so that a group is bounded
    /// before it is tuned.
    pub(super) fn apply(&self, group: &Group) -> Result<()> {
        if self.pids.is_set() {
            self.pids.apply(group)?;
        }
        if self.memory.is_set() {
            self.memory.apply(group)?;
        }
        if self.cpu.is_set() {
            self.cpu.apply(group)?;
        }
        if self.cpuset.is_set() {
            self.cpuset.apply(group)?;
        }
        Ok(())
    }
}

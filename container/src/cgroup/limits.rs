//! What a group may use: one field for each controller.

use super::{
    Controller, Controllers, Cpu, Cpuset, DeviceRule, Group, Hugetlb, Io, Memory, Pids, Rdma,
    Result, Unified, devices, hugetlb, net_cls, net_prio, rdma, unified,
};

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
    /// Block devices.
    pub io: Io,
    /// Huge pages, by page size.
    pub hugetlb: Hugetlb,
    /// InfiniBand, by adapter.
    pub rdma: Rdma,
    /// The class of the group's packets; version 1 only.
    pub network_class: Option<u32>,
    /// Priorities by network interface; version 1 only.
    pub network_priorities: Vec<(String, u32)>,
    /// Rules for device nodes, which replace those that held before. What no rule covers is denied;
    /// no rules at all mean that nothing is changed.
    pub devices: Vec<DeviceRule>,
    /// Control files of version 2 by name.
    pub unified: Unified,
}

impl Limits {
    /// The controllers that are needed to hold these limits.
    pub fn controllers(&self) -> Controllers {
        let needed = [
            (Controller::Cpu, self.cpu.is_set()),
            (Controller::Cpuset, self.cpuset.is_set()),
            (Controller::Memory, self.memory.is_set()),
            (Controller::Pids, self.pids.is_set()),
            (Controller::Io, self.io.is_set()),
            (Controller::Hugetlb, !self.hugetlb.is_empty()),
            (Controller::Rdma, !self.rdma.is_empty()),
            (Controller::NetCls, self.network_class.is_some()),
            (Controller::NetPrio, !self.network_priorities.is_empty()),
            (Controller::Devices, !self.devices.is_empty()),
        ];
        let set = needed.into_iter().filter(|(_, set)| *set).map(|(c, _)| c);
        set.collect::<Controllers>()
            .union(unified::controllers(&self.unified))
    }

    /// Checks every value against what any kernel takes, without looking at the host.
    ///
    /// # Errors
    /// [`Error::Invalid`](super::Error::Invalid) with the knob, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.cpu.validate()?;
        self.cpuset.validate()?;
        self.memory.validate()?;
        self.pids.validate()?;
        self.io.validate()?;
        hugetlb::validate(&self.hugetlb)?;
        rdma::validate(&self.rdma)?;
        net_prio::validate(&self.network_priorities)?;
        devices::validate(&self.devices)?;
        unified::validate(&self.unified)
    }

    /// Writes what is set, tasks and memory first, so that a group is bounded before it is tuned,
    /// and unified keys last, so that they can correct the rest.
    pub(super) fn apply(&self, group: &Group) -> Result<()> {
        if self.pids.is_set() {
            self.pids.apply(group)?;
        }
        if self.memory.is_set() {
            self.memory.apply(group)?;
        }
        if self.io.is_set() {
            self.io.apply(group)?;
        }
        if self.cpu.is_set() {
            self.cpu.apply(group)?;
        }
        if self.cpuset.is_set() {
            self.cpuset.apply(group)?;
        }
        if !self.devices.is_empty() {
            devices::apply(&self.devices, group)?;
        }
        if !self.hugetlb.is_empty() {
            hugetlb::apply(&self.hugetlb, group)?;
        }
        if !self.rdma.is_empty() {
            rdma::apply(&self.rdma, group)?;
        }
        if let Some(class) = self.network_class {
            net_cls::apply(class, group)?;
        }
        if !self.network_priorities.is_empty() {
            net_prio::apply(&self.network_priorities, group)?;
        }
        if !self.unified.is_empty() {
            unified::apply(&self.unified, group)?;
        }
        Ok(())
    }
}

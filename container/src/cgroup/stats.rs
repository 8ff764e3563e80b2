//! What a group has used: one field for each controller that it joined.

use std::collections::BTreeMap;

use super::{
    BlockDevice, Controller, CpuStats, CpusetStats, Group, HugetlbStats, IoStats, MemoryStats,
    PidsStats, Rdma, Result,
};

/// Statistics of a group; `None` where it did not join the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time and throttling.
    pub cpu: Option<CpuStats>,
    /// Processors and memory nodes.
    pub cpuset: Option<CpusetStats>,
    /// Memory and swap.
    pub memory: Option<MemoryStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub io: Option<BTreeMap<BlockDevice, IoStats>>,
    /// Huge pages, by page size.
    pub hugetlb: Option<BTreeMap<String, HugetlbStats>>,
    /// InfiniBand resources that are held, by adapter.
    pub rdma: Option<Rdma>,
}

impl Stats {
    pub(super) fn read(group: &Group) -> Result<Stats> {
        let cpuset = group.directory(Controller::Cpuset);
        Ok(Stats {
            cpu: super::cpu::stats(group)?,
            cpuset: cpuset.map(super::cpuset::stats).transpose()?,
            memory: super::memory::stats(group)?,
            pids: super::pids::stats(group)?,
            io: super::io::stats(group)?,
            hugetlb: super::hugetlb::stats(group)?,
            rdma: super::rdma::stats(group)?,
        })
    }
}

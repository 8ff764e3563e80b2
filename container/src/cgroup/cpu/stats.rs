//! What a group has used of the processors.

use super::super::{Controller, Group, Result, Version};

/// Both versions: periods and throttling; in version 2 usage in microseconds too.
const STAT: &str = "cpu.stat";
/// Version 1: nanoseconds used since the group was made.
const V1_USAGE: &str = "cpuacct.usage";
/// Version 1: nanoseconds in user mode.
const V1_USAGE_USER: &str = "cpuacct.usage_user";
/// Version 1: nanoseconds in kernel mode.
const V1_USAGE_SYS: &str = "cpuacct.usage_sys";
/// Version 1: nanoseconds on each processor, separated by spaces.
const V1_USAGE_PERCPU: &str = "cpuacct.usage_percpu";

/// Use of processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Total, in µs.
    pub usage_us: u64,
    /// In user mode, in µs.
    pub user_us: u64,
    /// In kernel mode, in µs.
    pub system_us: u64,
    /// On each processor, in µs; version 1 only.
    pub per_cpu_us: Vec<u64>,
    /// Periods that passed while the group wanted to run under a quota.
    pub periods: u64,
    /// Periods in which it was throttled.
    pub throttled_periods: u64,
    /// How long it was throttled, summed over processors, in µs.
    pub throttled_us: u64,
}

/// Reads the use of processors: from any version 2 directory of the group (all have it), else from
/// version 1's `cpuacct`; throttling from wherever `cpu` is.
pub(in super::super) fn stats(group: &Group) -> Result<Option<CpuStats>> {
    let mut stats = CpuStats::default();
    let unified = group
        .directories()
        .iter()
        .find(|d| d.version() == Version::V2);
    let cpu = group.directory(Controller::Cpu);
    let account = group
        .directory(Controller::Cpuacct)
        .filter(|d| d.version() == Version::V1);
    if let Some(dir) = account {
        stats.usage_us = dir.read_number(V1_USAGE)? / 1000;
        stats.user_us = dir.optional_number(V1_USAGE_USER)?.unwrap_or(0) / 1000;
        stats.system_us = dir.optional_number(V1_USAGE_SYS)?.unwrap_or(0) / 1000;
        let each = dir.read_optional(V1_USAGE_PERCPU)?.unwrap_or_default();
        let number = |n: &str| n.parse::<u64>().ok().map(|ns| ns / 1000);
        stats.per_cpu_us = each.split_ascii_whitespace().filter_map(number).collect();
    } else if let Some(dir) = unified {
        let stat = dir.read_keyed(STAT)?;
        let get = |key| stat.get(key).copied().unwrap_or(0);
        stats.usage_us = get("usage_usec");
        stats.user_us = get("user_usec");
        stats.system_us = get("system_usec");
    }
    if let Some(dir) = cpu {
        let stat = dir.read_keyed(STAT)?;
        let get = |key| stat.get(key).copied();
        stats.periods = get("nr_periods").unwrap_or(0);
        stats.throttled_periods = get("nr_throttled").unwrap_or(0);
        // Version 1 counts in ns under another name.
        let v1 = get("throttled_time").map(|ns| ns / 1000);
        stats.throttled_us = get("throttled_usec").or(v1).unwrap_or(0);
    }
    let known = cpu.is_some() || account.is_some() || unified.is_some();
    Ok(known.then_some(stats))
}

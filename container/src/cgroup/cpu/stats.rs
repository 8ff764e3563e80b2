//! What a group has used of the processors.

use super::super::directory::Directory;
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

/// Use of processors; what the group did not join is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Time used: with `cpuacct`, or with any version 2 hierarchy.
    pub usage: Option<CpuUsage>,
    /// Time denied: with `cpu`.
    pub throttling: Option<Throttling>,
}

/// Processor time that a group has used since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// In all, in µs.
    pub total_us: u64,
    /// In user mode, in µs.
    pub user_us: u64,
    /// In kernel mode, in µs.
    pub system_us: u64,
    /// On each processor, in µs; version 1 only.
    pub per_cpu_us: Vec<u64>,
}

/// What a quota has done to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods that passed while the group wanted to run under a quota.
    pub periods: u64,
    /// Periods in which it was throttled.
    pub throttled_periods: u64,
    /// How long it was throttled, summed over processors, in µs.
    pub throttled_us: u64,
    /// Periods in which it spent quota that it had saved.
    pub burst_periods: u64,
    /// How much saved quota it spent, in µs.
    pub burst_us: u64,
}

/// Reads the use of processors: time from version 1's `cpuacct` or any version 2 directory of the
/// group, throttling from wherever `cpu` is. `None` if there is neither.
pub(in super::super) fn stats(group: &Group) -> Result<Option<CpuStats>> {
    let v1 = |d: &&Directory| d.version() == Version::V1;
    let usage = match group.directory(Controller::Cpuacct).filter(v1) {
        Some(dir) => Some(usage_v1(dir)?),
        None => group.unified().map(usage_v2).transpose()?,
    };
    let throttling = group
        .directory(Controller::Cpu)
        .map(throttling)
        .transpose()?;
    let known = usage.is_some() || throttling.is_some();
    Ok(known.then_some(CpuStats { usage, throttling }))
}

fn usage_v1(dir: &Directory) -> Result<CpuUsage> {
    let optional = |file| dir.optional_number(file).map(|ns| ns.unwrap_or(0) / 1000);
    let each = dir.read_optional(V1_USAGE_PERCPU)?.unwrap_or_default();
    let number = |n: &str| n.parse::<u64>().ok().map(|ns| ns / 1000);
    Ok(CpuUsage {
        total_us: dir.read_number(V1_USAGE)? / 1000,
        user_us: optional(V1_USAGE_USER)?,
        system_us: optional(V1_USAGE_SYS)?,
        per_cpu_us: each.split_ascii_whitespace().filter_map(number).collect(),
    })
}

fn usage_v2(dir: &Directory) -> Result<CpuUsage> {
    let stat = dir.read_keyed(STAT)?;
    let get = |key| stat.get(key).copied().unwrap_or(0);
    Ok(CpuUsage {
        total_us: get("usage_usec"),
        user_us: get("user_usec"),
        system_us: get("system_usec"),
        per_cpu_us: Vec::new(),
    })
}

fn throttling(dir: &Directory) -> Result<Throttling> {
    let stat = dir.read_keyed(STAT)?;
    let get = |key| stat.get(key).copied();
    // Version 1 counts in ns, under other names.
    let us = |v2, v1| get(v2).or(get(v1).map(|ns| ns / 1000)).unwrap_or(0);
    Ok(Throttling {
        periods: get("nr_periods").unwrap_or(0),
        throttled_periods: get("nr_throttled").unwrap_or(0),
        throttled_us: us("throttled_usec", "throttled_time"),
        burst_periods: get("nr_bursts").unwrap_or(0),
        burst_us: us("burst_usec", "burst_time"),
    })
}

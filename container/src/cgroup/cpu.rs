//! Controllers `cpu` and `cpuacct`: weights under contention, and hard bandwidth.
//!
//! *Weight* divides a busy processor between groups in proportion; an idle one goes to whoever asks.
//! *Bandwidth* is a ceiling: at most `quota` µs of processor time in each `period`, then the group
//! is throttled until the next period, even if the machine is idle.
//!
//! Sources: `cgroup-v2.rst` ("CPU"), `scheduler/sched-bwc.rst`, `cgroup-v1/cpuacct.rst`.

use nix::errno::Errno;

use super::directory::Directory;
use super::{Controller, Error, Group, Limit, Result, Version};

mod stats;

pub(super) use stats::stats;
pub use stats::{CpuStats, CpuUsage, Throttling};

/// Relative weight, 2..=262144, default 1024.
const V1_SHARES: &str = "cpu.shares";
/// Microseconds of processor time per period; -1 for no ceiling.
const V1_QUOTA: &str = "cpu.cfs_quota_us";
/// Microseconds.
const V1_PERIOD: &str = "cpu.cfs_period_us";
/// Microseconds of unused quota that may be saved up.
const V1_BURST: &str = "cpu.cfs_burst_us";
/// Microseconds of real-time scheduling per real-time period.
const V1_RT_RUNTIME: &str = "cpu.rt_runtime_us";
/// Microseconds.
const V1_RT_PERIOD: &str = "cpu.rt_period_us";
/// Relative weight, 1..=10000, default 100.
const V2_WEIGHT: &str = "cpu.weight";
/// `QUOTA PERIOD` in microseconds; a quota of `max` for no ceiling.
const V2_MAX: &str = "cpu.max";
/// Microseconds.
const V2_BURST: &str = "cpu.max.burst";
/// 1 makes the whole group run only when nothing else wants to (both versions).
const IDLE: &str = "cpu.idle";
/// The kernel's bounds of a period, and its least quota (`kernel/sched/core.c`: 1 ms to 1 s).
pub const PERIOD_RANGE_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// The longest quota and burst (`MAX_BW` in `kernel/sched`: 44 bits of microseconds).
pub const MAX_QUOTA_US: u64 = (1 << 44) - 1;
/// Bounds of version 1's shares (`MIN_SHARES`, `MAX_SHARES`); the kernel clamps to them in silence.
pub const SHARES_RANGE: std::ops::RangeInclusive<u64> = 2..=262_144;
/// Bounds of version 2's weights.
pub const WEIGHT_RANGE: std::ops::RangeInclusive<u64> = 1..=10_000;

/// How much of a contended processor a group gets, relative to its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuWeight {
    /// Version 1's scale, 2 to 262144 around 1024; the OCI configuration's `shares`.
    Shares(u64),
    /// Version 2's scale, 1 to 10000 around 100.
    Weight(u64),
}

impl CpuWeight {
    /// On version 1's scale, as the kernel converts (`weight * 1024 / 100`), so that ratios between
    /// groups stay the same.
    pub fn to_shares(self) -> u64 {
        match self {
            CpuWeight::Shares(shares) => shares,
            CpuWeight::Weight(weight) => (weight * 1024 + 50) / 100,
        }
    }

    /// On version 2's scale, as runc and crun convert since 2025: a curve through minimum, default
    /// and maximum of both scales (2 → 1, 1024 → 100, 262144 → 10000), with l = log2(shares):
    /// `10 ^ ((l² + 125 l) / 612 − 7/34)`, rounded up. Ratios are *not* kept; who cares about ratios
    /// says [`CpuWeight::Weight`].
    pub fn to_weight(self) -> u64 {
        match self {
            CpuWeight::Weight(weight) => weight,
            CpuWeight::Shares(shares) if shares <= *SHARES_RANGE.start() => *WEIGHT_RANGE.start(),
            CpuWeight::Shares(shares) if shares >= *SHARES_RANGE.end() => *WEIGHT_RANGE.end(),
            CpuWeight::Shares(shares) => {
                let l = (shares as f64).log2();
                10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
            }
        }
    }
}

/// Limits of `cpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Share under contention.
    pub weight: Option<CpuWeight>,
    /// Processor time per period, in µs, at least 1 ms: 200000 in a period of 100000 is two
    /// processors.
    pub quota_us: Option<Limit>,
    /// The period, in µs, 1 ms to 1 s.
    pub period_us: Option<u64>,
    /// Unused quota that may be saved up and spent at once, in µs, at most the quota.
    pub burst_us: Option<u64>,
    /// Real-time scheduling per real-time period, in µs; version 1 only.
    pub realtime_runtime_us: Option<Limit>,
    /// The real-time period, in µs; version 1 only.
    pub realtime_period_us: Option<u64>,
    /// Whether to run only when no other group wants to.
    pub idle: Option<bool>,
}

impl Cpu {
    pub(super) fn is_set(&self) -> bool {
        *self != Cpu::default()
    }

    pub(super) fn validate(&self) -> Result<()> {
        let in_range = |knob,
                        value: Option<u64>,
                        range: &std::ops::RangeInclusive<u64>,
                        expected| match value {
            Some(value) if !range.contains(&value) => Err(Error::invalid(knob, value, expected)),
            _ => Ok(()),
        };
        match self.weight {
            // runc's words: callers show them.
            Some(CpuWeight::Shares(shares)) if shares < *SHARES_RANGE.start() => {
                return Err(Error::invalid(
                    "cpu shares",
                    shares,
                    "the minimum allowed cpu-shares is 2",
                ));
            }
            Some(CpuWeight::Shares(shares)) if shares > *SHARES_RANGE.end() => {
                let expected = "the maximum allowed cpu-shares is 262144";
                return Err(Error::invalid("cpu shares", shares, expected));
            }
            Some(CpuWeight::Weight(weight)) => {
                in_range(
                    "cpu weight",
                    Some(weight),
                    &WEIGHT_RANGE,
                    "it must be 1 to 10000",
                )?;
            }
            _ => {}
        }
        let quota = self.quota_us.and_then(Limit::bounded);
        let at_least_1ms = "it must be at least 1000 µs (1 ms) and below 2^44 µs";
        in_range("cpu quota", quota, &(1_000..=MAX_QUOTA_US), at_least_1ms)?;
        let period = "it must be 1000 to 1000000 µs (1 ms to 1 s)";
        in_range("cpu period", self.period_us, &PERIOD_RANGE_US, period)?;
        let most = quota.unwrap_or(MAX_QUOTA_US);
        in_range(
            "cpu burst",
            self.burst_us,
            &(0..=most),
            "it must not exceed the quota",
        )?;
        let signed = "it must fit in 63 bits";
        let realtime = self.realtime_runtime_us.and_then(Limit::bounded);
        in_range(
            "cpu real-time runtime",
            realtime,
            &(0..=i64::MAX as u64),
            signed,
        )?;
        in_range(
            "cpu real-time period",
            self.realtime_period_us,
            &(1..=i64::MAX as u64),
            signed,
        )?;
        let longest = self.realtime_period_us.unwrap_or(u64::MAX);
        let expected = "it must not exceed the real-time period";
        in_range("cpu real-time runtime", realtime, &(0..=longest), expected)
    }

    pub(super) fn apply(&self, group: &Group) -> Result<()> {
        let dir = group.joined(Controller::Cpu)?;
        // Weights are refused while `idle` is set, and setting `idle` resets them.
        if self.idle == Some(false) {
            dir.write(IDLE, "0")?;
        }
        if let Some(weight) = self.weight {
            match dir.version() {
                Version::V1 => dir.write(V1_SHARES, &weight.to_shares().to_string())?,
                Version::V2 => dir.write(V2_WEIGHT, &weight.to_weight().to_string())?,
            }
        }
        if self.idle == Some(true) {
            dir.write(IDLE, "1")?;
        }
        self.apply_realtime(dir)?;
        self.apply_bandwidth(dir)
    }

    /// The real-time period before its runtime, unless the old runtime does not fit into it.
    fn apply_realtime(&self, dir: &Directory) -> Result<()> {
        let runtime = self.realtime_runtime_us.map(|r| (V1_RT_RUNTIME, r.to_v1()));
        let period = self
            .realtime_period_us
            .map(|p| (V1_RT_PERIOD, p.to_string()));
        if dir.version() == Version::V2 && (runtime.is_some() || period.is_some()) {
            return Err(Error::Unsupported {
                knob: "cpu real-time runtime and period",
                version: Version::V2,
                instead: "leave them out, or use a host with v1 cgroups",
            });
        }
        in_some_order(dir, &[period, runtime])
    }

    /// Quota, period and burst constrain each other (burst ≤ quota, quota/period ≤ the parent's), so
    /// the order that works depends on the old values.
    fn apply_bandwidth(&self, dir: &Directory) -> Result<()> {
        let burst = self.burst_us.map(|b| b.to_string());
        match dir.version() {
            Version::V1 => {
                let period = self.period_us.map(|p| (V1_PERIOD, p.to_string()));
                let quota = self.quota_us.map(|q| (V1_QUOTA, q.to_v1()));
                in_some_order(dir, &[burst.map(|b| (V1_BURST, b)), period, quota])
            }
            Version::V2 => {
                let max = match (self.quota_us, self.period_us) {
                    (None, None) => None,
                    (Some(quota), None) => Some(quota.to_string()),
                    (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
                    // The file takes no period alone.
                    (None, Some(period)) => {
                        let old = dir.read(V2_MAX)?;
                        let quota = old.split_ascii_whitespace().next().unwrap_or("max");
                        Some(format!("{quota} {period}"))
                    }
                };
                in_some_order(
                    dir,
                    &[burst.map(|b| (V2_BURST, b)), max.map(|m| (V2_MAX, m))],
                )
            }
        }
    }
}

/// Writes values that constrain each other: those that the kernel finds invalid are tried once more
/// after the others, in reverse.
fn in_some_order(dir: &Directory, values: &[Option<(&str, String)>]) -> Result<()> {
    let mut again = Vec::new();
    for (file, value) in values.iter().flatten() {
        match dir.write(file, value) {
            Err(error) if error.errno() == Some(Errno::EINVAL) => again.push((file, value)),
            other => other?,
        }
    }
    again
        .into_iter()
        .rev()
        .try_for_each(|(file, value)| dir.write(file, value))
}

#[cfg(test)]
mod tests;

//! Limits as properties of a unit, so that systemd writes the same values as we do whenever it writes any
//! (`systemd.resource-control(5)`). What systemd has no property for is in the control files alone.

use super::super::{CpuWeight, Limit, Limits, Version};
use super::message::{Property, Value};

/// What "no limit" is in systemd.
const INFINITY: u64 = u64::MAX;
/// Quotas are per second here.
const SECOND_US: u64 = 1_000_000;
/// A period when none was given (`cpu.cfs_period_us`).
const DEFAULT_PERIOD_US: u64 = 100_000;
/// systemd rounds quotas to a hundredth of a processor, and so has to be given a multiple.
const QUOTA_STEP_US: u64 = 10_000;

/// Accounting of everything, so that systemd enables the controllers.
pub fn accounting(version: Version) -> Vec<Property> {
    let io = match version {
        Version::V1 => "BlockIOAccounting",
        Version::V2 => "IOAccounting",
    };
    ["CPUAccounting", "MemoryAccounting", "TasksAccounting", io]
        .map(|name| (name, Value::Flag(true)))
        .into()
}

/// The properties for what is set in `limits`.
pub fn of(limits: &Limits, version: Version) -> Vec<Property> {
    let is_v2 = version == Version::V2;
    let at = |limit: Limit| Value::Number(limit.bounded().unwrap_or(INFINITY));
    let mut list = Vec::new();
    let mut add = |name, value: Option<Value>| list.extend(value.map(|value| (name, value)));

    let memory = &limits.memory;
    add(
        if is_v2 { "MemoryMax" } else { "MemoryLimit" },
        memory.limit_bytes.map(at),
    );
    if is_v2 {
        add("MemoryLow", memory.reservation_bytes.map(at));
        let swap = memory
            .memory_and_swap_bytes
            .and_then(|both| match (both, memory.limit_bytes) {
                (Limit::Max, _) => Some(Limit::Max),
                (Limit::At(both), Some(Limit::At(limit))) => {
                    Some(Limit::At(both.saturating_sub(limit)))
                }
                // Without the limit's number there is no number for the rest.
                _ => None,
            });
        add("MemorySwapMax", swap.map(at));
    }
    add("TasksMax", limits.pids.max.map(at));
    add(
        if is_v2 { "CPUWeight" } else { "CPUShares" },
        limits.cpu.weight.map(|weight: CpuWeight| {
            Value::Number(if is_v2 {
                weight.to_weight()
            } else {
                weight.to_shares()
            })
        }),
    );
    if let Some(quota) = limits.cpu.quota_us {
        let period = limits.cpu.period_us.unwrap_or(DEFAULT_PERIOD_US).max(1);
        let per_second = |quota: u64| {
            let exact = u128::from(quota) * u128::from(SECOND_US) / u128::from(period);
            u64::try_from(exact).map_or(INFINITY, |it| it.next_multiple_of(QUOTA_STEP_US))
        };
        add(
            "CPUQuotaPerSecUSec",
            Some(Value::Number(quota.bounded().map_or(INFINITY, per_second))),
        );
    }
    add(
        "CPUQuotaPeriodUSec",
        limits.cpu.period_us.map(Value::Number),
    );
    if is_v2 {
        add(
            "AllowedCPUs",
            limits
                .cpuset
                .cpus
                .as_deref()
                .map(|it| Value::Bytes(bits(it))),
        );
        add(
            "AllowedMemoryNodes",
            limits
                .cpuset
                .mems
                .as_deref()
                .map(|it| Value::Bytes(bits(it))),
        );
    }
    list
}

/// A list such as `0-2,7` as bits, the lowest first.
fn bits(list: &str) -> Vec<u8> {
    let mut bits = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>())
        else {
            continue;
        };
        for number in first..=last {
            let (byte, bit) = (usize::from(number / 8), number % 8);
            bits.resize(bits.len().max(byte + 1), 0);
            bits[byte] |= 1 << bit;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_their_names_in_each_version() {
        let mut limits = Limits::default();
        limits.memory.limit_bytes = Some(Limit::At(1000));
        limits.memory.memory_and_swap_bytes = Some(Limit::At(1500));
        limits.cpu.weight = Some(CpuWeight::Shares(1024));
        limits.cpu.quota_us = Some(Limit::At(50_000));
        limits.pids.max = Some(Limit::Max);
        let number = |name, number| (name, Value::Number(number));
        assert_eq!(
            of(&limits, Version::V2),
            [
                number("MemoryMax", 1000),
                number("MemorySwapMax", 500),
                number("TasksMax", INFINITY),
                number("CPUWeight", 100),
                number("CPUQuotaPerSecUSec", 500_000),
            ]
        );
        let v1: Vec<_> = of(&limits, Version::V1)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            v1,
            ["MemoryLimit", "TasksMax", "CPUShares", "CPUQuotaPerSecUSec"]
        );
    }

    #[test]
    fn a_processor_set_is_bits() {
        assert_eq!(bits("0-2,7,8"), [0b1000_0111, 1]);
        assert_eq!(bits("x,3-1"), Vec::<u8>::new());
    }
}

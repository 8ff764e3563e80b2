//! Controller `blkio`: version 1's half of [`io`](super::io).
//!
//! Source: `cgroup-v1/blkio-controller.rst`.

use std::collections::BTreeMap;

use super::directory::Directory;
use super::io::{BlockDevice, Io, IoRate, IoStats, Throttle};
use super::{Limit, Result};

/// 10..=1000; of the CFQ scheduler, up to Linux 4.20.
const CFQ_WEIGHT: &str = "blkio.weight";
/// 1..=1000; of the BFQ scheduler.
const BFQ_WEIGHT: &str = "blkio.bfq.weight";
/// 10..=1000; CFQ only.
const LEAF_WEIGHT: &str = "blkio.leaf_weight";
/// Behind either name of weight: `MAJOR:MINOR WEIGHT`.
const DEVICE_SUFFIX: &str = "_device";
/// `MAJOR:MINOR Read|Write|Sync|Async|Discard|Total N`, the groups below included.
const BYTES: &str = "blkio.throttle.io_service_bytes_recursive";
/// The same, counting operations.
const OPERATIONS: &str = "blkio.throttle.io_serviced_recursive";

/// `MAJOR:MINOR N`, bytes or operations a second; 0 lifts the ceiling.
fn throttle_file(rate: IoRate) -> &'static str {
    match rate {
        IoRate::ReadBytes => "blkio.throttle.read_bps_device",
        IoRate::WriteBytes => "blkio.throttle.write_bps_device",
        IoRate::ReadOperations => "blkio.throttle.read_iops_device",
        IoRate::WriteOperations => "blkio.throttle.write_iops_device",
    }
}

pub(super) fn apply(io: &Io, dir: &Directory) -> Result<()> {
    let file = if dir.has(CFQ_WEIGHT) {
        CFQ_WEIGHT
    } else {
        BFQ_WEIGHT
    };
    if let Some(weight) = io.weight {
        dir.write(file, &weight.to_blkio().to_string())?;
    }
    if let Some(weight) = io.leaf_weight {
        dir.write(LEAF_WEIGHT, &weight.to_string())?;
    }
    for (device, weight) in &io.device_weights {
        let value = format!("{device} {}", weight.to_blkio());
        dir.write(&format!("{file}{DEVICE_SUFFIX}"), &value)?;
    }
    for Throttle {
        device,
        rate,
        limit,
    } in &io.throttles
    {
        let limit = match limit {
            Limit::Max => 0,
            Limit::At(limit) => *limit,
        };
        dir.write(throttle_file(*rate), &format!("{device} {limit}"))?;
    }
    Ok(())
}

pub(super) fn stats(dir: &Directory) -> Result<BTreeMap<BlockDevice, IoStats>> {
    let read = |file| dir.read_optional(file).map(Option::unwrap_or_default);
    Ok(parse(&read(BYTES)?, &read(OPERATIONS)?))
}

/// Reads both tables; what is not of their form is skipped.
fn parse(bytes: &str, operations: &str) -> BTreeMap<BlockDevice, IoStats> {
    let mut devices: BTreeMap<BlockDevice, IoStats> = BTreeMap::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [device, what, number] = words[..] else {
                continue;
            };
            let (Some(device), Ok(number)) = (BlockDevice::parse(device), number.parse()) else {
                continue;
            };
            let stats = devices.entry(device).or_default();
            match (what, is_bytes) {
                ("Read", true) => stats.read_bytes = number,
                ("Read", false) => stats.reads = number,
                ("Write", true) => stats.write_bytes = number,
                ("Write", false) => stats.writes = number,
                ("Discard", true) => stats.discard_bytes = number,
                ("Discard", false) => stats.discards = number,
                _ => {}
            }
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_tables_become_one_and_noise_is_skipped() {
        let bytes =
            "8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\n8:16 Discard 7\nTotal 4104\nx:y Read 1\n";
        let operations = "8:0 Read 2\n8:0 Write -1\n8:0 Read\n";
        let stats = parse(bytes, operations);
        let sda = IoStats {
            read_bytes: 4096,
            write_bytes: 1,
            reads: 2,
            ..IoStats::default()
        };
        assert_eq!(stats[&BlockDevice { major: 8, minor: 0 }], sda);
        assert_eq!(
            stats[&BlockDevice {
                major: 8,
                minor: 16
            }]
                .discard_bytes,
            7
        );
        assert_eq!(stats.len(), 2);
    }
}

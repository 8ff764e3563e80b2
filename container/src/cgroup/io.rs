//! Controller `io` (`blkio` in version 1): weights and ceilings for block devices.
//!
//! Ceilings hold for every block device and every scheduler; in version 1 only for direct and
//! synchronous I/O, since written pages are charged to whoever flushes them. Weights need the BFQ
//! scheduler on the device, or (version 2) the `io.cost` model.
//!
//! Sources: `cgroup-v2.rst` ("IO"), `cgroup-v1/blkio-controller.rst`, `block/bfq-iosched.rst`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::directory::Directory;
use super::{Controller, Error, Group, Limit, Result, Version, blkio, value};

/// `default WEIGHT`, or `MAJOR:MINOR WEIGHT`; 1..=10000, default 100.
const WEIGHT: &str = "io.weight";
/// The same for BFQ; 1..=1000, default 100.
const BFQ_WEIGHT: &str = "io.bfq.weight";
/// `MAJOR:MINOR rbps=N wbps=N riops=N wiops=N`: bytes and operations a second, or `max`.
const MAX: &str = "io.max";
/// `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N dbytes=N dios=N`: since the group was made.
const STAT: &str = "io.stat";

/// Bounds of version 1's weights (`BFQ_MIN_WEIGHT` is 1, the OCI configuration's minimum 10).
pub const BLKIO_WEIGHT_RANGE: RangeInclusive<u64> = 10..=1000;
/// Bounds of version 2's weights.
pub const IO_WEIGHT_RANGE: RangeInclusive<u64> = 1..=10_000;

/// How much of a contended device a group gets, relative to its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoWeight {
    /// Version 1's and BFQ's scale, 10 to 1000; the OCI configuration's `weight`.
    Blkio(u64),
    /// Version 2's scale, 1 to 10000 around 100.
    Io(u64),
}

impl IoWeight {
    /// On version 1's and BFQ's scale; both have 100 as a default there, so the number stays the
    /// same where the scale has it.
    pub fn to_blkio(self) -> u64 {
        match self {
            IoWeight::Blkio(weight) => weight,
            IoWeight::Io(weight) => {
                weight.clamp(*BLKIO_WEIGHT_RANGE.start(), *BLKIO_WEIGHT_RANGE.end())
            }
        }
    }

    /// On version 2's scale, as runc converts: 10 → 1, 1000 → 10000, a straight line between.
    pub fn to_io(self) -> u64 {
        match self {
            IoWeight::Blkio(weight) => 1 + weight.saturating_sub(10) * 9999 / 990,
            IoWeight::Io(weight) => weight,
        }
    }

    fn validate(self) -> Result<()> {
        let (range, value, expected) = match self {
            IoWeight::Blkio(w) => (BLKIO_WEIGHT_RANGE, w, "it must be 10 to 1000"),
            IoWeight::Io(w) => (IO_WEIGHT_RANGE, w, "it must be 1 to 10000"),
        };
        match range.contains(&value) {
            true => Ok(()),
            false => Err(Error::invalid("block I/O weight", value, expected)),
        }
    }
}

/// A block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl std::fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl BlockDevice {
    pub(super) fn parse(text: &str) -> Option<BlockDevice> {
        let (major, minor) = text.split_once(':')?;
        Some(BlockDevice {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

/// What a ceiling counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoRate {
    /// Bytes read a second.
    ReadBytes,
    /// Bytes written a second.
    WriteBytes,
    /// Reads a second.
    ReadOperations,
    /// Writes a second.
    WriteOperations,
}

/// A ceiling for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// The device; a whole one, not a partition.
    pub device: BlockDevice,
    /// What is counted.
    pub rate: IoRate,
    /// How many of it a second, at least 1.
    pub limit: Limit,
}

/// Limits of block I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Share under contention.
    pub weight: Option<IoWeight>,
    /// Share against the groups below; version 1 before Linux 5.0 only.
    pub leaf_weight: Option<u64>,
    /// Shares on single devices.
    pub device_weights: Vec<(BlockDevice, IoWeight)>,
    /// Ceilings.
    pub throttles: Vec<Throttle>,
}

/// Use of one block device since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes discarded.
    pub discard_bytes: u64,
    /// Discards.
    pub discards: u64,
}

impl Io {
    pub(super) fn is_set(&self) -> bool {
        *self != Io::default()
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.weight.map_or(Ok(()), IoWeight::validate)?;
        self.device_weights
            .iter()
            .try_for_each(|(_, weight)| weight.validate())?;
        if let Some(leaf) = self.leaf_weight {
            IoWeight::Blkio(leaf).validate()?;
        }
        match self.throttles.iter().any(|t| t.limit == Limit::At(0)) {
            true => Err(Error::invalid(
                "block I/O throttle",
                0,
                "it must be at least 1, or max",
            )),
            false => Ok(()),
        }
    }

    pub(super) fn apply(&self, group: &Group) -> Result<()> {
        let dir = group.joined(Controller::Io)?;
        match dir.version() {
            Version::V1 => blkio::apply(self, dir),
            Version::V2 => self.apply_v2(dir),
        }
    }

    fn apply_v2(&self, dir: &Directory) -> Result<()> {
        if self.leaf_weight.is_some() {
            return Err(Error::Unsupported {
                knob: "block I/O leaf weight",
                version: Version::V2,
                instead: "put the processes into a leaf group and give that a weight",
            });
        }
        let (file, scale): (_, fn(IoWeight) -> u64) = match dir.has(BFQ_WEIGHT) {
            true => (BFQ_WEIGHT, IoWeight::to_blkio),
            false => (WEIGHT, IoWeight::to_io),
        };
        if let Some(weight) = self.weight {
            dir.write(file, &format!("default {}", scale(weight)))?;
        }
        for (device, weight) in &self.device_weights {
            dir.write(file, &format!("{device} {}", scale(*weight)))?;
        }
        for Throttle {
            device,
            rate,
            limit,
        } in &self.throttles
        {
            let key = match rate {
                IoRate::ReadBytes => "rbps",
                IoRate::WriteBytes => "wbps",
                IoRate::ReadOperations => "riops",
                IoRate::WriteOperations => "wiops",
            };
            dir.write(MAX, &format!("{device} {key}={limit}"))?;
        }
        Ok(())
    }
}

/// Reads the use of block devices, if the group joined the controller.
pub(super) fn stats(group: &Group) -> Result<Option<BTreeMap<BlockDevice, IoStats>>> {
    match group.directory(Controller::Io) {
        None => Ok(None),
        Some(dir) if dir.version() == Version::V1 => blkio::stats(dir).map(Some),
        Some(dir) => Ok(Some(parse_stat(&dir.read(STAT)?))),
    }
}

/// Reads `io.stat`; what is not of its form is skipped.
fn parse_stat(text: &str) -> BTreeMap<BlockDevice, IoStats> {
    let line = |line: &str| {
        let (device, values) = value::nested(line)?;
        let get = |key| {
            values
                .get(key)
                .and_then(|v: &&str| v.parse().ok())
                .unwrap_or(0)
        };
        let stats = IoStats {
            read_bytes: get("rbytes"),
            write_bytes: get("wbytes"),
            reads: get("rios"),
            writes: get("wios"),
            discard_bytes: get("dbytes"),
            discards: get("dios"),
        };
        Some((BlockDevice::parse(device)?, stats))
    };
    text.lines().filter_map(line).collect()
}

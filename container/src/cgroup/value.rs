//! How control files write values: numbers, `max`, and lists of `key value` lines.
//!
//! The kernel writes these files, but a fake tree, a file system mounted on top, or a future kernel
//! may put anything there: nothing in here panics, and what is not understood is either an error
//! (single values) or skipped (statistics, to which kernels add lines over the years).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::{Error, Result};

/// Version 1 shows "no limit" as the largest multiple of the page size below 2^63
/// (`PAGE_COUNTER_MAX` in the kernel's `page_counter.h`); no page is larger than 64 KiB.
const V1_UNLIMITED: u64 = (i64::MAX as u64) & !0xffff;

/// An upper bound, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// No bound: `max` in version 2, `-1` in version 1.
    Max,
    /// At most this much, in the unit of the control file.
    At(u64),
}

impl Limit {
    /// Reads the OCI configuration's convention: -1 means no limit, other negative numbers mean
    /// nothing (`None`).
    pub fn from_signed(value: i64) -> Option<Limit> {
        match value {
            -1 => Some(Limit::Max),
            _ => u64::try_from(value).ok().map(Limit::At),
        }
    }

    /// The number, if it is one.
    pub fn bounded(self) -> Option<u64> {
        match self {
            Limit::Max => None,
            Limit::At(value) => Some(value),
        }
    }

    /// As version 1 files for bytes and bandwidth write it.
    pub(super) fn to_v1(self) -> String {
        match self {
            Limit::Max => "-1".into(),
            Limit::At(value) => value.to_string(),
        }
    }

    /// Reads `max`, `-1`, or a number; version 1's "as large as can be" is no limit either.
    pub(super) fn parse(text: &str) -> Option<Limit> {
        match text.trim() {
            "max" | "-1" => Some(Limit::Max),
            number => match number.parse::<u64>().ok()? {
                value if value >= V1_UNLIMITED => Some(Limit::Max),
                value => Some(Limit::At(value)),
            },
        }
    }
}

/// `max` or the number, as version 2 writes it.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Max => f.write_str("max"),
            Limit::At(value) => value.fmt(f),
        }
    }
}

/// The `key value` lines of a flat-keyed file such as `memory.stat`.
pub(super) type Keyed = BTreeMap<String, u64>;

/// Reads a flat-keyed file; lines that are not a key and one unsigned number are skipped, and the
/// last of two equal keys counts.
pub(super) fn keyed(text: &str) -> Keyed {
    let pair = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (key, value) = (words.next()?, words.next()?.parse().ok()?);
        words.next().is_none().then(|| (key.to_owned(), value))
    };
    text.lines().filter_map(pair).collect()
}

/// One line of a nested-keyed file such as `io.stat`: `8:0 rbytes=1 wbytes=2`.
pub(super) fn nested(line: &str) -> Option<(&str, BTreeMap<&str, &str>)> {
    let mut words = line.split_ascii_whitespace();
    let key = words.next()?;
    Some((key, words.filter_map(|w| w.split_once('=')).collect()))
}

/// A file with a single unsigned number.
pub(super) fn number(path: &Path, text: &str) -> Result<u64> {
    let malformed = |_| Error::malformed(path, text, "one unsigned number");
    text.trim().parse().map_err(malformed)
}

/// A file with a single limit.
pub(super) fn limit(path: &Path, text: &str) -> Result<Limit> {
    Limit::parse(text).ok_or_else(|| Error::malformed(path, text, "one unsigned number or `max`"))
}

/// The process numbers of `cgroup.procs` or `tasks`. A process that lives outside of this process's
/// pid namespace is listed as 0, and stays 0 here: signalling it would signal ourselves.
pub(super) fn pids(path: &Path, text: &str) -> Result<Vec<i32>> {
    let one = |line: &str| match line.trim().parse() {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(Error::malformed(path, line, "one process number a line")),
    };
    text.lines().map(one).collect()
}

#[cfg(test)]
mod tests;

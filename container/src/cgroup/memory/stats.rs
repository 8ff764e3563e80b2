//! What a group has used of the memory.

use super::super::directory::Directory;
use super::super::value::Keyed;
use super::super::{Controller, Group, Limit, Result, Version};
use super::{V1_LIMIT, V1_OOM_CONTROL, V1_SWAP_LIMIT, V1_USAGE, V2_CURRENT, V2_MAX, V2_SWAP_MAX};

/// Bytes.
const V1_PEAK: &str = "memory.max_usage_in_bytes";
/// How often the limit was hit.
const V1_FAILURES: &str = "memory.failcnt";
/// Bytes of memory and swap together.
pub(super) const V1_SWAP_USAGE: &str = "memory.memsw.usage_in_bytes";
/// Bytes.
const V1_KERNEL_USAGE: &str = "memory.kmem.usage_in_bytes";
/// Bytes; since Linux 5.19.
const V2_PEAK: &str = "memory.peak";
/// Bytes.
pub(super) const V2_SWAP_CURRENT: &str = "memory.swap.current";
/// `low`, `high`, `max`, `oom`, `oom_kill` and how often each happened.
pub(in super::super) const V2_EVENTS: &str = "memory.events";
/// The same without descendants.
const V2_EVENTS_LOCAL: &str = "memory.events.local";
/// What memory is used for, in bytes (both versions, with different keys).
const STAT: &str = "memory.stat";

/// Use of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Now, in bytes.
    pub usage_bytes: u64,
    /// Most ever, in bytes, where the kernel tells.
    pub peak_bytes: Option<u64>,
    /// The hard limit of this very group, in bytes.
    pub limit: Option<Limit>,
    /// Swap alone, in bytes, where it is accounted.
    pub swap_bytes: Option<u64>,
    /// The bound on swap alone (version 2) or on memory and swap (version 1).
    pub swap_limit: Option<Limit>,
    /// Kernel memory, in bytes.
    pub kernel_bytes: Option<u64>,
    /// Anonymous memory, in bytes, descendants included.
    pub anonymous_bytes: u64,
    /// Page cache, in bytes, descendants included.
    pub file_bytes: u64,
    /// How often an allocation hit the limit.
    pub limit_hits: u64,
    /// Processes killed because the group was out of memory.
    pub oom_kills: u64,
    /// All of `memory.stat`, with the kernel's keys.
    pub raw: Keyed,
}

/// Reads the use of memory, if the group joined the controller.
pub(in super::super) fn stats(group: &Group) -> Result<Option<MemoryStats>> {
    let Some(dir) = group.directory(Controller::Memory) else {
        return Ok(None);
    };
    let raw = dir.read_keyed(STAT)?;
    let get = |key: &str| raw.get(key).copied().unwrap_or(0);
    Ok(Some(match dir.version() {
        Version::V1 => {
            let usage = dir.read_number(V1_USAGE)?;
            let both = dir.optional_number(V1_SWAP_USAGE)?;
            MemoryStats {
                usage_bytes: usage,
                peak_bytes: dir.optional_number(V1_PEAK)?,
                limit: dir.optional_limit(V1_LIMIT)?,
                swap_bytes: both.map(|both| both.saturating_sub(usage)),
                swap_limit: dir.optional_limit(V1_SWAP_LIMIT)?,
                kernel_bytes: dir.optional_number(V1_KERNEL_USAGE)?,
                anonymous_bytes: get("total_rss"),
                file_bytes: get("total_cache"),
                limit_hits: dir.optional_number(V1_FAILURES)?.unwrap_or(0),
                oom_kills: oom_kills(dir)?,
                raw,
            }
        }
        Version::V2 => MemoryStats {
            usage_bytes: dir.read_number(V2_CURRENT)?,
            peak_bytes: dir.optional_number(V2_PEAK)?,
            limit: dir.optional_limit(V2_MAX)?,
            swap_bytes: dir.optional_number(V2_SWAP_CURRENT)?,
            swap_limit: dir.optional_limit(V2_SWAP_MAX)?,
            kernel_bytes: raw.get("kernel").copied(),
            anonymous_bytes: get("anon"),
            file_bytes: get("file"),
            limit_hits: dir
                .optional_keyed(V2_EVENTS)?
                .get("max")
                .copied()
                .unwrap_or(0),
            oom_kills: oom_kills(dir)?,
            raw,
        },
    }))
}

/// How many processes of the group (version 2: or of its descendants) the kernel killed for want of
/// memory.
fn oom_kills(dir: &Directory) -> Result<u64> {
    let file = match dir.version() {
        Version::V1 => V1_OOM_CONTROL,
        Version::V2 if dir.has(V2_EVENTS) => V2_EVENTS,
        Version::V2 => V2_EVENTS_LOCAL,
    };
    Ok(dir.read_keyed(file)?.get("oom_kill").copied().unwrap_or(0))
}

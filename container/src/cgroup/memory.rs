//! Controller `memory`: what a group may use, page cache and kernel memory included. Beyond the
//! limit the kernel reclaims within the group, and if that is not enough it kills a process *of the
//! group*, not of the machine.
//!
//! ```text
//!                       v1                               v2
//! hard limit            memory.limit_in_bytes            memory.max
//! soft limit            memory.soft_limit_in_bytes       memory.low   (protection)
//! swap                  memory.memsw.limit_in_bytes      memory.swap.max
//!                         = memory + swap                  = swap alone
//! use, most ever        memory.usage_in_bytes,           memory.current,
//!                         memory.max_usage_in_bytes        memory.peak
//! out of memory         memory.oom_control               memory.events
//! ```
//!
//! Sources: `cgroup-v1/memory.rst`, `cgroup-v2.rst` ("Memory").

use nix::errno::Errno;

use super::directory::Directory;
use super::{Controller, Error, Group, Limit, Result, Version};

mod stats;

pub use stats::MemoryStats;
pub(super) use stats::{V2_EVENTS, stats};

/// Bytes.
const V1_LIMIT: &str = "memory.limit_in_bytes";
/// Bytes of memory and swap together; missing without swap accounting.
const V1_SWAP_LIMIT: &str = "memory.memsw.limit_in_bytes";
/// Bytes.
const V1_SOFT_LIMIT: &str = "memory.soft_limit_in_bytes";
/// Bytes; deprecated, and refused by kernels since 5.16.
const V1_KERNEL_LIMIT: &str = "memory.kmem.limit_in_bytes";
/// Bytes of socket buffers.
const V1_TCP_LIMIT: &str = "memory.kmem.tcp.limit_in_bytes";
/// 0..=200, how eagerly to swap instead of dropping page cache.
const V1_SWAPPINESS: &str = "memory.swappiness";
/// Write 1 to make processes wait instead of killing one; read three `key value` lines.
const V1_OOM_CONTROL: &str = "memory.oom_control";
/// Bytes.
const V1_USAGE: &str = "memory.usage_in_bytes";

/// Bytes or `max`.
const V2_MAX: &str = "memory.max";
/// Bytes that are only reclaimed when nothing unprotected is left.
const V2_LOW: &str = "memory.low";
/// Bytes of swap alone.
const V2_SWAP_MAX: &str = "memory.swap.max";
/// Bytes.
const V2_CURRENT: &str = "memory.current";

/// Limits of `memory`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Hard limit, in bytes; for somebody to start, at least one page.
    pub limit_bytes: Option<Limit>,
    /// Memory and swap together, in bytes, as the OCI configuration counts: never below the limit.
    /// Equal to it means no swap.
    pub memory_and_swap_bytes: Option<Limit>,
    /// Soft limit (version 1) or protected amount (version 2), in bytes.
    pub reservation_bytes: Option<Limit>,
    /// Kernel memory, in bytes; version 1 of old kernels only.
    pub kernel_bytes: Option<Limit>,
    /// TCP buffers, in bytes; version 1 only.
    pub kernel_tcp_bytes: Option<Limit>,
    /// 0 to 200; version 1 only.
    pub swappiness: Option<u64>,
    /// Let processes wait for memory instead of killing one; version 1 only.
    pub disable_oom_killer: Option<bool>,
    /// Refuse a limit below what is in use, instead of reclaiming and killing.
    pub check_before_update: bool,
}

impl Memory {
    pub(super) fn is_set(&self) -> bool {
        let nothing = Memory {
            check_before_update: self.check_before_update,
            ..Memory::default()
        };
        *self != nothing
    }

    /// Whether anybody can start in a group with it. The kernel counts whole pages: below the first one is
    /// none, with which it kills whoever is there. That is for a group that is in use to ask for.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn lets_start(&self) -> Result<()> {
        // See `swap_alone`: by itself, memory and swap may be nothing.
        let both = self.memory_and_swap_bytes;
        let bytes = [
            ("memory limit", self.limit_bytes),
            ("memory and swap limit", self.limit_bytes.and(both)),
            ("kernel memory limit", self.kernel_bytes),
        ];
        for (knob, limit) in bytes {
            if let Some(Limit::At(value)) = limit
                && value < page_size()
            {
                let expected = "it must be at least one page (4096 bytes on most machines)";
                return Err(Error::invalid(knob, value, expected));
            }
        }
        Ok(())
    }

    pub(super) fn validate(&self) -> Result<()> {
        let bytes = [
            ("memory limit", self.limit_bytes),
            ("memory and swap limit", self.memory_and_swap_bytes),
            ("memory reservation", self.reservation_bytes),
            ("kernel memory limit", self.kernel_bytes),
            ("kernel TCP memory limit", self.kernel_tcp_bytes),
        ];
        for (knob, limit) in bytes {
            match limit {
                Some(Limit::At(value)) if value > i64::MAX as u64 => {
                    let expected = "it must fit in 63 bits; use max for no limit";
                    return Err(Error::invalid(knob, value, expected));
                }
                _ => {}
            }
        }
        match self.swappiness {
            Some(value) if value > 200 => {
                return Err(Error::invalid(
                    "memory swappiness",
                    value,
                    "it must be 0 to 200",
                ));
            }
            _ => {}
        }
        self.swap_alone().map(|_| ())
    }

    /// Version 2 bounds swap alone: what is left of memory and swap after the memory.
    pub(super) fn swap_alone(&self) -> Result<Option<Limit>> {
        let knob = "memory and swap limit";
        match (self.limit_bytes, self.memory_and_swap_bytes) {
            // Lifting the memory limit alone lifts version 1's joint limit with it.
            (Some(Limit::Max), None) => Ok(Some(Limit::Max)),
            (_, None) => Ok(None),
            (_, Some(Limit::Max)) => Ok(Some(Limit::Max)),
            (Some(Limit::At(memory)), Some(Limit::At(both))) if both >= memory => {
                Ok(Some(Limit::At(both - memory)))
            }
            (Some(Limit::At(_)), Some(Limit::At(both))) => Err(Error::invalid(
                knob,
                both,
                "it must not be below the memory limit",
            )),
            // Version 1 refuses this; in version 2 the two bounds are independent.
            (Some(Limit::Max), Some(both)) => Ok(Some(both)),
            // No memory and swap together, and as much memory as there is: no swap.
            (None, Some(Limit::At(0))) => Ok(Some(Limit::At(0))),
            (None, Some(Limit::At(both))) => {
                let expected = "it needs a memory limit beside it; set both";
                Err(Error::invalid(knob, both, expected))
            }
        }
    }

    pub(super) fn apply(&self, group: &Group) -> Result<()> {
        let dir = group.joined(Controller::Memory)?;
        if self.check_before_update {
            self.check_usage(dir)?;
        }
        match dir.version() {
            Version::V1 => self.apply_v1(dir),
            Version::V2 => self.apply_v2(dir),
        }
    }

    /// Refuses what would have the kernel kill somebody at once, the sum first, as runc does.
    fn check_usage(&self, dir: &Directory) -> Result<()> {
        let memory = dir.read_number(match dir.version() {
            Version::V1 => V1_USAGE,
            Version::V2 => V2_CURRENT,
        })?;
        // A kernel without swap has no such files.
        let both = match dir.version() {
            Version::V1 => dir.read_number(stats::V1_SWAP_USAGE).unwrap_or(memory),
            Version::V2 => memory + dir.read_number(stats::V2_SWAP_CURRENT).unwrap_or(0),
        };
        match (self.memory_and_swap_bytes, self.limit_bytes) {
            (Some(Limit::At(limit)), _) if limit < both => {
                let expected = "rejecting memory+swap limit below what the group uses now; end \
                                processes first, or leave out checkBeforeUpdate";
                Err(Error::invalid("memory and swap limit", limit, expected))
            }
            (_, Some(Limit::At(limit))) if limit < memory => {
                let expected = "rejecting memory limit below what the group uses now; end processes \
                                first, or leave out checkBeforeUpdate";
                Err(Error::invalid("memory limit", limit, expected))
            }
            _ => Ok(()),
        }
    }

    fn apply_v1(&self, dir: &Directory) -> Result<()> {
        let memory = self.limit_bytes.map(|l| (V1_LIMIT, l.to_v1()));
        // See `swap_alone`: an unlimited memory with a limited sum would be no lifting at all.
        let both = match (self.limit_bytes, self.memory_and_swap_bytes) {
            (Some(Limit::Max), None) if dir.has(V1_SWAP_LIMIT) => Some(Limit::Max),
            // A sum of nothing would leave no memory either; runc passes it over as well.
            (None, Some(Limit::At(0))) => None,
            (_, both) => both,
        };
        if both.is_some() && !dir.has(V1_SWAP_LIMIT) {
            return Err(Error::Unsupported {
                knob: "memory and swap limit",
                version: Version::V1,
                instead: "this kernel does not account swap: boot it with swapaccount=1, or leave \
                          the limit out",
            });
        }
        let both = both.map(|l| (V1_SWAP_LIMIT, l.to_v1()));
        // The kernel insists on memory ≤ memory + swap at every moment, so when raising, the sum
        // comes first, and when lowering, it comes last. It says which by EINVAL.
        let (first, second) = match (&memory, &both) {
            (Some(_), Some(_)) if self.raises(dir)? => (both, memory),
            _ => (memory, both),
        };
        for (file, value) in [first, second].into_iter().flatten() {
            dir.write(file, &value)?;
        }
        let limits = [
            (V1_SOFT_LIMIT, self.reservation_bytes),
            (V1_KERNEL_LIMIT, self.kernel_bytes),
            (V1_TCP_LIMIT, self.kernel_tcp_bytes),
        ];
        for (file, limit) in limits {
            if let Some(limit) = limit {
                dir.write(file, &limit.to_v1())?;
            }
        }
        self.refuse_ignored_kernel_limit(dir)?;
        if let Some(swappiness) = self.swappiness {
            dir.write(V1_SWAPPINESS, &swappiness.to_string())?;
        }
        match self.disable_oom_killer {
            Some(disable) => dir.write(V1_OOM_CONTROL, if disable { "1" } else { "0" }),
            None => Ok(()),
        }
    }

    /// Kernels since 5.16 take a limit on kernel memory and forget it.
    fn refuse_ignored_kernel_limit(&self, dir: &Directory) -> Result<()> {
        match self.kernel_bytes {
            Some(Limit::At(wanted)) if dir.read_limit(V1_KERNEL_LIMIT)? == Limit::Max => {
                Err(Error::Ignored {
                    path: dir.file(V1_KERNEL_LIMIT),
                    value: wanted.to_string().into(),
                    instead: "the memory limit counts kernel memory too, so leave this one out",
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether the new sum of memory and swap is at least the old memory limit.
    fn raises(&self, dir: &Directory) -> Result<bool> {
        let old = dir.read_limit(V1_LIMIT)?;
        Ok(
            match (self.memory_and_swap_bytes.unwrap_or(Limit::Max), old) {
                (Limit::Max, _) => true,
                (Limit::At(_), Limit::Max) => false,
                (Limit::At(new), Limit::At(old)) => new >= old,
            },
        )
    }

    fn apply_v2(&self, dir: &Directory) -> Result<()> {
        let only_v1 = [
            (
                "kernel memory limit",
                self.kernel_bytes.is_some(),
                "memory.max counts it; leave it out",
            ),
            (
                "kernel TCP memory limit",
                self.kernel_tcp_bytes.is_some(),
                "memory.max counts it; leave it out",
            ),
            (
                "memory swappiness",
                self.swappiness.is_some(),
                "set vm.swappiness for the whole host, or leave it out",
            ),
            (
                "disabling the OOM killer",
                self.disable_oom_killer == Some(true),
                "set memory.high below memory.max to slow a group down before it is killed, or leave it out",
            ),
        ];
        if let Some((knob, _, instead)) = only_v1.into_iter().find(|(_, set, _)| *set) {
            return Err(Error::Unsupported {
                knob,
                version: Version::V2,
                instead,
            });
        }
        // Swap first: lowering memory.max pushes pages into whatever swap is allowed.
        if let Some(swap) = self.swap_alone()? {
            match dir.write(V2_SWAP_MAX, &swap.to_string()) {
                // A kernel without swap has no such file: then "no swap" and "any swap" hold already.
                Err(error)
                    if error.errno() == Some(Errno::ENOENT)
                        && matches!(swap, Limit::Max | Limit::At(0)) => {}
                other => other?,
            }
        }
        for (file, limit) in [(V2_MAX, self.limit_bytes), (V2_LOW, self.reservation_bytes)] {
            if let Some(limit) = limit {
                dir.write(file, &limit.to_string())?;
            }
        }
        Ok(())
    }
}

fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok()
        .flatten()
        .and_then(|s| u64::try_from(s).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests;

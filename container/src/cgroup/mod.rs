//! Control groups: the second half of a container.
//!
//! Namespaces decide what a process *sees*; control groups decide what it may *use*. A group is a
//! directory, its limits are files in it, and its members are the numbers in `cgroup.procs`. That is
//! the whole interface, and it is what stands in for a virtual machine's fixed memory and number of
//! processors.
//!
//! 1. [`Layout::detect`] finds out what this host has: version 1, version 2, or both.
//! 2. [`Group::create`] makes a group in the hierarchies of the controllers that are wanted.
//! 3. [`Group::apply`] writes [`Limits`]; each controller has a file of this module, named as the
//!    kernel names it.
//! 4. A child enters by `CLONE_INTO_CGROUP` ([`Group::directory_fd`]) and an [`Entrance`], or is
//!    moved by [`Group::add`], which is a thousand times slower.
//! 5. [`Group::stats`] tells what was used; [`Group::remove`] cleans up.
//!
//! ```no_run
//! use ringside_container::cgroup::{CpuWeight, Group, Layout, Limit, Limits};
//!
//! let mut limits = Limits::default();
//! limits.cpu.weight = Some(CpuWeight::Weight(300));
//! limits.memory.limit_bytes = Some(Limit::At(64 << 20));
//! limits.pids.max = Some(Limit::At(100));
//!
//! let layout = Layout::detect()?;
//! let group = Group::create(&layout, "demo", limits.controllers())?;
//! group.apply(&limits)?;
//! group.add(std::process::id() as i32)?;
//! println!("{:?}", group.stats()?.memory);
//! # Ok::<(), ringside_container::cgroup::Error>(())
//! ```
//!
//! # What a limit means
//!
//! | limit | what happens at it | where it shows |
//! |---|---|---|
//! | [`cpu.weight`](Cpu::weight) | nothing, until processors are contended; then time is divided in proportion | [`CpuUsage::total_us`] of both groups |
//! | [`cpu.quota_us`](Cpu::quota_us) | the group stands still until the next period, even on an idle machine | [`Throttling::throttled_periods`] |
//! | [`cpuset.cpus`](Cpuset::cpus) | its processes run nowhere else | [`CpusetStats::cpus`] |
//! | [`memory.limit_bytes`](Memory::limit_bytes) | page cache is dropped and pages are swapped; then one of its processes is killed | [`MemoryStats::limit_hits`], [`MemoryStats::oom_kills`], [`OomEvents`] |
//! | [`memory.reservation_bytes`](Memory::reservation_bytes) | below it (v2) memory is taken last, above it (v1) first, when the machine is short | [`MemoryStats::usage_bytes`] |
//! | [`pids.max`](Pids::max) | `fork` and `clone` fail with EAGAIN | [`PidsStats::refused`] |
//! | [`io.throttles`](Io::throttles) | reads and writes of that device wait | [`IoStats`] |
//! | [`hugetlb`](Limits::hugetlb) | a fault on a huge page is SIGBUS | [`HugetlbStats::limit_hits`] |
//! | [`devices`](Limits::devices) | `open` and `mknod` fail with EPERM | the caller's errno |
//! | [`rdma`](Limits::rdma) | the verbs fail with EAGAIN | [`Stats::rdma`] |
//!
//! A weight is a share, a quota is a wall: two groups of weight 100 and 300 on an idle machine both
//! run at full speed, and when both want one processor they get a quarter and three quarters. A
//! virtual machine's `--cpus` and `--memory` are walls only; this is what a container has instead of
//! them, and why hosts can promise more than they have.
//!
//! A limit whose controller the host lacks is an error that names the controller and the remedy, and
//! so is one that the kernel would take and ignore. Nothing is left out in silence: a student who
//! measures an unlimited group learns the wrong thing.
//!
//! # What it costs
//!
//! With `cpu`, `memory` and `pids` in version 1, in µs: finding the layout 60 (160 the first time),
//! making a group 70, writing four limits 15, entering it by an [`Entrance`] 20, removing it 40. Moving
//! a process from outside by [`Group::add`] waits for an RCU grace period: 7,000 to 15,000.
//!
//! Sources: `man 7 cgroups`, and in the kernel's `Documentation/admin-guide`: `cgroup-v2.rst` and
//! the directory `cgroup-v1`.

mod absence;
mod blkio;
mod controller;
mod cpu;
mod cpuset;
mod devices;
mod directory;
mod entrance;
mod ephemeral;
mod error;
mod freezer;
mod group;
mod hugetlb;
mod io;
mod kill;
mod layout;
mod limits;
mod memory;
mod mountinfo;
mod net_cls;
mod net_prio;
mod oom;
mod pids;
mod place;
mod rdma;
mod stats;
mod sweep;
mod sys;
pub mod systemd;
mod tree;
mod unified;
mod value;

pub use absence::Absence;
pub use controller::{Controller, Controllers, Version};
pub use cpu::{Cpu, CpuStats, CpuUsage, CpuWeight, Throttling};
pub use cpuset::{Cpuset, CpusetStats};
pub use devices::{DeviceAccess, DeviceKind, DeviceRule};
pub use directory::Directory;
pub use entrance::{Entrance, EntranceError};
pub use ephemeral::{Ephemeral, PREFIX};
pub use error::{Error, Result};
pub use freezer::FreezerState;
pub use group::{Group, Wanted};
pub use hugetlb::{Hugetlb, HugetlbStats};
pub use io::{BlockDevice, Io, IoRate, IoStats, IoWeight, Throttle};
pub use layout::{Hierarchy, Layout, Mode};
pub use limits::Limits;
pub use memory::{Memory, MemoryStats};
pub(crate) use mountinfo::mounted_in;
pub use oom::{OomEvent, OomEvents};
pub use pids::{Pids, PidsStats};
pub use rdma::{Rdma, RdmaLimit};
pub use stats::Stats;
pub use sweep::{Swept, evict, sweep};
pub use tree::remove_empty;
pub use unified::Unified;
pub use value::Limit;

#[cfg(test)]
mod tests;

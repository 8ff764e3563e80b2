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
//! A limit whose controller the host lacks is an error that names the controller and the remedy. It
//! is never left out in silence: a student who measures an unlimited group learns the wrong thing.
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
mod tree;
mod unified;
mod value;

pub use absence::Absence;
pub use controller::{Controller, Controllers, Version};
pub use cpu::{Cpu, CpuStats, CpuWeight};
pub use cpuset::{Cpuset, CpusetStats};
pub use devices::{DeviceAccess, DeviceKind, DeviceRule};
pub use directory::Directory;
pub use entrance::{Entrance, EntranceError};
pub use ephemeral::Ephemeral;
pub use error::{Error, Result};
pub use freezer::FreezerState;
pub use group::Group;
pub use hugetlb::{Hugetlb, HugetlbStats};
pub use io::{BlockDevice, Io, IoRate, IoStats, IoWeight, Throttle};
pub use layout::{Hierarchy, Layout, Mode};
pub use limits::Limits;
pub use memory::{Memory, MemoryStats};
pub use oom::{OomEvent, OomEvents};
pub use pids::{Pids, PidsStats};
pub use rdma::{Rdma, RdmaLimit};
pub use stats::Stats;
pub use sweep::{Swept, sweep};
pub use unified::Unified;
pub use value::Limit;

#[cfg(test)]
mod tests;

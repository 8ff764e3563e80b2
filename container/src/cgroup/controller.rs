//! The kernel's controllers by name, and sets of them.

use std::fmt;

/// The two interfaces that the kernel has to control groups.
///
/// Sources: the kernel's `Documentation/admin-guide/cgroup-v1/cgroups.rst` and
/// `Documentation/admin-guide/cgroup-v2.rst`; `man 7 cgroups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// One hierarchy for each controller (or few of them), each with its own tree of groups.
    V1,
    /// One tree for all controllers, enabled downwards by `cgroup.subtree_control`.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
        })
    }
}

/// What a resource controller is in version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InV2 {
    /// A controller of this name, to be enabled in `cgroup.subtree_control`.
    Enabled(&'static str),
    /// Part of every group, with nothing to enable.
    Always,
    /// Not there at all.
    Never,
}

/// A resource controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Controller {
    /// Processor time: weights and bandwidth.
    Cpu,
    /// Processor time: accounting only (in version 2 every group has it).
    Cpuacct,
    /// On which processors and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// How many processes and threads.
    Pids,
    /// Block devices: `blkio` in version 1, `io` in version 2.
    Io,
    /// Which device nodes may be opened or made (in version 2 an eBPF program on any group).
    Devices,
    /// Stopping all processes at once (in version 2 every group has it).
    Freezer,
    /// Huge pages.
    Hugetlb,
    /// A class for the packets of a group; version 1 only.
    NetCls,
    /// Priorities of a group per network interface; version 1 only.
    NetPrio,
    /// Performance counters per group.
    PerfEvent,
    /// InfiniBand resources.
    Rdma,
    /// Scalar resources such as encrypted-VM address space ids; version 2 mostly.
    Misc,
}

impl Controller {
    /// Every controller that this library knows.
    pub const ALL: [Controller; 14] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Pids,
        Controller::Io,
        Controller::Devices,
        Controller::Freezer,
        Controller::Hugetlb,
        Controller::NetCls,
        Controller::NetPrio,
        Controller::PerfEvent,
        Controller::Rdma,
        Controller::Misc,
    ];

    /// The name that version 1 uses in mount options, `/proc/cgroups` and control files.
    pub const fn v1_name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Io => "blkio",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Hugetlb => "hugetlb",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
            Controller::PerfEvent => "perf_event",
            Controller::Rdma => "rdma",
            Controller::Misc => "misc",
        }
    }

    pub(super) const fn in_v2(self) -> InV2 {
        match self {
            Controller::Io => InV2::Enabled("io"),
            Controller::Cpuacct
            | Controller::Devices
            | Controller::Freezer
            | Controller::PerfEvent => InV2::Always,
            Controller::NetCls | Controller::NetPrio => InV2::Never,
            other => InV2::Enabled(other.v1_name()),
        }
    }

    /// Finds a controller by the name that a hierarchy of `version` uses for it.
    pub fn from_name(version: Version, name: &str) -> Option<Controller> {
        Controller::ALL.into_iter().find(|c| match version {
            Version::V1 => c.v1_name() == name,
            Version::V2 => c.in_v2() == InV2::Enabled(name_of(*c)) && name_of(*c) == name,
        })
    }
}

/// The name in `cgroup.controllers`, for those that appear there.
const fn name_of(controller: Controller) -> &'static str {
    match controller.in_v2() {
        InV2::Enabled(name) => name,
        InV2::Always | InV2::Never => "",
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Controller::Io => "blkio/io",
            other => other.v1_name(),
        })
    }
}

/// A set of controllers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Controllers(u16);

impl Controllers {
    /// No controller.
    pub const NONE: Controllers = Controllers(0);

    /// The set with just these.
    pub const fn of(list: &[Controller]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < list.len() {
            bits |= 1 << list[i] as u8;
            i += 1;
        }
        Controllers(bits)
    }

    /// Whether `controller` is in the set.
    pub const fn contains(self, controller: Controller) -> bool {
        self.0 & (1 << controller as u8) != 0
    }

    /// Adds one.
    pub const fn insert(&mut self, controller: Controller) {
        self.0 |= 1 << controller as u8;
    }

    /// Those that are in either set.
    pub const fn union(self, other: Self) -> Self {
        Controllers(self.0 | other.0)
    }

    /// Those that are in this set and not in the other.
    pub const fn without(self, other: Self) -> Self {
        Controllers(self.0 & !other.0)
    }

    /// Those that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Controllers(self.0 & other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The controllers in the set.
    pub fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL
            .into_iter()
            .filter(move |c| self.contains(*c))
    }

    /// Reads a list of names as in `cgroup.controllers` (separated by white space) or in mount
    /// options (separated by commas); unknown names are left out.
    pub(super) fn parse(version: Version, list: &str) -> Self {
        let names = list.split([' ', ',', '\n', '\t']);
        names
            .filter_map(|name| Controller::from_name(version, name))
            .collect()
    }
}

impl FromIterator<Controller> for Controllers {
    fn from_iter<I: IntoIterator<Item = Controller>>(iter: I) -> Self {
        let mut set = Controllers::NONE;
        iter.into_iter().for_each(|c| set.insert(c));
        set
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, controller) in self.iter().enumerate() {
            write!(f, "{}{controller}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

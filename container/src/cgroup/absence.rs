//! Why a controller is not there, and what to do about it.

use std::fmt;

use super::controller::InV2;
use super::{Controller, Layout, Mode};

/// Why a controller is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absence {
    /// No hierarchy at all is mounted.
    NoCgroups,
    /// The kernel was built without it.
    NotBuilt,
    /// The kernel was told to leave it out.
    Disabled(&'static str),
    /// The kernel has it, but no hierarchy with it is mounted (or visible in this container).
    NotMounted(&'static str),
    /// It exists in version 1 only and this host has version 2.
    OnlyV1,
    /// The parent group does not hand it down to this part of the tree.
    NotHandedDown(std::path::PathBuf),
}

impl Absence {
    /// Tells from `/proc/cgroups` why `controller` is in none of the mounted hierarchies.
    ///
    /// ```text
    /// #subsys_name  hierarchy  num_cgroups  enabled
    /// cpuset        3          1            1
    /// ```
    pub(super) fn diagnose(controller: Controller, layout: &Layout, table: &str) -> Absence {
        let name = controller.v1_name();
        let row = |line: &str| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                [first, hierarchy, _, enabled] if first == name => {
                    Some((hierarchy != "0", enabled == "1"))
                }
                _ => None,
            }
        };
        let in_v2 = controller.in_v2();
        match (layout.mode(), table.lines().find_map(row), layout.unified()) {
            (Mode::None, ..) => Absence::NoCgroups,
            (Mode::V2, ..) if in_v2 == InV2::Never => Absence::OnlyV1,
            (_, None, _) => Absence::NotBuilt,
            (_, Some((_, false)), _) => Absence::Disabled(name),
            // Free for version 2, so what we see as its top is not the real one.
            (_, Some((false, true)), Some(unified)) if in_v2 != InV2::Never => {
                Absence::NotHandedDown(unified.mount_point.clone())
            }
            _ => Absence::NotMounted(name),
        }
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Absence::NoCgroups => f.write_str(
                "no cgroup file system is mounted; as root: \
                 mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            ),
            Absence::NotBuilt => f.write_str(
                "this kernel was built without it; boot one with it, or leave the limit out",
            ),
            Absence::Disabled(name) => write!(
                f,
                "it is switched off; remove cgroup_disable={name} from the kernel's command line \
                 (some kernels want cgroup_enable={name})"
            ),
            Absence::NotMounted(name) => write!(
                f,
                "the kernel has it, but no hierarchy with it is mounted here; as root: \
                 mkdir /sys/fs/cgroup/{name} && mount -t cgroup -o {name} {name} \
                 /sys/fs/cgroup/{name}"
            ),
            Absence::OnlyV1 => f.write_str(
                "cgroup v2 has no such controller; match packets by cgroup with nftables or an \
                 eBPF program, or leave the setting out",
            ),
            Absence::NotHandedDown(path) => write!(
                f,
                "{} does not get it from its parent; enable it in the cgroup.subtree_control of \
                 every group above, or (systemd) set Delegate=yes",
                path.display()
            ),
        }
    }
}

//! Controller `net_cls`, version 1 only: marks the packets of a group with a class, by which `tc`
//! and netfilter can tell them.
//!
//! Source: `cgroup-v1/net_cls.rst`.

use super::{Controller, Group, Result};

/// `0xAAAABBBB`: major and minor number of the class, 16 bits each; read back in decimal.
const CLASS_ID: &str = "net_cls.classid";

pub(super) fn apply(class: u32, group: &Group) -> Result<()> {
    group
        .joined(Controller::NetCls)?
        .write(CLASS_ID, &class.to_string())
}

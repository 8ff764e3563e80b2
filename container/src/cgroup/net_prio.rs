//! Controller `net_prio`, version 1 only: the priority of a group's packets on each interface.
//!
//! Source: `cgroup-v1/net_prio.rst`.

use super::{Controller, Error, Group, Result};

/// `INTERFACE PRIORITY`, one a line.
const PRIORITIES: &str = "net_prio.ifpriomap";

/// The kernel's `IFNAMSIZ` without the final NUL.
const LONGEST_NAME: usize = 15;

pub(super) fn validate(priorities: &[(String, u32)]) -> Result<()> {
    let bad = |name: &str| {
        let odd = |b: u8| b.is_ascii_whitespace() || b == b'/' || b == 0;
        name.is_empty() || name.len() > LONGEST_NAME || name.bytes().any(odd)
    };
    match priorities.iter().find(|(name, _)| bad(name)) {
        Some((name, _)) => {
            let expected = "it must be 1 to 15 bytes without space and slash";
            Err(Error::invalid(
                "network interface",
                format!("`{name}`"),
                expected,
            ))
        }
        None => Ok(()),
    }
}

pub(super) fn apply(priorities: &[(String, u32)], group: &Group) -> Result<()> {
    let dir = group.joined(Controller::NetPrio)?;
    let mut lines = priorities
        .iter()
        .map(|(name, priority)| format!("{name} {priority}"));
    lines.try_for_each(|line| dir.write(PRIORITIES, &line))
}

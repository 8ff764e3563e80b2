//! On which memory nodes a container's pages are to be (`config-linux.md`, "Memory policy"; `man 2
//! set_mempolicy`).

use serde::{Deserialize, Serialize};

use super::{Error, or_default};

/// Modes in the order of the kernel's numbers (<linux/mempolicy.h>).
pub const MEMORY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// Flags, the first of which is the kernel's bit 13.
pub const MEMORY_FLAGS: [&str; 3] = [
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];
const FIRST_FLAG: u32 = 13;

/// The field `linux.memoryPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryPolicy {
    /// `MPOL_…`.
    pub mode: String,
    /// Memory nodes such as `0-3,7`.
    #[serde(deserialize_with = "or_default")]
    pub nodes: String,
    /// `MPOL_F_…`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

impl MemoryPolicy {
    /// As the kernel takes it: the mode with its flags, and the nodes.
    ///
    /// # Errors
    /// The first field that means nothing.
    pub fn kernel(&self) -> Result<(u32, Vec<usize>), Error> {
        let field = |name: &str| format!("linux.memoryPolicy.{name}");
        if self.mode.is_empty() {
            return Err(Error::Missing {
                field: field("mode"),
                why: "give a mode such as MPOL_BIND",
            });
        }
        let place = |list: &[&str], name: &str| list.iter().position(|it| *it == name);
        let mode = place(&MEMORY_MODES, &self.mode).ok_or_else(|| {
            let why = "there is no such mode; see `features` for those that there are";
            Error::field(field("mode"), &self.mode, why)
        })?;
        let mut mode = mode as u32;
        for (index, flag) in self.flags.iter().enumerate() {
            let bit = place(&MEMORY_FLAGS, flag).ok_or_else(|| {
                let why = "there is no such flag; see `features` for those that there are";
                Error::field(field(&format!("flags[{index}]")), flag, why)
            })?;
            mode |= 1 << (FIRST_FLAG + bit as u32);
        }
        let nodes = match self.nodes.trim() {
            "" => Vec::new(),
            list => super::numbers(
                &field("nodes"),
                list,
                "give memory nodes such as 0-3,7, below 1024",
            )?,
        };
        Ok((mode, nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: &str, nodes: &str, flags: &[&str]) -> MemoryPolicy {
        MemoryPolicy {
            mode: mode.into(),
            nodes: nodes.into(),
            flags: flags.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    #[test]
    fn names_become_the_kernels_numbers() {
        let bind = policy("MPOL_BIND", "0-1, 3", &["MPOL_F_STATIC_NODES"]);
        assert_eq!(bind.kernel().unwrap(), (2 | 1 << 15, vec![0, 1, 3]));
        let default = policy("MPOL_DEFAULT", "", &[]);
        assert_eq!(default.kernel().unwrap(), (0, vec![]));
    }

    #[test]
    fn what_means_nothing_is_named() {
        for (policy, field) in [
            (policy("", "0", &[]), "linux.memoryPolicy.mode"),
            (policy("INTERLEAVE", "0", &[]), "linux.memoryPolicy.mode"),
            (
                policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "x"]),
                "linux.memoryPolicy.flags[1]",
            ),
            (
                policy("MPOL_BIND", "0-9876543210", &[]),
                "linux.memoryPolicy.nodes",
            ),
            (policy("MPOL_BIND", "3-1", &[]), "linux.memoryPolicy.nodes"),
        ] {
            let error = policy.kernel().unwrap_err();
            assert_eq!(error.field_path(), Some(field), "{error}");
        }
    }
}

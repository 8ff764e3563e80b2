//! Controller `cpuset`: on which processors and memory nodes a group runs.
//!
//! Both versions write lists such as `0-2,7`. In version 1 a new group's lists are *empty*, and no
//! process can join it until both are set: a runtime has to copy them from the parent. In version 2
//! an empty list means "as the parent".
//!
//! Sources: `cgroup-v1/cpusets.rst`, `cgroup-v2.rst` ("Cpuset"), `man 7 cpuset` ("List format").

use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::directory::{Directory, read_all, write_all};
use super::{Controller, Error, Group, Result};

/// List of processors.
const CPUS: &str = "cpuset.cpus";
/// List of memory nodes.
const MEMS: &str = "cpuset.mems";
/// What the kernel made of the lists (version 2, and under another name in version 1).
const EFFECTIVE: [(&str, &str); 2] = [
    ("cpuset.cpus.effective", "cpuset.mems.effective"),
    ("cpuset.effective_cpus", "cpuset.effective_mems"),
];

/// Limits of `cpuset`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// Processors, as a list such as `0-2,7`.
    pub cpus: Option<String>,
    /// Memory nodes, as a list.
    pub mems: Option<String>,
}

/// Where a group may run, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpusetStats {
    /// Effective processors.
    pub cpus: String,
    /// Effective memory nodes.
    pub mems: String,
}

impl Cpuset {
    pub(super) fn is_set(&self) -> bool {
        self.cpus.is_some() || self.mems.is_some()
    }

    pub(super) fn validate(&self) -> Result<()> {
        for (knob, list) in [("cpuset.cpus", &self.cpus), ("cpuset.mems", &self.mems)] {
            if let Some(list) = list
                && !is_list(list)
            {
                let expected = "it must be a list of numbers and ranges such as 0-2,7";
                return Err(Error::invalid(knob, format!("`{list}`"), expected));
            }
        }
        Ok(())
    }

    pub(super) fn apply(&self, group: &Group) -> Result<()> {
        let dir = group.joined(Controller::Cpuset)?;
        for (file, list) in [(CPUS, &self.cpus), (MEMS, &self.mems)] {
            if let Some(list) = list {
                dir.write(file, list)?;
            }
        }
        Ok(())
    }
}

/// Whether `text` follows the list format of `man 7 cpuset`: numbers and rising ranges, separated
/// by commas, a range optionally followed by `:step` or `:used/step`.
fn is_list(text: &str) -> bool {
    let number = |n: &str| {
        n.parse::<u32>()
            .ok()
            .filter(|_| n.starts_with(|c: char| c.is_ascii_digit()))
    };
    let stride = |s: &str| match s.split_once('/') {
        Some((used, step)) => number(used)
            .zip(number(step))
            .is_some_and(|(u, s)| u <= s && s > 0),
        None => number(s).is_some_and(|s| s > 0),
    };
    let range = |r: &str| match r.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(a, b)| a <= b),
        None => number(r).is_some(),
    };
    let item = |item: &str| match item.split_once(':') {
        Some((r, s)) => r.contains('-') && range(r) && stride(s),
        None => range(item),
    };
    !text.is_empty() && text.split(',').all(item)
}

/// Reads where the group may run.
pub(super) fn stats(dir: &Directory) -> Result<CpusetStats> {
    for (cpus, mems) in EFFECTIVE {
        if let (Some(cpus), Some(mems)) = (dir.read_optional(cpus)?, dir.read_optional(mems)?) {
            let line = |text: String| text.trim().to_owned();
            return Ok(CpusetStats {
                cpus: line(cpus),
                mems: line(mems),
            });
        }
    }
    Ok(CpusetStats::default())
}

/// Version 1: gives the group at `path`, and each ancestor that is still empty, its parent's lists.
pub(super) fn inherit(top: &Path, path: &Path) -> Result<()> {
    for file in [CPUS, MEMS] {
        inherit_file(top, path, file)?;
    }
    Ok(())
}

fn inherit_file(top: &Path, path: &Path, file: &str) -> Result<String> {
    let own = path.join(file);
    let open = |access: OFlag| open(&own, access | OFlag::O_CLOEXEC, Mode::empty());
    let text = open(OFlag::O_RDONLY).and_then(|fd| read_all(fd.as_fd()));
    let text = text.map_err(|source| Error::Read {
        path: own.clone(),
        source,
    })?;
    let text = String::from_utf8_lossy(&text);
    let parent = path.parent().filter(|p| p.starts_with(top) && path != top);
    match (text.trim(), parent) {
        ("", Some(parent)) => {
            let list = inherit_file(top, parent, file)?;
            let write = open(OFlag::O_WRONLY);
            let write = write.and_then(|fd| write_all(fd.as_fd(), list.as_bytes()));
            write.map_err(|source| Error::Write {
                path: own.clone(),
                value: list.as_str().into(),
                source,
            })?;
            Ok(list)
        }
        (list, _) => Ok(list.to_owned()),
    }
}

#[cfg(test)]
mod tests;

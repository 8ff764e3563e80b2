//! Controller `hugetlb`: how much of the machine's reserved huge pages a group may use. Beyond it a
//! page fault ends in SIGBUS, or the reservation by `mmap` in ENOMEM.
//!
//! Sources: `cgroup-v1/hugetlb.rst`, `cgroup-v2.rst` ("HugeTLB").

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::directory::Directory;
use super::{Controller, Error, Group, Limit, Result, Version};

/// Limits of `hugetlb`: for each page size, written as the kernel does (`2MB`, `1GB`), bytes.
pub type Hugetlb = BTreeMap<String, Limit>;

/// Use of huge pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugetlbStats {
    /// Now, in bytes.
    pub usage_bytes: u64,
    /// Most ever, in bytes; version 1 only.
    pub peak_bytes: Option<u64>,
    /// How often the limit was hit.
    pub limit_hits: u64,
}

/// The control file of what is faulted in, and of what is reserved (Linux 5.7). In bytes.
fn limit_files(version: Version, size: &str) -> [String; 2] {
    match version {
        Version::V1 => ["", "rsvd."].map(|r| format!("hugetlb.{size}.{r}limit_in_bytes")),
        Version::V2 => ["", "rsvd."].map(|r| format!("hugetlb.{size}.{r}max")),
    }
}

pub(super) fn validate(limits: &Hugetlb) -> Result<()> {
    for size in limits.keys() {
        let unit = size
            .strip_suffix("KB")
            .or(size.strip_suffix("MB"))
            .or(size.strip_suffix("GB"));
        let power = |n: &str| {
            let digits = n.bytes().all(|b| b.is_ascii_digit()) && !n.starts_with('0');
            digits && n.parse::<u64>().is_ok_and(u64::is_power_of_two)
        };
        if !unit.is_some_and(power) {
            let expected = "it must be a power of two and KB, MB or GB, such as 2MB";
            return Err(Error::invalid(
                "huge page size",
                format!("`{size}`"),
                expected,
            ));
        }
    }
    Ok(())
}

pub(super) fn apply(limits: &Hugetlb, group: &Group) -> Result<()> {
    let dir = group.joined(Controller::Hugetlb)?;
    for (size, limit) in limits {
        let [faulted, reserved] = limit_files(dir.version(), size);
        let value = match dir.version() {
            Version::V1 => limit.to_v1(),
            Version::V2 => limit.to_string(),
        };
        if !dir.has(&faulted) {
            let expected = "this machine has no pages of that size; see /sys/kernel/mm/hugepages";
            return Err(Error::invalid(
                "huge page size",
                format!("`{size}`"),
                expected,
            ));
        }
        dir.write(&faulted, &value)?;
        match dir.write(&reserved, &value) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The page sizes that the machine has, as the names of the control files show them.
fn sizes(dir: &Directory) -> Result<Vec<String>> {
    let suffix = match dir.version() {
        Version::V1 => ".limit_in_bytes",
        Version::V2 => ".max",
    };
    let size = |name: &str| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    Ok(dir
        .file_names()?
        .iter()
        .filter_map(|name| size(name))
        .collect())
}

/// Reads the use of huge pages, if the group joined the controller.
pub(super) fn stats(group: &Group) -> Result<Option<BTreeMap<String, HugetlbStats>>> {
    let Some(dir) = group.directory(Controller::Hugetlb) else {
        return Ok(None);
    };
    let mut all = BTreeMap::new();
    for size in sizes(dir)? {
        let file = |what: &str| format!("hugetlb.{size}.{what}");
        let stats = match dir.version() {
            Version::V1 => HugetlbStats {
                usage_bytes: dir.read_number(&file("usage_in_bytes"))?,
                peak_bytes: dir.optional_number(&file("max_usage_in_bytes"))?,
                limit_hits: dir.optional_number(&file("failcnt"))?.unwrap_or(0),
            },
            Version::V2 => HugetlbStats {
                usage_bytes: dir.read_number(&file("current"))?,
                peak_bytes: None,
                limit_hits: dir
                    .optional_keyed(&file("events"))?
                    .get("max")
                    .copied()
                    .unwrap_or(0),
            },
        };
        all.insert(size, stats);
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_powers_of_two_with_a_unit() {
        let check = |size: &str| validate(&Hugetlb::from([(size.into(), Limit::Max)]));
        for good in ["2MB", "1GB", "64KB", "512MB"] {
            check(good).expect(good);
        }
        for bad in [
            "",
            "MB",
            "3MB",
            "2M",
            "2mb",
            "02MB",
            "+2MB",
            "../x",
            "2.MB",
            "99999999999999999999MB",
        ] {
            check(bad).expect_err(bad);
        }
    }
}

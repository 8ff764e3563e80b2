//! The groups of a container, and the limits in their files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Fact, read};
use crate::spec::Spec;

/// The groups that it is in, and the limits in their files.
pub(super) fn cgroups(process: &Path, spec: &Spec, paths: &[PathBuf]) -> Result<Vec<Fact>, Error> {
    let lines = read(&process.join("cgroup"))?;
    let groups: BTreeSet<&str> = lines
        .lines()
        .filter_map(|it| it.splitn(3, ':').nth(2))
        .collect();
    let mut facts = Vec::new();
    for path in paths {
        let name = path.to_string_lossy();
        let is_in = groups
            .iter()
            .any(|group| *group != "/" && name.ends_with(group));
        facts.push(Fact {
            name: "group".into(),
            asked: Some(name.clone().into_owned()),
            found: is_in.then(|| name.into_owned()),
            differs: !is_in,
        });
    }
    let resources = &spec.linux.resources;
    let cpu = resources.cpu.clone().unwrap_or_default();
    let memory = resources.memory.clone().unwrap_or_default();
    let number = |value: i64| {
        if value < 0 {
            "max".to_owned()
        } else {
            value.to_string()
        }
    };
    let period = cpu.period.unwrap_or(100_000);
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    // Version 2's files, then version 1's; each is looked for where it can be.
    let files = [
        ("cpu.weight", resources.unified.get("cpu.weight").cloned()),
        (
            "cpu.max",
            cpu.quota.map(|quota| format!("{} {period}", number(quota))),
        ),
        ("memory.max", memory.limit.map(number)),
        ("memory.low", memory.reservation.map(number)),
        (
            "pids.max",
            resources.pids.as_ref().and_then(|it| it.limit).map(number),
        ),
        ("cpuset.cpus", text(&cpu.cpus)),
        ("cpu.shares", cpu.shares.map(|it| it.to_string())),
        ("cpu.cfs_quota_us", cpu.quota.map(|it| it.to_string())),
        ("memory.limit_in_bytes", memory.limit.map(number)),
    ];
    for (file, asked) in files {
        let found = paths
            .iter()
            .find_map(|path| fs::read_to_string(path.join(file)).ok());
        if let Some(found) = found.map(|it| it.trim().to_owned()) {
            // The kernel counts memory in pages.
            let is_memory = file.starts_with("memory");
            let pages = |text: &str| text.parse::<u64>().map(|bytes| bytes / 4096).ok();
            let agrees = |asked: &String| {
                *asked == found
                    || is_memory && pages(asked).is_some() && pages(asked) == pages(&found)
            };
            facts.push(Fact {
                name: file.into(),
                differs: asked.as_ref().is_some_and(|asked| !agrees(asked)),
                asked,
                found: Some(found),
            });
        }
    }
    Ok(facts)
}

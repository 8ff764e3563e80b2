//! What the kernel makes of a container, beside what its configuration asked for: a container is nothing
//! but this, and all of it can be read in `/proc/PID` (`man 5 proc`).

mod cgroups;
mod mounts;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Error, status};
use crate::namespace::Namespace;
use crate::spec::{Capabilities, Spec, capability_names};
use cgroups::cgroups;
use mounts::mounts;

/// One thing about a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about.
    pub name: String,
    /// What the configuration says; none when it says nothing.
    pub asked: Option<String>,
    /// What the kernel has; none when it has no such thing.
    pub found: Option<String>,
    /// Whether the two do not agree.
    pub differs: bool,
}

/// Facts of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// What they are about.
    pub name: &'static str,
    /// The facts.
    pub facts: Vec<Fact>,
}

/// A container, as the kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its name.
    pub id: String,
    /// Its state.
    pub status: &'static str,
    /// Its init.
    pub pid: i32,
    /// Everything else.
    pub sections: Vec<Section>,
}

impl Inspection {
    /// How many facts do not agree with the configuration.
    pub fn differences(&self) -> usize {
        let facts = self.sections.iter().flat_map(|it| &it.facts);
        facts.filter(|it| it.differs).count()
    }
}

impl Fact {
    /// Something that has to be as it was asked for, if it was.
    fn new(name: impl Into<String>, asked: Option<String>, found: Option<String>) -> Self {
        Self {
            differs: asked.is_some() && asked != found,
            name: name.into(),
            asked,
            found,
        }
    }
}

/// Looks at a container that runs.
///
/// # Errors
/// [`Error::NotRunning`] for one that has ended, or a file of the kernel's that cannot be read.
pub fn inspect(root: &Path, id: &str) -> Result<Inspection, Error> {
    let container = status::state(root, id)?;
    let record = &container.record;
    // Held, the number stays its own.
    let _init = record.init().ok_or(Error::NotRunning)?;
    let directory = root.join(id);
    let spec = Spec::read(&directory.join("config.json"))?;
    let process = PathBuf::from(format!("/proc/{}", record.pid));
    let status_text = read(&process.join("status"))?;
    Ok(Inspection {
        id: id.into(),
        status: container.status.name(),
        pid: record.pid,
        sections: vec![
            section("namespaces", namespaces(&process, &spec)),
            section("cgroups", cgroups(&process, &spec, &record.cgroup_paths)?),
            section("mounts", mounts(&process, &spec)?),
            section("capabilities", capabilities(&status_text, &spec)),
            section("rights", rights(&process, &status_text, &spec)),
        ],
    })
}

fn section(name: &'static str, facts: Vec<Fact>) -> Section {
    Section { name, facts }
}

fn read(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|source| Error::File {
        path: path.into(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `/proc/PID/ns`: a link for each kind says which namespace it is.
fn namespaces(process: &Path, spec: &Spec) -> Vec<Fact> {
    let link = |path: PathBuf| fs::read_link(path).ok().map(|it| it.display().to_string());
    let fact = |kind: Namespace| {
        let asked = spec
            .linux
            .namespaces
            .iter()
            .find(|it| it.kind.kernel() == kind);
        let theirs = link(process.join("ns").join(kind.file()))?;
        let ours = link(Path::new("/proc/self/ns").join(kind.file()))?;
        let is_shared = theirs == ours;
        let (asked, differs) = match asked {
            None => ("the host's".to_owned(), !is_shared),
            Some(it) if it.path.is_empty() => ("a new one".to_owned(), is_shared),
            Some(it) => {
                let named = link(it.path.clone().into());
                (it.path.clone(), named.is_some_and(|named| named != theirs))
            }
        };
        Some(Fact {
            name: kind.file().to_owned(),
            asked: Some(asked),
            found: Some(if is_shared {
                format!("{theirs}, the host's")
            } else {
                theirs
            }),
            differs,
        })
    };
    Namespace::ALL.into_iter().filter_map(fact).collect()
}

/// A field of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status
        .lines()
        .find_map(|it| it.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim)
}

fn capabilities(status: &str, spec: &Spec) -> Vec<Fact> {
    let none = Capabilities::default();
    let process = spec.process.as_ref();
    let asked = process
        .and_then(|it| it.capabilities.as_ref())
        .unwrap_or(&none);
    let sets = [
        ("bounding", "CapBnd", &asked.bounding),
        ("effective", "CapEff", &asked.effective),
        ("permitted", "CapPrm", &asked.permitted),
        ("inheritable", "CapInh", &asked.inheritable),
        ("ambient", "CapAmb", &asked.ambient),
    ];
    let names: Vec<String> = capability_names().collect();
    let show = |set: BTreeSet<&str>| {
        let short: Vec<&str> = set.iter().map(|it| it.trim_start_matches("CAP_")).collect();
        if short.is_empty() {
            "none".to_owned()
        } else if short.len() == names.len() {
            "all".to_owned()
        } else {
            short.join(" ")
        }
    };
    let fact = |(name, line, asked): (&str, &str, &Vec<String>)| {
        let bits = u64::from_str_radix(field(status, line)?, 16).ok()?;
        let has =
            |(number, name): (usize, &'_ String)| (bits & 1 << number != 0).then(|| name.clone());
        let found: Vec<String> = names.iter().enumerate().filter_map(has).collect();
        Some(Fact::new(
            name,
            Some(show(asked.iter().map(String::as_str).collect())),
            Some(show(found.iter().map(String::as_str).collect())),
        ))
    };
    sets.into_iter().filter_map(fact).collect()
}

/// User, groups, privileges, filters.
fn rights(process: &Path, status: &str, spec: &Spec) -> Vec<Fact> {
    let asked = spec.process.as_ref();
    let first = |name| field(status, name).and_then(|it| it.split_whitespace().nth(1));
    let maps = |maps: &[crate::spec::IdMapping], id: u32| {
        let map = maps
            .iter()
            .find(|it| (it.container_id..it.container_id + it.size).contains(&id));
        map.map_or(id, |map| map.host_id + (id - map.container_id))
            .to_string()
    };
    let linux = &spec.linux;
    let yes = |on| if on { "yes" } else { "no" }.to_owned();
    let seccomp = |mode: &str| match mode {
        "0" => "none".to_owned(),
        "1" => "strict".to_owned(),
        _ => "a filter".to_owned(),
    };
    let is_filtered = if linux.seccomp.is_some() { "2" } else { "0" };
    let ours = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let outer = field(&ours, "Seccomp").unwrap_or("0");
    let read = |name| {
        fs::read_to_string(process.join(name))
            .ok()
            .map(|it| it.trim().to_owned())
    };
    let label = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut facts = vec![
        Fact::new(
            "user",
            asked.map(|it| maps(&linux.uid_mappings, it.user.uid)),
            first("Uid").map(str::to_owned),
        ),
        Fact::new(
            "group",
            asked.map(|it| maps(&linux.gid_mappings, it.user.gid)),
            first("Gid").map(str::to_owned),
        ),
        Fact::new(
            "no new privileges",
            asked.map(|it| yes(it.no_new_privileges)),
            field(status, "NoNewPrivs").map(|it| yes(it == "1")),
        ),
        Fact::new(
            "system-call filter",
            // A filter of the caller's holds for all below it.
            Some(seccomp(if is_filtered == "2" {
                is_filtered
            } else {
                outer
            })),
            field(status, "Seccomp").map(seccomp),
        ),
        Fact::new(
            "out-of-memory score",
            asked
                .and_then(|it| it.oom_score_adj)
                .map(|it| it.to_string()),
            read("oom_score_adj"),
        ),
        Fact::new(
            "umask",
            asked
                .and_then(|it| it.user.umask)
                .map(|it| format!("{it:04o}")),
            field(status, "Umask").map(str::to_owned),
        ),
    ];
    if let Some(profile) = asked.and_then(|it| label(&it.apparmor_profile)) {
        facts.push(Fact::new(
            "AppArmor profile",
            Some(profile),
            read("attr/apparmor/current"),
        ));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_cannot_differ() {
        let fact = |asked: Option<&str>, found: Option<&str>| {
            Fact::new("x", asked.map(str::to_owned), found.map(str::to_owned)).differs
        };
        assert!(!fact(None, Some("1")) && !fact(Some("1"), Some("1")));
        assert!(fact(Some("1"), Some("2")) && fact(Some("1"), None));
    }
}

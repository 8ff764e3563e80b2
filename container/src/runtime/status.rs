//! Looking at containers, and changing what they may use: `state`, `list`, `ps`, `events`, `pause`, `resume`,
//! `update`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::Error;
use super::bundle::{limit_fields, limits};
use super::members;
use super::state::{self, Directory, Record, Status};
use crate::cgroup::{self, FreezerState, Group, Layout, Limit, Stats, systemd};
use crate::spec::Resources;

/// A container, as the kernel has it now.
#[derive(Debug, Clone)]
pub struct Container {
    /// What is remembered.
    pub record: Record,
    /// Its state.
    pub status: Status,
}

/// The cgroup of a container, what is left of it.
pub(super) fn group(record: &Record) -> Result<Group, Error> {
    let layout = Layout::detect()?;
    Ok(Group::from_paths(
        &layout,
        &record.cgroup_paths,
        layout.controllers(),
    )?)
}

/// The same for what takes one: a rootless container may have none.
pub(super) fn own_group(record: &Record, what: &'static str) -> Result<Group, Error> {
    if record.cgroup_paths.is_empty() {
        return Err(Error::NoGroup { what });
    }
    group(record)
}

/// Whether a cgroup stands still.
pub(super) fn is_frozen(group: &Group) -> bool {
    matches!(
        group.freezer_state(),
        Ok(FreezerState::Frozen | FreezerState::Freezing)
    )
}

pub(super) fn status(directory: &Path, record: &Record) -> Status {
    let Some((_init, waits)) = record.waiting(directory) else {
        return Status::Stopped;
    };
    if group(record).is_ok_and(|group| is_frozen(&group)) {
        return Status::Paused;
    }
    if waits {
        Status::Created
    } else {
        Status::Running
    }
}

fn look(path: &Path, id: &str) -> Result<Container, Error> {
    match state::load(path) {
        Ok(record) => Ok(Container {
            status: status(path, &record),
            record,
        }),
        Err(_) if !path.is_dir() => Err(Error::NotFound(id.into())),
        // Its maker is at work, or was killed before it could write anything down.
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Container {
            record: Record {
                id: id.into(),
                ..Record::default()
            },
            status: Status::Creating,
        }),
        Err(error) => Err(error),
    }
}

/// The state of a container.
///
/// # Errors
/// [`Error::NotFound`].
pub fn state(root: &Path, id: &str) -> Result<Container, Error> {
    state::check_id(id)?;
    look(&root.join(id), id)
}

/// All containers, by name.
///
/// # Errors
/// When the directory cannot be read; that it is not there means that there are none.
pub fn list(root: &Path) -> Result<Vec<Container>, Error> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| Error::File {
            path: root.into(),
            source,
        })?,
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|it| it.path().is_dir())
        .filter_map(|it| it.file_name().into_string().ok())
        .collect();
    names.sort();
    // One that is deleted meanwhile is gone.
    Ok(names
        .iter()
        .filter_map(|id| look(&root.join(id), id).ok())
        .collect())
}

/// The processes of a container, as this PID namespace numbers them.
///
/// # Errors
/// [`Error::NotFound`], or a cgroup that cannot be read.
pub fn processes(root: &Path, id: &str) -> Result<Vec<i32>, Error> {
    let container = state(root, id)?;
    if container.record.cgroup_paths.is_empty() {
        return Ok(members::processes(&container.record));
    }
    Ok(group(&container.record)?.processes()?)
}

/// What a container has used.
///
/// # Errors
/// [`Error::NotRunning`], or a cgroup that cannot be read.
pub fn stats(root: &Path, id: &str) -> Result<Stats, Error> {
    let container = state(root, id)?;
    if container.status == Status::Stopped {
        return Err(Error::NotRunning);
    }
    Ok(own_group(&container.record, "tell what it uses")?.stats()?)
}

/// Changes a container's share and its limits; what is not given stays.
///
/// # Errors
/// As [`update`].
pub fn limit(root: &Path, id: &str, limits: &crate::Limits) -> Result<(), Error> {
    let mut spec = serde_json::json!({});
    super::host_bundle::limit(&mut spec, limits)?;
    let resources = spec["linux"]["resources"].to_string();
    update(root, id, &Resources::parse(resources.as_bytes())?)
}

/// Stops a container where it stands.
///
/// # Errors
/// When it does not run.
pub fn pause(root: &Path, id: &str) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = directory.load()?;
    match status(&directory.path, &record) {
        Status::Running | Status::Created => {
            let group = own_group(&record, "pause it")?;
            group.freeze()?;
            // Who has been killed and stands still would never die of it (version 1).
            if state::is_killed(record.pid) {
                group.thaw()?;
                return Err(refuse("pause", id, Status::Stopped, "; it was killed"));
            }
            Ok(())
        }
        status => Err(refuse(
            "pause",
            id,
            status,
            "; only one that runs can be paused",
        )),
    }
}

/// Lets a paused container go on.
///
/// # Errors
/// When it is not paused.
pub fn resume(root: &Path, id: &str) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = directory.load()?;
    match status(&directory.path, &record) {
        Status::Paused => Ok(group(&record)?.thaw()?),
        status => Err(refuse(
            "resume",
            id,
            status,
            "; only one that is paused can go on",
        )),
    }
}

pub(super) fn refuse(
    command: &'static str,
    id: &str,
    status: Status,
    remedy: &'static str,
) -> Error {
    Error::State {
        command,
        id: id.into(),
        status: status.name(),
        remedy,
    }
}

/// Changes what a container may use.
///
/// # Errors
/// A value that means nothing, or what the kernel says to it.
pub fn update(root: &Path, id: &str, resources: &Resources) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = directory.load()?;
    if record.init().is_none() {
        return Err(Error::NotRunning);
    }
    limits::warn(resources);
    let group = own_group(&record, "limit it")?;
    let mut resources = resources.clone();
    // A bound on memory and swap together is one beside the bound on memory that holds already.
    if let Some(memory) = &mut resources.memory
        && memory.limit.is_none()
        && memory.swap.is_some()
    {
        memory.limit = match group.stats()?.memory.and_then(|it| it.limit) {
            Some(Limit::At(bytes)) => i64::try_from(bytes).ok(),
            Some(Limit::Max) => Some(-1),
            None => None,
        };
    }
    let limits = limits::limits(&resources).map_err(Error::Limit)?;
    if let Some(unit) = &record.scope {
        let version = systemd::version(&Layout::detect()?);
        let manager = systemd::Manager::connect(systemd::is_user());
        let told = manager.and_then(|mut manager| manager.update(unit, &limits, version));
        told.map_err(cgroup::Error::from)?;
    }
    group
        .apply(&limits)
        .map_err(|source| match limit_fields::refused(&source) {
            Some(field) => Error::Limited { field, source },
            None => source.into(),
        })
}

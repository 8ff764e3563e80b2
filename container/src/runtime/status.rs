//! Looking at containers, signalling them and ending them: `state`, `list`, `ps`, `kill`, `pause`,
//! `resume`, `update`, `delete`.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::Error;
use super::bundle::limits;
use super::executor::Runtime;
use super::state::{self, Directory, Record, Status};
use crate::Observer;
use crate::cgroup::{self, FreezerState, Group, Layout, Limit, Stats, systemd};
use crate::execute::take_steps;
use crate::plan::Plan;
use crate::spec::{NamespaceKind, Resources, Spec};
use crate::sys;

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

/// Whether a cgroup stands still.
pub(super) fn is_frozen(group: &Group) -> bool {
    matches!(
        group.freezer_state(),
        Ok(FreezerState::Frozen | FreezerState::Freezing)
    )
}

fn status(directory: &Path, record: &Record) -> Status {
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
        Err(Error::File { .. }) => Ok(Container {
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
    Ok(group(&container.record)?.stats()?)
}

/// A signal by name, with or without `SIG`, or number.
///
/// # Errors
/// [`Error::Signal`].
pub fn signal_number(name: &str) -> Result<i32, Error> {
    if let Ok(number) = name.parse::<i32>() {
        return if (0..=64).contains(&number) {
            Ok(number)
        } else {
            Err(Error::Signal(name.into()))
        };
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(signal) = format!("SIG{short}").parse::<Signal>() {
        return Ok(signal as i32);
    }
    let offset = |rest: &str| {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.parse::<i32>().ok()
        }
    };
    let real_time = match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest).map(|it| 34 + it),
        (_, Some(rest)) => offset(rest).map(|it| 64 + it),
        _ => None,
    };
    real_time
        .filter(|it| (34..=64).contains(it))
        .ok_or_else(|| Error::Signal(name.into()))
}

/// Sends a signal to a container's init, or with `all` to all of its processes.
///
/// # Errors
/// [`Error::NotRunning`] when it has ended.
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = directory.load()?;
    let init = record.init();
    if signal == 0 && all {
        return Ok(());
    }
    // Without a PID namespace of its own there is no init whose end takes the others with it.
    let spec = Spec::read(&directory.path.join("config.json")).unwrap_or_default();
    let pids = spec.namespace(NamespaceKind::Pid);
    let has_init = pids.is_some_and(|it| it.path.is_empty());
    if all || (!has_init && signal == libc::SIGKILL) {
        let group = group(&record)?;
        if signal == libc::SIGKILL {
            return Ok(group.kill()?);
        }
        let signal = Signal::try_from(signal).map_err(|_| Error::Signal(signal.to_string()))?;
        group.signal(signal)?;
        return Ok(());
    }
    let init = init.ok_or(Error::NotRunning)?;
    match sys::pidfd_send_signal(init.as_fd(), signal) {
        Err(Errno::ESRCH) => return Err(Error::NotRunning),
        other => other.map_err(Error::system("pidfd_send_signal"))?,
    }
    // One that stands still would not die of it (version 1), and a shared PID namespace has no init
    // that takes the others with it.
    if signal == libc::SIGKILL
        && let Ok(group) = group(&record)
        && is_frozen(&group)
    {
        let _ = group.thaw();
    }
    Ok(())
}

/// Asks a container to end, and kills it when it has not ended after `patience`. One that has ended is no
/// error.
///
/// # Errors
/// [`Error::NotFound`], or what the kernel says.
pub fn stop(root: &Path, id: &str, patience: Duration) -> Result<(), Error> {
    let container = state(root, id)?;
    let Some(init) = container.record.init() else {
        return Ok(());
    };
    let ends_within = |time: Duration| {
        let mut ready = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        let milliseconds = time.as_millis().try_into().unwrap_or(u16::MAX);
        poll(&mut ready, PollTimeout::from(milliseconds)).is_ok_and(|count| count > 0)
    };
    let is_over = |sent: Result<(), Error>| match sent {
        Err(Error::NotRunning) => Ok(()),
        other => other,
    };
    is_over(kill(root, id, libc::SIGTERM, false))?;
    if container.status == Status::Paused {
        let _ = resume(root, id);
    }
    // What was never started hears of nothing.
    if container.status != Status::Created && ends_within(patience) {
        return Ok(());
    }
    is_over(kill(root, id, libc::SIGKILL, false))?;
    if ends_within(Duration::from_secs(10)) {
        return Ok(());
    }
    Err(refuse(
        "stop",
        id,
        container.status,
        "; it hangs in the kernel: see /proc/PID/stack",
    ))
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
            let group = group(&record)?;
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

fn refuse(command: &'static str, id: &str, status: Status, remedy: &'static str) -> Error {
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
    let group = group(&record)?;
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
    let limits = limits::limits(&resources)?;
    if let Some(unit) = &record.scope {
        let version = systemd::version(&Layout::detect()?);
        let manager = systemd::Manager::connect(systemd::is_user());
        let told = manager.and_then(|mut manager| manager.update(unit, &limits, version));
        told.map_err(cgroup::Error::from)?;
    }
    Ok(group.apply(&limits)?)
}

/// What [`delete`] knows before it does anything.
struct Doomed {
    directory: Directory,
    record: Record,
    spec: Option<Spec>,
    group: Option<Group>,
    init: Option<OwnedFd>,
    plan: Plan,
}

impl Doomed {
    fn open(root: &Path, id: &str, force: bool) -> Result<Self, Error> {
        let directory = Directory::open(root, id)?;
        let spec = Spec::read(&directory.path.join("config.json")).ok();
        let record = match directory.load() {
            // Its maker was killed before it wrote it down.
            Err(Error::File { .. }) => None,
            Err(Error::Json { .. }) if force => None,
            other => Some(other?),
        };
        let lives = record.as_ref().and_then(|it| it.waiting(&directory.path));
        let (init, waits) = lives.unzip();
        // One that was created and never started has nothing to lose.
        if let Some(record) = &record
            && waits == Some(false)
            && !force
        {
            return Err(refuse(
                "delete",
                id,
                status(&directory.path, record),
                " that is not stopped; end it, or give --force",
            ));
        }
        let scope = record.is_none().then(|| directory.scope()).flatten();
        let group = match (&record, &spec) {
            (Some(record), _) if init.is_some() => group(record).ok(),
            // Its directories are systemd's, and go with it.
            (None, _) if scope.is_some() => None,
            (None, Some(spec)) => Some(super::create::unfinished_group(spec, id)?),
            // Where nobody is left, or nothing was made, nobody is to be killed.
            _ => None,
        };
        let pid = init.as_ref().and(record.as_ref()).map(|record| record.pid);
        let record = record.unwrap_or_else(|| Record {
            id: id.into(),
            cgroup_paths: group
                .iter()
                .flat_map(Group::paths)
                .map(Path::to_owned)
                .collect(),
            scope,
            ..Record::default()
        });
        let path = &directory.path;
        Ok(Self {
            plan: super::plan::delete(spec.as_ref(), &record, path, pid),
            record,
            directory,
            spec,
            group,
            init,
        })
    }
}

/// Removes a container that has ended, or with `force` one that has not.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::State`] for one that still runs.
pub fn delete(
    root: &Path,
    id: &str,
    force: bool,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    let doomed = match Doomed::open(root, id, force) {
        Err(Error::NotFound(_)) if force => return Ok(()),
        other => other?,
    };
    let mut runtime = Runtime {
        spec: doomed.spec.as_ref(),
        record: doomed.record,
        directory: Some(doomed.directory),
        group: doomed.group,
        target: doomed.init,
        ..Runtime::new(&doomed.plan, observer)
    };
    take_steps(&mut runtime, &doomed.plan)
}

/// What [`delete`] would do.
///
/// # Errors
/// As [`delete`].
pub fn dry_delete(root: &Path, id: &str, force: bool) -> Result<Plan, Error> {
    Ok(Doomed::open(root, id, force)?.plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("RTMIN+1", 35),
            ("SIGRTMAX-2", 62),
            ("0", 0),
        ] {
            assert_eq!(signal_number(name).unwrap(), number, "{name}");
        }
        for name in ["", "65", "-1", "SIGJOY", "RTMIN+99", "RTMAX+1"] {
            assert!(signal_number(name).is_err(), "{name}");
        }
    }
}

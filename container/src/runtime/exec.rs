//! `exec`: another process in a container that runs. It enters all namespaces of init by one descriptor
//! (`man 2 setns`), which means init and never another process, and gives up the same rights.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::executor::{Birth, Runtime};
use super::state::{Directory, Record};
use super::{Error, connect_console, plan};
use crate::Observer;
use crate::cgroup::{Group, Layout};
use crate::execute::take_steps;
use crate::plan::Plan;
use crate::spec::{Process, Spec};
use crate::sys::Cloned;

/// What `exec` takes.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Where containers are remembered.
    pub root: PathBuf,
    /// The container's name.
    pub id: String,
    /// A file with the whole process, or none: the container's own with the changes below.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Where it starts.
    pub cwd: Option<String>,
    /// More environment.
    pub env: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Who it is, `UID[:GID]`.
    pub user: Option<String>,
    /// More groups.
    pub additional_gids: Vec<u32>,
    /// More capabilities.
    pub capabilities: Vec<String>,
    /// Whether set-user-ID programs give it nothing.
    pub no_new_privs: bool,
    /// A file that its PID is written to.
    pub pid_file: Option<PathBuf>,
    /// A socket that its terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// How many descriptors it inherits.
    pub preserve_fds: u32,
    /// Whether a paused container is no error; the process starts when it goes on.
    pub ignore_paused: bool,
}

/// What is known before anything is done.
struct Prepared {
    record: Record,
    target: OwnedFd,
    spec: Spec,
    layout: Layout,
    group: Group,
    plan: Plan,
    /// Held so that nobody removes the container meanwhile; but whoever waits for `resume` may not keep it
    /// waiting.
    _directory: Option<Directory>,
}

impl Prepared {
    fn new(what: &Exec) -> Result<Self, Error> {
        let directory = Directory::open(&what.root, &what.id)?;
        let record = directory.load()?;
        let target = record.init().ok_or(Error::State {
            command: "exec in",
            id: what.id.clone(),
            status: "stopped",
            remedy: "; it has ended",
        })?;
        let spec = Spec::read(&directory.path.join("config.json"))?;
        let process = the_process(what, &spec)?;
        let layout = Layout::detect()?;
        let group = Group::from_paths(&layout, &record.cgroup_paths, layout.controllers())?;
        let is_paused = super::status::is_frozen(&group);
        if is_paused && !what.ignore_paused {
            return Err(Error::State {
                command: "exec in",
                id: what.id.clone(),
                status: "paused",
                remedy: "; resume it, or give --ignore-paused",
            });
        }
        let is_born_in_group = group.directory_fd().is_some();
        let plan = plan::exec(&process, &spec, what.pid_file.as_deref(), is_born_in_group)?;
        Ok(Self {
            record,
            target,
            spec,
            layout,
            group,
            plan,
            _directory: (!is_paused).then_some(directory),
        })
    }
}

/// What [`exec`] would do.
///
/// # Errors
/// As [`exec`].
pub fn dry_run(what: &Exec) -> Result<Plan, Error> {
    Ok(Prepared::new(what)?.plan)
}

/// Starts a process in a container. A terminal goes to `console` if there is no socket for it.
///
/// # Errors
/// When the container does not run, or the program cannot be executed.
pub fn exec(
    what: &Exec,
    console: Option<OwnedFd>,
    observer: &mut dyn Observer,
) -> Result<Cloned, Error> {
    let it = Prepared::new(what)?;
    let console = match &what.console_socket {
        Some(path) => Some(connect_console(path)?),
        None => console,
    };
    let mut runtime = Runtime {
        spec: Some(&it.spec),
        layout: Some(&it.layout),
        record: it.record,
        target: Some(it.target),
        group: Some(it.group),
        birth: Some(Birth {
            preserved: what.preserve_fds,
            console: console.as_ref().map(AsFd::as_fd),
        }),
        ..Runtime::new(&it.plan, observer)
    };
    let taken = take_steps(&mut runtime, &it.plan);
    match (taken, runtime.child.take()) {
        (Ok(()), Some(child)) => Ok(child),
        (taken, child) => {
            runtime.child = child;
            runtime.abandon_child();
            Err(taken.err().unwrap_or(Error::NotRunning))
        }
    }
}

fn the_process(what: &Exec, spec: &Spec) -> Result<Process, Error> {
    if let Some(path) = &what.process {
        let bytes = fs::read(path).map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        let process = Process::parse(&bytes)?;
        process.validate("process")?;
        return Ok(process);
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args.clone_from(&what.args);
    process.terminal = what.tty;
    process.env.extend(what.env.iter().cloned());
    if let Some(cwd) = &what.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &what.user {
        let (uid, gid) = user
            .split_once(':')
            .map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid = uid
            .parse()
            .map_err(|_| Error::Usage("--user takes UID or UID:GID, in numbers"))?;
        if let Some(gid) = gid {
            process.user.gid = gid
                .parse()
                .map_err(|_| Error::Usage("--user takes UID or UID:GID, in numbers"))?;
        }
    }
    process.user.additional_gids.extend(&what.additional_gids);
    if !what.capabilities.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(what.capabilities.iter().cloned());
        }
    }
    process.no_new_privileges |= what.no_new_privs;
    process.validate("process")?;
    Ok(process)
}

//! `exec`: another process in a container that runs. It enters all namespaces of init by one descriptor
//! (`man 2 setns`), which means init and never another process, and gives up the same rights.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::create::warn_of_capabilities;
use super::executor::{Birth, Runtime};
use super::init::group_name;
use super::state::{Directory, Record};
use super::{Error, NO_SOCKET, NO_TERMINAL, connect_console, foreground, plan};
use crate::Observer;
use crate::cgroup::{Group, Layout, Version};
use crate::execute::take_steps;
use crate::plan::Plan;
use crate::process::status::ExitStatus;
use crate::process::streams::Streams;
use crate::spec::{self, Process, Spec};
use crate::start::reap;
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
    /// A socket that a descriptor of it is sent to.
    pub pidfd_socket: Option<PathBuf>,
    /// SELinux label, if not the container's.
    pub process_label: Option<String>,
    /// AppArmor profile, if not the container's.
    pub apparmor: Option<String>,
    /// Groups below the container's that it enters: `PATH`, or `CONTROLLER[,CONTROLLER]:PATH`.
    pub sub_groups: Vec<String>,
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
    has_terminal: bool,
    /// Held so that nobody removes the container meanwhile; but whoever waits for `resume` may not keep it
    /// waiting.
    _directory: Option<Directory>,
}

impl Prepared {
    /// With `of_init` the process goes where the container's init is.
    fn new(what: &Exec, of_init: bool) -> Result<Self, Error> {
        let directory = Directory::open(&what.root, &what.id)?;
        let record = directory.load()?;
        let target = record.init().ok_or(Error::NoExec {
            status: "stopped",
            remedy: "; it has ended",
        })?;
        let spec = Spec::read(&directory.path.join("config.json"))?;
        let process = the_process(what, &spec)?;
        let layout = Layout::detect()?;
        let group = Group::from_paths(&layout, &record.cgroup_paths, layout.controllers())?;
        let is_paused = super::status::is_frozen(&group);
        if is_paused && !what.ignore_paused {
            return Err(Error::NoExec {
                status: "paused",
                remedy: " (use --ignore-paused to override)",
            });
        }
        let group = if of_init {
            group_of_init(&record, &layout)?
        } else if what.sub_groups.is_empty() {
            group
        } else {
            sub_group(&what.sub_groups, &record, &layout)?
        };
        let is_born_in_group = group.directory_fd().is_some();
        let plan = plan::exec(&process, &spec, what, is_born_in_group);
        let plan = plan.map_err(|error| match (error, &what.process) {
            (Error::Spec(error), Some(path)) => of_file(path, error),
            (error, _) => error,
        })?;
        Ok(Self {
            has_terminal: process.terminal,
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
    Ok(Prepared::new(what, false)?.plan)
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
    let console = match &what.console_socket {
        Some(path) => Some(connect_console(path)?),
        None => console,
    };
    let console = console.as_ref().map(AsFd::as_fd);
    match attempt(what, false, console, observer) {
        // What passes controllers on holds no process any more (version 2): it goes where init went.
        Err(error) if is_busy(&error) && what.sub_groups.is_empty() => {
            attempt(what, true, console, observer)
        }
        Err(error) if is_busy(&error) => Err(Error::Entering {
            path: what.sub_groups.join(", ").into(),
            errno: Errno::EBUSY,
        }),
        other => other,
    }
}

/// Starts a process in a container, and stays with it until it has ended, as
/// [`run_attached`](super::create::run_attached) does.
///
/// # Errors
/// As [`exec`], or the kernel's.
pub fn exec_attached(what: &Exec, observer: &mut dyn Observer) -> Result<ExitStatus, Error> {
    let sockets = match &what.console_socket {
        Some(_) => None,
        None => Some(foreground::sockets()?),
    };
    let (ours, theirs) = sockets.unzip();
    let child = exec(what, theirs, observer)?;
    // A process without a terminal has closed its end unsaid.
    let terminal = ours.and_then(|socket| foreground::receive(&socket).ok());
    foreground::relay(terminal.as_ref(), child.pidfd.as_fd(), child.pid)
        .map_err(Error::system("poll"))?;
    Ok(reap(&child)?)
}

/// Whether a group could not be entered because it has groups below it.
fn is_busy(error: &Error) -> bool {
    let busy = [Errno::EBUSY, Errno::EOPNOTSUPP];
    matches!(error, Error::Step(crate::Error::Step { errno, .. }) if busy.contains(errno))
}

fn attempt(
    what: &Exec,
    of_init: bool,
    console: Option<BorrowedFd<'_>>,
    observer: &mut dyn Observer,
) -> Result<Cloned, Error> {
    let it = Prepared::new(what, of_init)?;
    if it.has_terminal && console.is_none() {
        return Err(Error::Usage(NO_SOCKET));
    }
    if !it.has_terminal && what.console_socket.is_some() {
        return Err(Error::Usage(NO_TERMINAL));
    }
    let mut runtime = Runtime {
        spec: Some(&it.spec),
        layout: Some(&it.layout),
        record: it.record,
        target: Some(it.target),
        group: Some(it.group),
        birth: Some(Birth {
            preserved: what.preserve_fds,
            console,
            streams: Streams::default(),
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

/// The group of the container's init in version 2, and the container's own elsewhere.
fn group_of_init(record: &Record, layout: &Layout) -> Result<Group, Error> {
    let of_init = fs::read_to_string(format!("/proc/{}/cgroup", record.pid)).unwrap_or_default();
    let unified = layout
        .hierarchies()
        .iter()
        .find(|it| it.version == Version::V2);
    let path = of_init.lines().find_map(|it| it.strip_prefix("0::/"));
    let paths = match (unified, path) {
        (Some(unified), Some(path)) => {
            let is_other = |it: &&PathBuf| !it.starts_with(&unified.mount_point);
            let others = record.cgroup_paths.iter().filter(is_other).cloned();
            others.chain([unified.mount_point.join(path)]).collect()
        }
        _ => record.cgroup_paths.clone(),
    };
    Ok(Group::from_paths(layout, paths, layout.controllers())?)
}

/// The container's groups with the named ones below them in their places.
fn sub_group(names: &[String], record: &Record, layout: &Layout) -> Result<Group, Error> {
    let mut paths = record.cgroup_paths.clone();
    let home = |path: &Path| {
        let all = layout.hierarchies().iter();
        let homes = all.filter(|it| path.starts_with(&it.mount_point));
        homes.max_by_key(|it| it.mount_point.as_os_str().len())
    };
    for name in names {
        let (controllers, below) = match name.split_once(':') {
            Some((controllers, below)) => (Some(controllers), below),
            None => (None, name.as_str()),
        };
        let below = below.trim_start_matches('/');
        if Path::new(below)
            .components()
            .any(|it| it.as_os_str() == "..")
        {
            return Err(Error::SubGroup(name.clone()));
        }
        for controller in controllers.map_or(vec![None], |it| it.split(',').map(Some).collect()) {
            let mut is_found = false;
            for (path, own) in paths.iter_mut().zip(&record.cgroup_paths) {
                let names = home(own)
                    .map(|it| group_name(&it.mount_point))
                    .unwrap_or_default();
                if controller.is_none_or(|controller| names.split(',').any(|it| it == controller)) {
                    is_found = true;
                    *path = own.join(below);
                }
            }
            if let (false, Some(controller)) = (is_found, controller) {
                return Err(Error::Controller(controller.into()));
            }
        }
    }
    if let Some(path) = paths.iter().find(|path| !path.is_dir()) {
        return Err(Error::Entering {
            path: path.clone(),
            errno: Errno::ENOENT,
        });
    }
    Ok(Group::from_paths(layout, &paths, layout.controllers())?)
}

/// An error about a process, in the file that it is in.
fn of_file(path: &Path, error: spec::Error) -> Error {
    Error::Given {
        path: path.into(),
        source: error.below("process"),
    }
}

fn the_process(what: &Exec, spec: &Spec) -> Result<Process, Error> {
    if let Some(path) = &what.process {
        let bytes = fs::read(path).map_err(|source| Error::At {
            what: "read the process (`--process`)".into(),
            path: path.clone(),
            source,
        })?;
        let process = Process::parse(&bytes).and_then(|process| {
            process.validate("process")?;
            Ok(process)
        });
        return process.map_err(|error| of_file(path, error));
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
        warn_of_capabilities(&what.capabilities);
        let sets = process.capabilities.get_or_insert_default();
        let is_inherited = |it: &&String| sets.inheritable.contains(it);
        let ambient = what.capabilities.iter().filter(is_inherited).cloned();
        sets.ambient.extend(ambient.collect::<Vec<_>>());
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(what.capabilities.iter().cloned());
        }
    }
    process.no_new_privileges |= what.no_new_privs;
    if let Some(label) = &what.process_label {
        process.selinux_label.clone_from(label);
    }
    if let Some(profile) = &what.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    process.validate("process")?;
    Ok(process)
}

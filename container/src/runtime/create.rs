//! `create`, `run` and `start`: from a bundle to a running container.
//!
//! ```text
//! runtime: lock ─ cgroup ─ clone3 ─ state.json ─ maps ─────────── hooks ─────────── wait ─ pid file
//!                             └──▶ init: namespaces ─ mounts ─ wait ─ pivot_root ─ rights ─ listen
//! start:                                                                          connect ──▶ execve
//! ```

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::write;

use super::bundle::{self, limits};
use super::init::{self, Inheritance};
use super::join::Joins;
use super::state::{self, Directory, Record, Status};
use super::{Error, detached, hooks, notify};
use crate::cgroup::{Controllers, Group, Layout, Version};
use crate::plan::Plan;
use crate::plan::call::{Call, text};
use crate::plan::oci::OciCall;
use crate::plan::step::Step;
use crate::process::report::Report;
use crate::process::status::ExitStatus;
use crate::spec::{NamespaceKind, Spec};
use crate::start::reap;
use crate::sys::{self, Clone3, Cloned, Program};

/// What `create` and `run` take.
#[derive(Debug, Clone, Default)]
pub struct Create {
    /// Where containers are remembered.
    pub root: PathBuf,
    /// The new one's name.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its configuration, if it is not `config.json` of the bundle.
    pub config: Option<PathBuf>,
    /// A file that its PID is written to.
    pub pid_file: Option<PathBuf>,
    /// A socket that its terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// How many descriptors it inherits besides the standard streams.
    pub preserve_fds: u32,
    /// The root is moved instead of pivoted.
    pub no_pivot: bool,
    /// The caller's session keyring stays.
    pub no_new_keyring: bool,
}

/// A container that was made by this process.
#[derive(Debug)]
pub struct Made {
    /// Its init.
    pub init: Cloned,
    /// Its directory, locked.
    pub directory: Directory,
    /// What is remembered of it.
    pub record: Record,
    /// Its configuration.
    pub spec: Spec,
}

/// Makes a container whose init waits for [`start`].
///
/// # Errors
/// What went wrong, at which step; nothing is left then.
pub fn create(what: &Create) -> Result<Made, Error> {
    make(what, true, None)
}

/// Makes a container and starts it. A terminal goes to `console` if there is no socket for it.
///
/// # Errors
/// As [`create`].
pub fn run(what: &Create, console: Option<OwnedFd>) -> Result<Made, Error> {
    let made = make(what, false, console)?;
    poststart(&made.spec, &made.record);
    Ok(made)
}

/// Hooks after the start: that one fails is told and changes nothing.
fn poststart(spec: &Spec, record: &Record) {
    let state = record.for_hooks(record.pid, Status::Running.name());
    if let Err(error) = hooks::run(&spec.hooks.poststart, &state) {
        eprintln!("warning: poststart {error}");
    }
}

fn make(what: &Create, waits_for_start: bool, console: Option<OwnedFd>) -> Result<Made, Error> {
    state::check_id(&what.id)?;
    let bundle = fs::canonicalize(&what.bundle).map_err(|source| Error::File {
        path: what.bundle.clone(),
        source,
    })?;
    let config = what
        .config
        .clone()
        .unwrap_or_else(|| bundle.join("config.json"));
    let bytes = fs::read(&config).map_err(|source| crate::spec::Error::Read {
        path: config,
        source,
    })?;
    let spec = Spec::parse(&bytes)?;
    spec.validate()?;
    let options = bundle::Options {
        no_pivot: what.no_pivot,
        no_new_keyring: what.no_new_keyring,
        waits_for_start,
    };
    let rootfs = bundle::root(&spec, &bundle);
    let rootfs = fs::canonicalize(&rootfs).map_err(|source| Error::File {
        path: rootfs,
        source,
    })?;
    let plan = plan(&spec, &bundle, &options)?;
    let limits = limits::limits(&spec.linux.resources)?;
    let console = match (&spec.process, &what.console_socket, console) {
        (Some(process), Some(_), _) if !process.terminal => {
            return Err(Error::Usage(
                "cannot use console socket if runc will not detach or allocate tty",
            ));
        }
        (Some(process), Some(path), _) if process.terminal => Some(connect_console(path)?),
        (Some(process), None, None) if process.terminal => {
            return Err(Error::Usage(
                "cannot allocate tty if runc will detach without setting console socket",
            ));
        }
        (_, _, console) => console,
    };

    let layout = Layout::detect()?;
    let directory = Directory::create(&what.root, &what.id)?;
    let mut record = Record {
        oci_version: spec.oci_version.clone(),
        id: what.id.clone(),
        bundle,
        rootfs,
        created: super::time::now(),
        owner: nix::unistd::getuid().as_raw(),
        annotations: spec.annotations.clone(),
        ..Record::default()
    };
    // First of all, so that `delete` knows where the cgroup is, whenever we are killed.
    directory.keep_config(&bytes)?;
    let group = match group(&spec, &what.id, &layout, &limits) {
        Ok(group) => group,
        Err(error) => {
            let _ = directory.remove();
            return Err(error);
        }
    };
    record.cgroup_paths = group.paths().map(Path::to_owned).collect();
    let bred = breed(
        what,
        &spec,
        &plan,
        &directory,
        &mut record,
        &layout,
        &group,
        console.as_ref(),
        waits_for_start,
    );
    match bred {
        Ok(init) => Ok(Made {
            init,
            directory,
            record,
            spec,
        }),
        Err(error) => {
            let _ = group.kill();
            let _ = group.remove();
            let _ = directory.remove();
            Err(error)
        }
    }
}

/// Init's plan, and the program at its end.
fn plan(spec: &Spec, bundle: &Path, options: &bundle::Options) -> Result<Plan, Error> {
    let mut steps = vec![
        Step::init(
            "enter the cgroup",
            "from here on the limits hold",
            vec![
                Call::EnterGroup,
                Call::Oci(OciCall::Affinity { processors: None }),
            ],
        )
        .asked_by("linux.cgroupsPath"),
    ];
    steps.extend(bundle::init_steps(spec, bundle, options)?);
    Ok(with_program(steps, spec.process.as_ref()))
}

/// A plan that ends in the program of `process`.
pub(super) fn with_program(steps: Vec<Step>, process: Option<&crate::spec::Process>) -> Plan {
    let strings = |list: &[String]| list.iter().map(|it| text(it.as_str())).collect();
    Plan {
        steps,
        candidates: process.map(bundle::process::candidates).unwrap_or_default(),
        arguments: process.map_or(Vec::new(), |it| strings(&it.args)),
        environment: process.map_or(Vec::new(), |it| strings(&it.env)),
    }
}

/// Where the container's cgroup is.
fn group_path<'a>(spec: &'a Spec, id: &'a str) -> &'a str {
    match spec.linux.cgroups_path.as_str() {
        "" => id,
        path => path,
    }
}

/// Ends and removes what is in the cgroup of a container whose maker was killed before it could write
/// down who its init is.
pub(super) fn remove_unfinished(directory: &Path, id: &str) -> Result<(), Error> {
    let Ok(spec) = Spec::read(&directory.join("config.json")) else {
        // Then there was no cgroup either.
        return Ok(());
    };
    let layout = Layout::detect()?;
    // What is there of it is taken over, in each hierarchy.
    let group = Group::create(&layout, group_path(&spec, id), layout.controllers())?;
    group.kill()?;
    Ok(group.remove()?)
}

/// The container's cgroup with its limits, in every hierarchy that can limit something.
fn group(
    spec: &Spec,
    id: &str,
    layout: &Layout,
    limits: &crate::cgroup::Limits,
) -> Result<Group, Error> {
    limits.validate()?;
    let joined = limits.controllers().union(layout.controllers());
    let group = Group::create_vacant(layout, group_path(spec, id), joined)?;
    if let Err(error) = group.apply(limits) {
        let _ = group.remove();
        return Err(error.into());
    }
    Ok(group)
}

/// Clones init and sees it through to where it waits or has become its program.
#[expect(clippy::too_many_arguments, reason = "what one container is made of")]
fn breed(
    what: &Create,
    spec: &Spec,
    plan: &Plan,
    directory: &Directory,
    record: &mut Record,
    layout: &Layout,
    group: &Group,
    console: Option<&OwnedFd>,
    waits_for_start: bool,
) -> Result<Cloned, Error> {
    let entrance = group.entrance()?;
    let listener = waits_for_start
        .then(|| state::listen(&directory.path, "start"))
        .transpose()
        .map_err(Error::system("bind"))?;
    let (ours, theirs) = sys::socket_pair().map_err(Error::system("socketpair"))?;
    let program = Program::new(
        plan.candidates.clone(),
        plan.arguments.clone(),
        plan.environment.clone(),
    );
    let groups = names(layout, group);
    let detached = detached::take(plan)?;
    let joins = Joins::open(spec)?;
    let before = record.clone();
    let inheritance = Inheritance {
        plan,
        spec,
        program: &program,
        channel: theirs.as_fd(),
        listener: listener.as_ref().map(AsFd::as_fd),
        console: console.map(AsFd::as_fd),
        preserved: what.preserve_fds,
        entrance: Some(&entrance),
        is_born_in_group: group.directory_fd().is_some(),
        groups: &groups,
        is_unified: layout
            .hierarchies()
            .iter()
            .all(|it| it.version == Version::V2),
        state: &|pid, status| before.for_hooks(pid, status),
        detached: &detached,
        joins: None,
    };
    let init = {
        let clone = Clone3 {
            namespaces: bundle::new_namespaces(spec).flags(),
            cgroup: group.directory_fd(),
            ..Clone3::default()
        };
        let cloned = joins.clone3(&clone, || init::run(&inheritance))?;
        cloned.map_err(|errno| {
            let step = Step::runtime(
                "clone a child into namespaces of its own",
                "",
                vec![Call::Clone3 {
                    namespaces: bundle::new_namespaces(spec),
                    into_group: group.directory_fd().is_some(),
                }],
            );
            Error::Step(crate::Error::step(&step, 0, errno))
        })?
    };
    drop(theirs);
    let seen = see_through(what, spec, plan, directory, record, &init, &ours);
    seen.inspect_err(|_| {
        let _ = sys::pidfd_send_signal(init.pidfd.as_fd(), libc::SIGKILL);
        let _ = reap(&init);
    })?;
    Ok(init)
}

fn see_through(
    what: &Create,
    spec: &Spec,
    plan: &Plan,
    directory: &Directory,
    record: &mut Record,
    init: &Cloned,
    channel: &OwnedFd,
) -> Result<(), Error> {
    record.pid = init.pid.as_raw();
    record.start_time = state::process(record.pid).map_or(0, |(_, born)| born);
    directory.save(record)?;
    if bundle::is_new(spec, NamespaceKind::User) {
        map_users(spec, record.pid)?;
    }
    if let Some(adjustment) = spec.process.as_ref().and_then(|it| it.oom_score_adj) {
        write_proc(record.pid, "oom_score_adj", &adjustment.to_string())?;
    }
    if let Some(path) = &what.pid_file {
        state::replace(path, record.pid.to_string().as_bytes())?;
    }
    release(channel)?;
    let state = || record.for_hooks(record.pid, Status::Creating.name());
    let heard = listen(channel, plan, |asked| match asked {
        Asked::Hooks => {
            hooks::run(&spec.hooks.prestart, &state())?;
            Ok(hooks::run(&spec.hooks.create_runtime, &state())?)
        }
        Asked::Listener(descriptor) => {
            notify::pass_on(spec, init.pidfd.as_fd(), descriptor, record.pid, &state())
        }
    })?;
    match heard {
        Heard::Ready | Heard::Became => Ok(()),
    }
}

fn release(channel: &OwnedFd) -> Result<(), Error> {
    match write(channel, b"\n") {
        // It ended already, and has said why.
        Ok(_) | Err(Errno::EPIPE) => Ok(()),
        Err(errno) => Err(Error::System {
            call: "write",
            errno,
        }),
    }
}

/// What init has come to.
pub(super) enum Heard {
    /// It waits for `start`.
    Ready,
    /// It has become its program.
    Became,
}

/// What init waits for.
pub(super) enum Asked {
    /// That the runtime's hooks have run.
    Hooks,
    /// That its descriptor of the filter's listener has been passed on.
    Listener(i32),
}

/// Listens to init; `answer` is called when it waits for something.
pub(super) fn listen(
    channel: &OwnedFd,
    plan: &Plan,
    answer: impl Fn(Asked) -> Result<(), Error>,
) -> Result<Heard, Error> {
    loop {
        let heard = Report::receive(channel).map_err(Error::system("read"))?;
        return match heard {
            None => Ok(Heard::Became),
            Some(Report::Started) => Ok(Heard::Ready),
            Some(Report::Ended { .. }) => {
                answer(Asked::Hooks)?;
                release(channel)?;
                continue;
            }
            Some(Report::Listener { descriptor }) => {
                answer(Asked::Listener(descriptor))?;
                release(channel)?;
                continue;
            }
            Some(Report::Step { .. }) => continue,
            Some(Report::Failed { step, call, errno }) => {
                Err(Error::Step(match plan.steps.get(usize::from(step)) {
                    Some(step) => crate::Error::step(step, call, errno),
                    None => crate::Error::System {
                        call: "clone",
                        errno,
                    },
                }))
            }
            Some(Report::NotExecuted {
                candidate,
                errno,
                diagnosis,
            }) => Err(Error::not_executed(crate::Error::not_executed(
                plan,
                usize::from(candidate),
                errno,
                &diagnosis,
            ))),
        };
    }
}

/// Each directory of the group with the name that it has in the container.
fn names(layout: &Layout, group: &Group) -> Vec<(String, PathBuf)> {
    let name = |path: &Path| {
        let home = layout
            .hierarchies()
            .iter()
            .filter(|it| path.starts_with(&it.mount_point));
        let home = home.max_by_key(|it| it.mount_point.as_os_str().len());
        home.map(|it| (init::group_name(&it.mount_point), path.to_owned()))
    };
    group.paths().filter_map(name).collect()
}

fn map_users(spec: &Spec, pid: i32) -> Result<(), Error> {
    let lines = |map: &[crate::spec::IdMapping]| -> String {
        map.iter()
            .map(|it| format!("{} {} {}\n", it.container_id, it.host_id, it.size))
            .collect()
    };
    write_proc(pid, "uid_map", &lines(&spec.linux.uid_mappings))?;
    if !nix::unistd::geteuid().is_root() {
        write_proc(pid, "setgroups", "deny")?;
    }
    write_proc(pid, "gid_map", &lines(&spec.linux.gid_mappings))
}

pub(super) fn write_proc(pid: i32, name: &str, text: &str) -> Result<(), Error> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    fs::write(&path, text).map_err(|source| Error::File { path, source })
}

fn connect_console(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |source| Error::File {
        path: path.into(),
        source,
    };
    std::os::unix::net::UnixStream::connect(path)
        .map(OwnedFd::from)
        .map_err(failed)
}

/// Starts a container that was created.
///
/// # Errors
/// When it is not there, not waiting, or its program cannot be executed.
pub fn start(root: &Path, id: &str) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = directory.load()?;
    let refuse = |status: Status| Error::State {
        command: "start",
        id: id.into(),
        status: status.name(),
        remedy: "; only a container that is created can be started",
    };
    let init = record.init().ok_or_else(|| refuse(Status::Stopped))?;
    let socket = match state::connect(&directory.socket()) {
        Ok(socket) => socket,
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => return Err(refuse(Status::Running)),
        Err(errno) => {
            return Err(Error::System {
                call: "connect",
                errno,
            });
        }
    };
    let spec = Spec::read(&directory.path.join("config.json"))?;
    if spec.process.is_none() {
        return Err(crate::spec::Error::Missing {
            field: "process".into(),
            why: "name a program to run",
        }
        .into());
    }
    let options = bundle::Options {
        waits_for_start: true,
        ..bundle::Options::default()
    };
    let plan = plan(&spec, &record.bundle, &options)?;
    write(&socket, b"\n").map_err(Error::system("write"))?;
    let state = || record.for_hooks(record.pid, Status::Created.name());
    listen(&socket, &plan, |asked| match asked {
        Asked::Hooks => Ok(()),
        Asked::Listener(descriptor) => {
            notify::pass_on(&spec, init.as_fd(), descriptor, record.pid, &state())
        }
    })?;
    let _ = fs::remove_file(directory.socket());
    drop(directory);
    poststart(&spec, &record);
    Ok(())
}

/// Waits until init has ended.
///
/// # Errors
/// The kernel's.
pub fn wait(init: &Cloned) -> Result<ExitStatus, Error> {
    Ok(reap(init)?)
}

/// The controllers of a group that is opened again.
pub(super) fn all_controllers(layout: &Layout) -> Controllers {
    layout.controllers()
}

/// A container that runs, while others may work on it.
#[derive(Debug)]
pub struct Running {
    init: Cloned,
    root: PathBuf,
    id: String,
}

impl Made {
    /// Lets other commands work on it.
    pub fn unlock(self) -> Running {
        Running {
            root: self
                .directory
                .path
                .parent()
                .map(PathBuf::from)
                .unwrap_or_default(),
            id: self.record.id,
            init: self.init,
        }
    }
}

impl Running {
    /// A descriptor that becomes readable when its init has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.pidfd.as_fd()
    }

    /// Waits until its init has ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self) -> Result<ExitStatus, Error> {
        wait(&self.init)
    }

    /// Removes what is left of it.
    ///
    /// # Errors
    /// When something cannot be removed; that somebody else did is no error.
    pub fn remove(self) -> Result<(), Error> {
        super::status::delete(&self.root, &self.id, true)
    }
}

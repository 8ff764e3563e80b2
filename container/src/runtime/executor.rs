//! The runtime's half of every plan for a bundle's container: makes each call, and keeps what later
//! calls need of what earlier ones got.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::bundle::limits;
use super::init::{self, Inheritance};
use super::join::Joins;
use super::plan::execution;
use super::state::{self, Directory, Record, Status};
use super::{Error, detached, hooks, interfaces, notify, own_binary};
use crate::Observer;
use crate::cgroup::{self, Group, Layout, Limits, Mode, Version, systemd};
use crate::execute::{self, Kernel};
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::lifecycle::{LifeCall, Milestone};
use crate::plan::oci::HookKind;
use crate::plan::step::Step;
use crate::process::hear::{News, hear};
use crate::process::report::StepOutcome;
use crate::process::streams::Streams;
use crate::spec::Spec;
use crate::start::reap;
use crate::sys::{self, Clone3, Cloned, Program};

/// How long a killed container may take to end, in milliseconds.
const END_MS: u16 = 10_000;

/// What is needed to clone a child.
pub(super) struct Birth<'a> {
    /// How many descriptors it inherits besides the standard streams.
    pub preserved: u32,
    /// Where its terminal goes.
    pub console: Option<BorrowedFd<'a>>,
    /// What it reads and writes instead of the caller's streams.
    pub streams: Streams<'a>,
}

/// A command at work on a container.
pub(super) struct Runtime<'a> {
    /// Who hears of steps.
    pub observer: &'a mut dyn Observer,
    /// The plan that init carries, to understand its reports by.
    pub plan: &'a Plan,
    /// The configuration; none when it is lost.
    pub spec: Option<&'a Spec>,
    /// The host's cgroups.
    pub layout: Option<&'a Layout>,
    /// The configuration's text, to be kept.
    pub config: &'a [u8],
    /// What a child needs to be born with.
    pub birth: Option<Birth<'a>>,
    /// What is remembered of the container.
    pub record: Record,
    /// Its directory, locked.
    pub directory: Option<Directory>,
    /// Its cgroup.
    pub group: Option<Group>,
    /// Who keeps its scope until init is in it.
    pub holder: Option<systemd::Holder>,
    /// A descriptor of its init, when that was another command's child.
    pub target: Option<OwnedFd>,
    /// The child of this command.
    pub child: Option<Cloned>,
    /// Where the runtime hears of the child, and tells it to go on.
    pub channel: Option<OwnedFd>,
    /// Where init will listen until it is started.
    pub listener: Option<OwnedFd>,
    /// Namespaces that the child is to be born into.
    pub joins: Joins,
    /// Mounts that were taken for the child.
    pub detached: Vec<Option<OwnedFd>>,
    /// The last failure, in words.
    pub refusal: Option<Error>,
}

impl<'a> Runtime<'a> {
    /// A command that has nothing yet.
    pub fn new(plan: &'a Plan, observer: &'a mut dyn Observer) -> Self {
        Self {
            observer,
            plan,
            spec: None,
            layout: None,
            config: b"",
            birth: None,
            record: Record::default(),
            directory: None,
            group: None,
            holder: None,
            target: None,
            child: None,
            channel: None,
            listener: None,
            joins: Joins::default(),
            detached: Vec::new(),
            refusal: None,
        }
    }

    /// Ends the child of a command that failed.
    pub fn abandon_child(&self) {
        if let Some(child) = &self.child {
            let _ = sys::pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
            let _ = reap(child);
        }
    }

    /// Notes a failure in words, and gives the errno that stands for it.
    fn refuse(&mut self, error: impl Into<Error>) -> Errno {
        let error = error.into();
        let errno = error.errno();
        self.refusal = Some(error);
        errno
    }

    fn state(&self, status: Status) -> Vec<u8> {
        let pid = if status == Status::Stopped {
            0
        } else {
            self.record.pid
        };
        self.record.for_hooks(pid, status.name())
    }
}

impl execute::Runtime for Runtime<'_> {
    type Error = Error;

    fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    fn failure(&mut self, step: &Step, call: u16, errno: Errno) -> Error {
        match self.refusal.take() {
            Some(error) => error.at(step),
            None => Error::Step(crate::Error::step(step, call, errno)),
        }
    }
}

impl Kernel for Runtime<'_> {
    fn call(&mut self, call: &Call) -> Result<(), Errno> {
        match call {
            Call::CreateGroup { name, controllers } => {
                let name = name.as_deref().unwrap_or_default();
                let layout = self.layout.ok_or(Errno::ENOENT)?;
                let group = match Group::create_vacant(layout, name, *controllers) {
                    Err(error) if self.can_go_without(&error) => Group::none(),
                    other => other.map_err(|error| self.refuse(error))?,
                };
                self.record.cgroup_paths = group.paths().map(Path::to_owned).collect();
                self.group = Some(group);
                Ok(())
            }
            Call::LimitGroup { limits } => {
                let group = self.group.as_ref().ok_or(Errno::ENOENT)?;
                group.apply(limits).map_err(|error| self.refuse(error))
            }
            Call::Clone3 { namespaces, .. } => self.clone_child(namespaces.flags()),
            Call::WriteProc { file, text } => {
                let pid = self.child.as_ref().ok_or(Errno::ESRCH)?.pid;
                write_proc(pid.as_raw(), file, text).map_err(|error| error.errno())
            }
            Call::Release => {
                let channel = self.channel.as_ref().ok_or(Errno::EBADF)?;
                go_on(channel, self.observer.wants_steps())
            }
            Call::Life(call) => self.life(call),
            // Init's own; a plan that gives them to the runtime is wrong, and says so.
            _ => Err(Errno::ENOSYS),
        }
    }
}

impl Runtime<'_> {
    fn life(&mut self, call: &LifeCall) -> Result<(), Errno> {
        match call {
            LifeCall::Claim { path } => {
                let directory = Directory::create(path, &self.record.id);
                self.directory = Some(directory.map_err(|error| self.refuse(error))?);
                Ok(())
            }
            LifeCall::KeepConfig { path } => {
                fs::write(path, self.config).map_err(|error| errno_of(&error))
            }
            LifeCall::StartScope {
                unit,
                is_user,
                limits,
                controllers,
            } => {
                let layout = self.layout.ok_or(Errno::ENOENT)?;
                // Where it is, nobody but systemd knows until init is written down.
                if let Some(directory) = &self.directory {
                    let kept = directory.keep_scope(unit.name());
                    kept.map_err(|error| self.refuse(error))?;
                }
                let scope = systemd::Scope::start(layout, unit, *is_user, limits, *controllers);
                let scope = scope.map_err(|error| self.refuse(error))?;
                self.record.cgroup_paths = scope.group.paths().map(Path::to_owned).collect();
                self.record.scope = Some(unit.name().to_owned());
                (self.group, self.holder) = (Some(scope.group), Some(scope.holder));
                Ok(())
            }
            LifeCall::Listen { path } => {
                self.listener = Some(state::listen(path)?);
                Ok(())
            }
            LifeCall::Join { index, kind, path } => {
                let opened = self.joins.open(*index, *kind, path);
                opened.map_err(|error| self.refuse(error))
            }
            LifeCall::TakeMounts { .. } => {
                self.detached = detached::take(self.plan).map_err(|error| self.refuse(error))?;
                Ok(())
            }
            LifeCall::MoveInterface { name, inside } => {
                let pid = self.child.as_ref().ok_or(Errno::ESRCH)?.pid;
                interfaces::move_into(pid.as_raw(), name, inside)
            }
            LifeCall::Unmount { path } => match umount2(path, MntFlags::MNT_DETACH) {
                // Nothing is mounted there, or nothing is there.
                Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
                other => other,
            },
            LifeCall::Save { path } => {
                let pid = self.child.as_ref().ok_or(Errno::ESRCH)?.pid.as_raw();
                self.record.pid = pid;
                self.record.start_time = state::born(pid).unwrap_or_default();
                state::save(path, &self.record).map_err(|error| self.refuse(error))
            }
            LifeCall::TellPid { path } => {
                let pid = self.child.as_ref().ok_or(Errno::ESRCH)?.pid;
                let written = state::replace(path, pid.to_string().as_bytes());
                written.map_err(|error| self.refuse(error))
            }
            LifeCall::SendDescriptor { path } => {
                let child = self.child.as_ref().ok_or(Errno::ESRCH)?;
                let sent = notify::send(path, b"pidfd", child.pidfd.as_fd());
                sent.map_err(|error| self.refuse(error))
            }
            LifeCall::Await(milestone) => self.await_milestone(*milestone),
            LifeCall::RunHooks { kind } => self.run_hooks(*kind),
            LifeCall::Connect { path } => {
                self.channel = Some(match state::connect(path) {
                    Err(Errno::ECONNREFUSED | Errno::ENOENT) => {
                        let id = self.record.id.clone();
                        return Err(self.refuse(Error::not_created(id, Status::Running)));
                    }
                    other => other?,
                });
                Ok(())
            }
            LifeCall::Unlink { path } => nix::unistd::unlink(path),
            LifeCall::KillInit { .. } => {
                let target = self.target.as_ref().ok_or(Errno::ESRCH)?;
                match sys::pidfd_send_signal(target.as_fd(), libc::SIGKILL) {
                    // It ended meanwhile.
                    Err(Errno::ESRCH) => Ok(()),
                    other => other,
                }
            }
            LifeCall::KillGroup => {
                let killed = self.group.as_ref().map_or(Ok(()), Group::kill);
                killed.map_err(|error| self.refuse(error))
            }
            LifeCall::AwaitEnd => {
                let target = self.target.as_ref().ok_or(Errno::ESRCH)?;
                let mut ready = [PollFd::new(target.as_fd(), PollFlags::POLLIN)];
                match poll(&mut ready, PollTimeout::from(END_MS)) {
                    Ok(0) => Err(Errno::ETIMEDOUT),
                    Ok(_) | Err(Errno::EINTR) => Ok(()),
                    Err(errno) => Err(errno),
                }
            }
            LifeCall::RemoveGroup => {
                let removed = remove_groups(&self.record.cgroup_paths);
                let stopped = removed.and_then(|()| stop_scope(self.record.scope.as_deref()));
                stopped.map_err(|error| self.refuse(error))
            }
            LifeCall::RemoveOwnGroup => {
                let removed = match self.group.as_ref().map_or(Ok(()), Group::remove) {
                    // Whoever is in there is none of this container's.
                    Err(cgroup::Error::Busy { .. }) => Ok(()),
                    other => other,
                };
                let stopped = removed.and_then(|()| stop_scope(self.record.scope.as_deref()));
                stopped.map_err(|error| self.refuse(error))
            }
            LifeCall::Forget { .. } => {
                let directory = self.directory.take().ok_or(Errno::ENOENT)?;
                directory.remove().map_err(|error| self.refuse(error))
            }
        }
    }

    /// An ordinary user who was given no cgroups and asks for none, neither by a path nor by a limit, gets
    /// a container that is in the caller's, as with runc.
    fn can_go_without(&self, error: &cgroup::Error) -> bool {
        let asks = |spec: &Spec| {
            let limits = limits::limits(&spec.linux.resources);
            !spec.linux.cgroups_path.is_empty() || limits.is_ok_and(|it| it != Limits::default())
        };
        let is_denied = match error {
            // In version 2 no group was found that this user may make another in.
            cgroup::Error::InternalProcesses { .. } => !nix::unistd::geteuid().is_root(),
            error => matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)),
        };
        is_denied && !self.spec.is_none_or(asks)
    }

    fn clone_child(&mut self, namespaces: i32) -> Result<(), Errno> {
        let spec = self.spec.ok_or(Errno::EINVAL)?;
        let (Some(birth), Some(layout), Some(group)) = (&self.birth, self.layout, &self.group)
        else {
            return Err(Errno::EINVAL);
        };
        let (ours, theirs) = sys::socket_pair()?;
        let cloned = {
            let entrance = match group.entrance() {
                Ok(entrance) => entrance,
                Err(error) => return Err(self.refuse(error)),
            };
            let program = Program::new(
                self.plan.candidates.clone(),
                self.plan.arguments.clone(),
                self.plan.environment.clone(),
            );
            let groups = names(layout, group);
            let unified = layout.unified().filter(|_| layout.mode() == Mode::V2);
            let inheritance = Inheritance {
                plan: self.plan,
                spec,
                program: &program,
                channel: theirs.as_fd(),
                listener: self.listener.as_ref().map(AsFd::as_fd),
                console: birth.console,
                preserved: birth.preserved,
                streams: birth.streams,
                entrance: Some(&entrance),
                is_born_in_group: group.directory_fd().is_some(),
                groups: &groups,
                unified: unified.map(|it| it.mount_point.as_path()),
                state: &|pid, status| self.record.for_hooks(pid, status),
                detached: &self.detached,
                joins: self.target.as_ref().map(AsFd::as_fd),
                tells_steps: self.observer.wants_steps(),
            };
            let what = Clone3 {
                namespaces,
                cgroup: group.directory_fd(),
                ..Clone3::default()
            };
            match self.joins.clone3(&what, || init::run(&inheritance)) {
                Ok(cloned) => cloned,
                Err(error) => return Err(self.refuse(error)),
            }
        };
        own_binary::let_go();
        self.channel = Some(ours);
        self.child = Some(cloned?);
        // Where init enters by itself, it may be on its way still.
        if group
            .directories()
            .iter()
            .all(|it| it.version() == Version::V2)
        {
            self.holder = None;
        }
        Ok(())
    }

    fn await_milestone(&mut self, milestone: Milestone) -> Result<(), Errno> {
        let channel = self.channel.take().ok_or(Errno::EBADF)?;
        let mut is_ready = false;
        let news = loop {
            match hear(&channel, self.plan, self.observer) {
                Ok(News::Ready) if milestone == Milestone::Program => is_ready = true,
                Ok(News::Listener(descriptor)) => self.pass_on(descriptor, &channel)?,
                other => break other,
            }
        };
        let news = news.map_err(|error| self.refuse(Error::not_executed(error)))?;
        match (milestone, news) {
            (Milestone::Hooks, News::AwaitsHooks) | (Milestone::Ready, News::Ready) => {}
            (Milestone::Birth, News::Born(pid)) => self.replace_child(pid)?,
            // A configuration without a process has no program.
            (Milestone::Program, News::Closed) if is_ready || execution(self.plan).is_none() => {
                // What becomes another program can no longer tell.
                if self.observer.wants_steps()
                    && let Some(step) = execution(self.plan)
                {
                    self.observer
                        .step(step, StepOutcome::Done, std::time::Duration::ZERO);
                }
            }
            _ => return Err(self.ended_early()),
        }
        self.channel = Some(channel);
        Ok(())
    }

    /// Takes another child, which the one that we have has had born, and waits for that one.
    fn replace_child(&mut self, pid: i32) -> Result<(), Errno> {
        // Our own as well, and nobody has waited for it: the number is still its own.
        let pid = Pid::from_raw(pid);
        let pidfd = sys::pidfd_open(pid)?;
        match self.child.replace(Cloned { pid, pidfd }) {
            Some(before) => reap(&before).map(drop).map_err(|error| self.refuse(error)),
            None => Ok(()),
        }
    }

    /// Passes the listener of the child's filter on, and lets the child go on.
    fn pass_on(&mut self, descriptor: i32, channel: &OwnedFd) -> Result<(), Errno> {
        let Some(spec) = self.spec else { return Ok(()) };
        let (process, pid, status) = match (&self.child, &self.target) {
            (Some(child), None) => (&child.pidfd, self.record.pid, Status::Creating),
            (Some(child), Some(_)) => (&child.pidfd, child.pid.as_raw(), Status::Running),
            (None, Some(init)) => (init, self.record.pid, Status::Created),
            (None, None) => return Err(Errno::ESRCH),
        };
        let state = self.state(status);
        notify::pass_on(spec, process.as_fd(), descriptor, pid, &state)
            .map_err(|error| self.refuse(error))?;
        go_on(channel, self.observer.wants_steps())
    }

    /// Init hears us no more, and has not said why.
    fn ended_early(&mut self) -> Errno {
        // Another command has started it meanwhile.
        if self.child.is_none() && self.target.is_some() && self.record.init().is_some() {
            let id = self.record.id.clone();
            return self.refuse(Error::not_created(id, Status::Running));
        }
        let status = self.child.as_ref().map(|child| {
            let _ = sys::pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
            reap(child)
        });
        let error = match status {
            Some(Ok(status)) => crate::Error::InitEnded { status },
            Some(Err(error)) => error,
            None => crate::Error::InitLost,
        };
        self.child = None;
        self.refuse(Error::Step(error))
    }

    fn run_hooks(&mut self, kind: HookKind) -> Result<(), Errno> {
        let Some(spec) = self.spec else { return Ok(()) };
        let hooks = &spec.hooks;
        let (list, status, is_advice) = match kind {
            // The specification has these run when `start` is called: for them, all is there.
            HookKind::Prestart => (&hooks.prestart, Status::Created, false),
            HookKind::CreateRuntime => (&hooks.create_runtime, Status::Creating, false),
            HookKind::Poststart => (&hooks.poststart, Status::Running, true),
            HookKind::Poststop => (&hooks.poststop, Status::Stopped, true),
            HookKind::CreateContainer | HookKind::StartContainer => return Err(Errno::ENOSYS),
        };
        let state = self.state(status);
        if is_advice {
            for error in hooks::run_all(kind.name(), list, &state) {
                eprintln!("warning: {error}");
            }
            return Ok(());
        }
        hooks::run(kind.name(), list, &state, None).map_err(|error| self.refuse(error))
    }
}

/// Removes the directories of a cgroup, and kills whoever is left in them.
fn remove_groups(paths: &[PathBuf]) -> Result<(), cgroup::Error> {
    let left = cgroup::remove_empty(paths);
    if left.is_empty() {
        return Ok(());
    }
    let layout = Layout::detect()?;
    let group = Group::from_paths(&layout, left, layout.controllers())?;
    group.kill()?;
    group.remove()
}

/// Stops the scope of a container whose processes have ended, which systemd may not have seen yet.
fn stop_scope(unit: Option<&str>) -> Result<(), cgroup::Error> {
    let Some(unit) = unit else { return Ok(()) };
    match systemd::Manager::connect(systemd::is_user()) {
        // With systemd its units are gone.
        Err(systemd::Error::NotReached { .. }) => Ok(()),
        manager => Ok(manager?.stop(unit)?),
    }
}

pub(super) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Tells the child to go on, and whether to tell its steps.
fn go_on(channel: &OwnedFd, wants_steps: bool) -> Result<(), Errno> {
    let word = if wants_steps {
        init::GO_ON_AND_TELL
    } else {
        init::GO_ON
    };
    match nix::unistd::write(channel, &[word]) {
        // It ended already, and has said why.
        Ok(_) | Err(Errno::EPIPE) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Writes a file of a child's in /proc.
///
/// # Errors
/// [`Error::File`].
pub(super) fn write_proc(pid: i32, name: &str, text: &str) -> Result<(), Error> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    fs::write(&path, text).map_err(|source| Error::File { path, source })
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

//! The runtime's half of every plan for a bundle's container: makes each call, and keeps what later
//! calls need of what earlier ones got.

mod checkpoint;
mod child;
mod group;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::child::go_on;
pub(super) use self::child::names as group_names;
use self::group::{remove_groups, stop_scope};
use super::checkpoint::Job;
use super::join::Joins;
use super::state::{self, Directory, Record, Status};
use super::{Error, detached, hooks, id_maps, interfaces, notify};
use crate::Observer;
use crate::cgroup::{self, Group, Layout, systemd};
use crate::execute::{self, Kernel};
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::lifecycle::LifeCall;
use crate::plan::oci::HookKind;
use crate::plan::step::Step;
use crate::process::streams::Streams;
use crate::spec::Spec;
use crate::start::reap;
use crate::sys::{self, Cloned};

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
    /// Interfaces of the host's that the child was given.
    pub moved: Vec<interfaces::Moved>,
    /// What criu is asked for.
    pub job: Option<Job<'a>>,
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
            moved: Vec::new(),
            job: None,
            refusal: None,
        }
    }

    /// Ends the child of a command that failed, and takes back what it was given.
    pub fn abandon_child(&self) {
        for moved in &self.moved {
            if let Err(errno) = moved.bring_back() {
                log::warn!("{moved} is lost to the host: {}", errno.desc());
            }
        }
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

    /// Why nobody waits to be started: another command has started it, or killed it, since it was looked at.
    fn not_to_start(&self) -> Error {
        let id = self.record.id.clone();
        match self.record.init() {
            Some(_) => Error::not_created(id, Status::Running),
            None => Error::ended_unstarted(id),
        }
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
                let group = self.create_group(layout, name, *controllers);
                let group = group.map_err(|error| self.refuse(error))?;
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
            LifeCall::MapIds { file, text } => {
                let pid = self.child.as_ref().ok_or(Errno::ESRCH)?.pid;
                let mapped = id_maps::write(pid.as_raw(), file, text);
                mapped.map_err(|error| match error {
                    Error::IdMap(_) => self.refuse(error),
                    other => other.errno(),
                })
            }
            LifeCall::MoveInterface { name, inside } => {
                let pid = self.child.as_ref().ok_or(Errno::ESRCH)?.pid;
                let moved = interfaces::move_into(pid.as_raw(), name, inside)?;
                self.moved.push(moved);
                Ok(())
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
                let sent = notify::send(path, notify::PATIENCE, b"pidfd", child.pidfd.as_fd());
                sent.map_err(|error| self.refuse(error))
            }
            LifeCall::Await(milestone) => self.await_milestone(*milestone),
            LifeCall::RunHooks { kind } => self.run_hooks(*kind),
            LifeCall::Connect { path } => {
                self.channel = Some(match state::connect(path) {
                    Err(Errno::ECONNREFUSED | Errno::ENOENT) => {
                        return Err(self.refuse(self.not_to_start()));
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
            LifeCall::Dump { .. } => self.dump().map_err(|error| self.refuse(error)),
            LifeCall::Restore { .. } => self.restore().map_err(|error| self.refuse(error)),
            LifeCall::Forget { .. } => {
                let directory = self.directory.take().ok_or(Errno::ENOENT)?;
                directory.remove().map_err(|error| self.refuse(error))
            }
        }
    }

    fn run_hooks(&mut self, kind: HookKind) -> Result<(), Errno> {
        let Some(spec) = self.spec else { return Ok(()) };
        let hooks = &spec.hooks;
        let (list, status, is_advice) = match kind {
            // The specification has these run when `start` is called: for them, all is there.
            HookKind::Prestart => (&hooks.prestart, Status::Created, false),
            HookKind::CreateRuntime => (&hooks.create_runtime, Status::Creating, false),
            HookKind::Poststart => {
                let is_advice = !spec.ends_with_poststart();
                (&hooks.poststart, Status::Running, is_advice)
            }
            HookKind::Poststop => (&hooks.poststop, Status::Stopped, true),
            HookKind::CreateContainer | HookKind::StartContainer => return Err(Errno::ENOSYS),
        };
        let state = self.state(status);
        if is_advice {
            for error in hooks::run_all(kind.name(), list, &state) {
                log::warn!("{error}");
            }
            return Ok(());
        }
        hooks::run(kind.name(), list, &state, None).map_err(|error| self.refuse(error))
    }
}

pub(super) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Writes a file of a child's in /proc.
///
/// # Errors
/// [`Error::File`].
pub(super) fn write_proc(pid: i32, name: &str, text: &str) -> Result<(), Error> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    fs::write(&path, text).map_err(|source| Error::File { path, source })
}

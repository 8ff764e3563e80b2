//! The command's child, from its birth to the program that it becomes: what it inherits, what it tells, and
//! what is made of its end.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Runtime;
use crate::cgroup::{Group, Layout, Mode, Version};
use crate::plan::lifecycle::Milestone;
use crate::process::hear::{News, hear};
use crate::process::report::StepOutcome;
use crate::runtime::init::{self, Inheritance};
use crate::runtime::plan::execution;
use crate::runtime::state::Status;
use crate::runtime::{Error, detached, notify, own_binary};
use crate::start::reap;
use crate::sys::{self, Clone3, Cloned, Program};

impl Runtime<'_> {
    pub(super) fn clone_child(&mut self, namespaces: i32) -> Result<(), Errno> {
        let spec = self.spec.ok_or(Errno::EINVAL)?;
        let (Some(birth), Some(layout), Some(group)) = (&self.birth, self.layout, &self.group)
        else {
            return Err(Errno::EINVAL);
        };
        let (ours, theirs) = sys::socket_pair()?;
        let cloned = {
            let entrance = match group.entrance_v1() {
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
            // Who is born among a container's processes is seen by them from its first instruction on.
            if !self.joins.is_empty() {
                own_binary::enter_view()?;
            }
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

    pub(super) fn await_milestone(&mut self, milestone: Milestone) -> Result<(), Errno> {
        let channel = self.channel.take().ok_or(Errno::EBADF)?;
        let mut is_ready = false;
        let news = loop {
            match hear(&channel, self.plan, self.observer) {
                Ok(News::Ready) if milestone == Milestone::Program => is_ready = true,
                Ok(News::Listener(descriptor)) => self.pass_on(descriptor, &channel)?,
                Ok(News::Tree(descriptor, mount)) => self.map_tree(descriptor, mount, &channel)?,
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
                    self.observer.step(step, StepOutcome::Done, Duration::ZERO);
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

    /// Gives a tree of the child's the owners that the child may not give, and lets it go on.
    fn map_tree(&mut self, number: i32, mount: u16, channel: &OwnedFd) -> Result<(), Errno> {
        let child = self.child.as_ref().ok_or(Errno::ESRCH)?;
        let tree = sys::descriptor_of(child.pidfd.as_fd(), number)?;
        detached::map(self.plan, mount.into(), tree.as_fd()).map_err(|error| self.refuse(error))?;
        go_on(channel, self.observer.wants_steps())
    }

    /// Init hears us no more, and has not said why.
    fn ended_early(&mut self) -> Errno {
        // Another command has started or killed it meanwhile.
        if self.child.is_none() && self.target.is_some() {
            return self.refuse(self.not_to_start());
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
}

/// Tells the child to go on, and whether to tell its steps.
pub(super) fn go_on(channel: &OwnedFd, wants_steps: bool) -> Result<(), Errno> {
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

/// Each directory of the group with the name that it has in the container; without one, of the caller's group,
/// which the container is in.
pub fn names(layout: &Layout, group: &Group) -> Vec<(String, PathBuf)> {
    let mut paths: Vec<_> = group.paths().map(Path::to_owned).collect();
    if paths.is_empty() {
        let own = layout.directories_of(std::process::id() as i32);
        paths = own.unwrap_or_default();
    }
    let name = |path: PathBuf| {
        let home = layout
            .hierarchies()
            .iter()
            .filter(|it| path.starts_with(&it.mount_point));
        let home = home.max_by_key(|it| it.mount_point.as_os_str().len());
        home.map(|it| (init::group_name(&it.mount_point), path.clone()))
    };
    paths.into_iter().filter_map(name).collect()
}

//! criu's part in the life of a container, and what the runtime does while it works.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use super::{Runtime, errno_of};
use crate::cgroup::Group;
use crate::plan::lifecycle::LifeCall;
use crate::plan::oci::HookKind;
use crate::runtime::checkpoint::dump::dump;
use crate::runtime::checkpoint::restore::{Site, revive, send_terminal};
use crate::runtime::checkpoint::{Job, Restore};
use crate::runtime::state::Directory;
use crate::runtime::{Error, bundle};
use crate::spec::NamespaceKind;
use crate::sys::{self, Cloned};

/// A plan that has criu's steps and nobody who has asked for them.
const NO_JOB: Error = Error::Usage("nothing is asked of criu");

impl Runtime<'_> {
    #[cold]
    pub(super) fn dump(&mut self) -> Result<(), Error> {
        let (Some(Job::Dump(what)), Some(spec)) = (self.job, self.spec) else {
            return Err(NO_JOB);
        };
        let (record, group) = (&self.record, self.group.as_ref());
        let (directory, mut left) = (&mut self.directory, None);
        // Its memory may be asked for at any time, or never: no other command waits for that.
        dump(what, spec, record, group, &mut || {
            left = directory.take().map(Directory::unlock).transpose()?;
            Ok(())
        })?;
        if let Some(left) = left {
            let gone = || Error::NotFound(record.id.clone());
            *directory = Some(left.lock()?.ok_or_else(gone)?);
        }
        Ok(())
    }

    #[cold]
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let (Some(Job::Restore(what)), Some(spec), Some(layout)) =
            (self.job, self.spec, self.layout)
        else {
            return Err(NO_JOB);
        };
        let directory = self.directory.as_ref().map(|it| it.path.clone());
        let directory = directory.ok_or(NO_JOB)?;
        let group = self.group.take().unwrap_or_else(Group::none);
        let bundle = self.record.bundle.clone();
        let site = Site {
            spec,
            bundle: &bundle,
            directory: &directory,
            layout,
            group: &group,
        };
        let revived = self.revive(what, &site);
        self.holder = None;
        self.group = Some(group);
        revived?;
        match self.child {
            Some(_) => Ok(()),
            None => Err(Error::NotRunning),
        }
    }

    fn revive(&mut self, what: &Restore, site: &Site<'_>) -> Result<(), Error> {
        revive(what, site, &mut |answer, descriptor| {
            match answer.script.as_str() {
                "setup-namespaces" => self.set_up(answer.pid),
                "post-restore" => self.restored(answer.pid, site),
                "orphan-pts-master" => self.give_terminal(descriptor),
                // The network is not ours to lock, and the rest are moments between.
                _ => Ok(()),
            }
        })
    }

    /// Its namespaces are there: hooks may set up the network, as when it was made.
    fn set_up(&mut self, pid: i32) -> Result<(), Error> {
        self.record.pid = pid;
        if self
            .spec
            .is_some_and(|it| bundle::is_new(it, NamespaceKind::Network))
        {
            loopback_up(pid).map_err(Error::system("ioctl"))?;
        }
        for kind in [HookKind::Prestart, HookKind::CreateRuntime] {
            if self.run_hooks(kind).is_err() {
                return Err(self.refusal.take().unwrap_or(Error::NotRunning));
            }
        }
        Ok(())
    }

    /// Its processes are there, and stand still until they are written down.
    fn restored(&mut self, pid: i32, site: &Site<'_>) -> Result<(), Error> {
        let pid = Pid::from_raw(pid);
        let pidfd = sys::pidfd_open(pid).map_err(Error::system("pidfd_open"))?;
        self.child = Some(Cloned { pid, pidfd });
        let path = site.directory.join("state.json");
        match self.life(&LifeCall::Save { path }) {
            Ok(()) => Ok(()),
            Err(errno) => Err(self.refusal.take().unwrap_or(Error::System {
                call: "rename",
                errno,
            })),
        }
    }

    fn give_terminal(&mut self, terminal: Option<OwnedFd>) -> Result<(), Error> {
        let birth = self.birth.as_ref();
        send_terminal(
            birth.and_then(|it| it.console),
            terminal.as_ref().map(AsFd::as_fd),
        )
    }
}

/// Brings `lo` up in the network namespace of a process. criu leaves a network to whoever made it: of its own a
/// container has this interface.
fn loopback_up(pid: i32) -> Result<(), Errno> {
    let network = File::open(format!("/proc/{pid}/ns/net")).map_err(|error| errno_of(&error))?;
    let brought = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(&network, CloneFlags::CLONE_NEWNET)?;
            sys::loopback_up()
        });
        inside.join()
    });
    brought.unwrap_or(Err(Errno::ECHILD))
}

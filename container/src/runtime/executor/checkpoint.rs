//! criu's part in the life of a container, and what the runtime does while it works.

use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Pid;

use super::Runtime;
use crate::cgroup::Group;
use crate::plan::lifecycle::LifeCall;
use crate::plan::oci::HookKind;
use crate::runtime::Error;
use crate::runtime::checkpoint::dump::dump;
use crate::runtime::checkpoint::restore::{Site, revive, send_terminal};
use crate::runtime::checkpoint::{Job, Restore};
use crate::sys::{self, Cloned};

/// A plan that has criu's steps and nobody who has asked for them.
const NO_JOB: Error = Error::Usage("nothing is asked of criu");

impl Runtime<'_> {
    #[cold]
    pub(super) fn dump(&mut self) -> Result<(), Error> {
        let (Some(Job::Dump(what)), Some(spec)) = (self.job, self.spec) else {
            return Err(NO_JOB);
        };
        dump(what, spec, &self.record, self.group.as_ref())
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

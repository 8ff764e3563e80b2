//! Brings a container to life, and to its end.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;

use crate::cgroup::{Group, Layout, Stats, Swept, evict, sweep};
use crate::config::Config;
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::step::Step;
use crate::process::report::{Report, StepOutcome};
use crate::process::status::ExitStatus;
use crate::process::streams::Streams;
use crate::process::supervise::{Blocked, until_readable};
use crate::start::{Started, planned, reap, start};
use crate::sys;

/// Hears the story of a container while it happens.
pub trait Observer {
    /// Whether it wants every step; if not, none is reported and the container starts faster.
    fn wants_steps(&self) -> bool {
        true
    }

    /// A step has been taken. Steps of the two processes come in the order in which each takes them.
    fn step(&mut self, step: &Step, outcome: StepOutcome, took: Duration);
}

/// Nobody listens.
impl Observer for () {
    fn wants_steps(&self) -> bool {
        false
    }

    fn step(&mut self, _: &Step, _: StepOutcome, _: Duration) {}
}

/// Runs the command of `config` in a container of its own and waits until it has ended. Signals that
/// reach this process pass to the command; standard streams are the caller's.
///
/// Signals are blocked in the calling thread meanwhile; other threads of the caller, if there are any,
/// should block them as well, or they are not passed on.
///
/// # Errors
/// What went wrong, at which step, and what to do about it. Nothing is left behind in any case.
pub fn run(config: &Config, observer: &mut dyn Observer) -> Result<ExitStatus, Error> {
    let blocked = Blocked::new().map_err(|errno| Error::System {
        call: "sigprocmask",
        errno,
    })?;
    let started = start(
        config,
        Streams::default(),
        observer,
        blocked.before(),
        false,
    )?;
    let mut container = Container {
        started,
        ended: None,
    };
    // While the command runs there is time to look after what others left behind. That it could not be
    // removed is nothing to this container; `gc` says why.
    let _ = Layout::detect().and_then(|layout| sweep(&layout));
    until_readable(container.started.channel.as_fd(), container.pidfd()).map_err(|errno| {
        Error::System {
            call: "signalfd",
            errno,
        }
    })?;
    container.wait()
}

/// The steps that [`run`] would take on this host, without taking any.
///
/// # Errors
/// When the configuration is impossible, or asks for what this host cannot give.
pub fn dry_run(config: &Config) -> Result<Plan, Error> {
    Ok(planned(config)?.0)
}

/// Removes what containers left behind whose runtime was killed: their cgroups, and with them whoever is
/// still in there. (Mounts, processes and directories go by themselves.)
///
/// # Errors
/// When a cgroup cannot be removed.
pub fn gc() -> Result<Swept, Error> {
    Ok(evict(&Layout::detect()?)?)
}

/// Starts the command of `config` in a container of its own and returns as soon as it runs. It reads and
/// writes `streams`.
///
/// The caller may have any number of threads: between `clone3` and `execve` the child keeps to what a
/// signal handler may do. The container ends when the calling process does, whatever becomes of the
/// calling thread.
///
/// # Errors
/// As [`run`].
pub fn spawn(
    config: &Config,
    streams: Streams<'_>,
    observer: &mut dyn Observer,
) -> Result<Container, Error> {
    let blocked = Blocked::new().map_err(|errno| Error::System {
        call: "sigprocmask",
        errno,
    })?;
    let started = start(config, streams, observer, blocked.before(), true)?;
    Ok(Container {
        started,
        ended: None,
    })
}

/// A container that has been started. Dropping it ends it.
#[derive(Debug)]
pub struct Container {
    started: Started,
    ended: Option<ExitStatus>,
}

impl Container {
    /// The container's init, as the caller's PID namespace numbers it.
    pub fn pid(&self) -> i32 {
        self.started.init.pid.as_raw()
    }

    /// A descriptor that becomes readable when the container has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.started.init.pidfd.as_fd()
    }

    /// Its cgroup; none when nothing is limited.
    pub fn group(&self) -> Option<&Group> {
        self.started.group.as_deref()
    }

    /// What it has used so far; nothing of what was not limited.
    ///
    /// # Errors
    /// When the container has ended, or a file of its cgroup cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(self
            .group()
            .map(Group::stats)
            .transpose()?
            .unwrap_or_default())
    }

    /// Sends a signal: `SIGKILL` ends the whole container, any other goes to the command.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal. A container that has ended is no error.
    pub fn kill(&self, signal: i32) -> Result<(), Error> {
        match sys::pidfd_send_signal(self.pidfd(), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(Error::System {
                call: "pidfd_send_signal",
                errno,
            }),
        }
    }

    /// Waits until the container has ended, removes what it used, and tells how its command ended. A
    /// second call repeats the answer.
    ///
    /// # Errors
    /// When something of the container could not be removed.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        let report = Report::receive(&self.started.channel);
        let init = reap(&self.started.init)?;
        let status = match report {
            Ok(Some(Report::Ended { wait_status })) => ExitStatus::from_wait_status(wait_status),
            // Init itself was killed, and with it everybody.
            _ => init,
        };
        self.ended = Some(status);
        if let Some(group) = self.started.group.take() {
            group.finish()?;
        }
        Ok(status)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.kill(libc::SIGKILL);
            let _ = self.wait();
        }
    }
}

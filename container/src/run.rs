//! Brings a container to life, and to its end.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::config::Config;
use crate::error::Error;
use crate::execute::{Kernel, perform};
use crate::host::Host;
use crate::plan::call::Call;
use crate::plan::step::{Actor, Step};
use crate::plan::{Plan, plan};
use crate::process::init::{self, Inheritance};
use crate::process::report::{Report, StepOutcome};
use crate::process::status::ExitStatus;
use crate::process::supervise::{Blocked, until_readable};
use crate::sys::{self, Clone3, Cloned, Program};

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
    let mut container = start(config, observer, blocked.before(), false)?;
    until_readable(container.channel.as_fd(), container.init.pidfd.as_fd()).map_err(|errno| {
        Error::System {
            call: "signalfd",
            errno,
        }
    })?;
    container.wait()
}

/// Starts the command of `config` in a container of its own and returns as soon as it runs.
///
/// The caller may have any number of threads: between `clone3` and `execve` the child keeps to what a
/// signal handler may do. The container ends when the calling process does, whatever becomes of the
/// calling thread.
///
/// # Errors
/// As [`run`].
pub fn spawn(config: &Config, observer: &mut dyn Observer) -> Result<Container, Error> {
    let blocked = Blocked::new().map_err(|errno| Error::System {
        call: "sigprocmask",
        errno,
    })?;
    start(config, observer, blocked.before(), true)
}

/// A container that has been started. Dropping it ends it.
#[derive(Debug)]
pub struct Container {
    init: Cloned,
    channel: OwnedFd,
    ended: Option<ExitStatus>,
}

impl Container {
    /// The container's init, as the caller's PID namespace numbers it.
    pub fn pid(&self) -> i32 {
        self.init.pid.as_raw()
    }

    /// A descriptor that becomes readable when the container has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.pidfd.as_fd()
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
        let report = Report::receive(&self.channel);
        let init = reap(&self.init)?;
        let status = match report {
            Ok(Some(Report::Ended { wait_status })) => ExitStatus::from_wait_status(wait_status),
            // Init itself was killed, and with it everybody.
            _ => init,
        };
        self.ended = Some(status);
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

fn reap(init: &Cloned) -> Result<ExitStatus, Error> {
    use nix::sys::wait::WaitStatus;
    loop {
        match waitid(Id::PIDFd(init.pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(ExitStatus::Exited(status as u8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(ExitStatus::Signaled(signal as u8));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(Error::System {
                    call: "waitid",
                    errno,
                });
            }
        }
    }
}

/// Plans and executes, up to the moment when the command runs.
fn start(
    config: &Config,
    observer: &mut dyn Observer,
    mask: SigSet,
    outlives_thread: bool,
) -> Result<Container, Error> {
    let host = Host::read()?;
    let plan = plan(config, &host)?;
    let mut program = Program::new(
        plan.candidates.clone(),
        plan.arguments.clone(),
        plan.environment.clone(),
    );
    let system = |call| move |errno| Error::System { call, errno };
    let (ours, theirs) = sys::socket_pair().map_err(system("socketpair"))?;
    let runtime = sys::pidfd_open(Pid::this()).map_err(system("pidfd_open"))?;
    let inheritance = Inheritance {
        plan: &plan,
        channel: theirs.as_fd(),
        runtime: runtime.as_fd(),
        mask,
        tells_steps: observer.wants_steps(),
        outlives_thread,
    };
    let mut kernel = Runtime {
        inheritance: &inheritance,
        program: &mut program,
        channel: ours.as_fd(),
        init: None,
    };
    for (_, step) in plan.steps_of(Actor::Runtime) {
        let before = Instant::now();
        match perform(&mut kernel, step) {
            Ok(outcome) if inheritance.tells_steps => {
                observer.step(step, outcome, before.elapsed())
            }
            Ok(_) => {}
            Err((call, errno)) => {
                if let Some(init) = kernel.init.take() {
                    abandon(&init);
                }
                return Err(Error::step(step, call, errno));
            }
        }
    }
    let Some(init) = kernel.init.take() else {
        return Err(Error::System {
            call: "clone3",
            errno: Errno::ENOSYS,
        });
    };
    drop(theirs);
    let container = Container {
        init,
        channel: ours,
        ended: None,
    };
    await_start(container, &plan, observer)
}

/// Listens to init until the command runs.
fn await_start(
    mut container: Container,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<Container, Error> {
    let failure = loop {
        match Report::receive(&container.channel) {
            Ok(Some(Report::Step {
                step,
                outcome,
                nanoseconds,
            })) => {
                if let Some(step) = plan.steps.get(usize::from(step)) {
                    observer.step(step, outcome, Duration::from_nanos(nanoseconds));
                }
            }
            Ok(Some(Report::Started)) => return Ok(container),
            Ok(Some(Report::Failed { step, call, errno })) => {
                match plan.steps.get(usize::from(step)) {
                    Some(step) => break Error::step(step, call, errno),
                    None => {
                        break Error::System {
                            call: "clone",
                            errno,
                        };
                    }
                }
            }
            Ok(Some(Report::NotExecuted {
                candidate,
                errno,
                diagnosis,
            })) => {
                break Error::not_executed(plan, usize::from(candidate), errno, &diagnosis);
            }
            Ok(Some(Report::Ended { .. })) | Ok(None) => {
                break Error::InitEnded {
                    status: container.wait()?,
                };
            }
            Err(errno) => {
                break Error::System {
                    call: "read",
                    errno,
                };
            }
        }
    };
    abandon(&container.init);
    container.ended = Some(ExitStatus::Signaled(9));
    Err(failure)
}

/// Ends a child that did not become a container.
fn abandon(init: &Cloned) {
    let _ = sys::pidfd_send_signal(init.pidfd.as_fd(), libc::SIGKILL);
    let _ = reap(init);
}

/// The kernel as the runtime asks it.
struct Runtime<'a> {
    inheritance: &'a Inheritance<'a>,
    program: &'a mut Program,
    channel: BorrowedFd<'a>,
    init: Option<Cloned>,
}

impl Kernel for Runtime<'_> {
    fn call(&mut self, call: &Call) -> Result<(), Errno> {
        match call {
            Call::Clone3 {
                namespaces,
                into_group: _,
            } => {
                let what = Clone3 {
                    namespaces: namespaces.flags(),
                    cgroup: None,
                };
                self.init = Some(sys::clone3(&what, || {
                    init::run(self.inheritance, self.program)
                })?);
                Ok(())
            }
            Call::WriteProc { file, text } => {
                let init = self.init.as_ref().ok_or(Errno::ESRCH)?;
                let path = format!("/proc/{}/{file}", init.pid);
                let written = std::fs::OpenOptions::new()
                    .write(true)
                    .open(path)
                    .and_then(|mut f| f.write_all(text.as_bytes()));
                written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            }
            Call::Release => nix::unistd::write(self.channel, b"\n").map(drop),
            // Init's own; a plan that gives them to the runtime is wrong, and says so.
            _ => Err(Errno::ENOSYS),
        }
    }
}

//! From a plan to a running command: the runtime's half of the steps, and listening to init's half.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::Observer;
use crate::cgroup::{self, Entrance, Ephemeral};
use crate::config::Config;
use crate::error::Error;
use crate::execute::{self, Kernel, take_steps};
use crate::host::Host;
use crate::plan::call::Call;
use crate::plan::step::Step;
use crate::plan::{self, Plan};
use crate::process::hear::{News, hear};
use crate::process::init::{self, Inheritance};
use crate::process::status::ExitStatus;
use crate::process::streams::Streams;
use crate::sys::{self, Clone3, Cloned, Program};

/// What is left of the start when the command runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) init: Cloned,
    pub(crate) channel: OwnedFd,
    pub(crate) group: Option<Ephemeral>,
}

/// The plan of a container on this host, and what was found out about the host.
pub(crate) fn planned(config: &Config) -> Result<(Plan, Host), Error> {
    config.validate().map_err(plan::Error::from)?;
    let host = Host::read(!config.limits.is_empty())?;
    Ok((plan::plan(config, &host)?, host))
}

/// Plans and executes, up to the moment when the command runs. The caller's signals are blocked.
pub(crate) fn start(
    config: &Config,
    streams: Streams<'_>,
    observer: &mut dyn Observer,
    mask: SigSet,
    outlives_thread: bool,
) -> Result<Started, Error> {
    let (plan, host) = planned(config)?;
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
        streams,
        mask,
        tells_steps: observer.wants_steps(),
        outlives_thread,
    };
    let mut kernel = Runtime {
        host: &host,
        inheritance: &inheritance,
        program: &mut program,
        channel: ours.as_fd(),
        group: None,
        entrance: None,
        init: None,
        refusal: None,
        observer,
    };
    let taken = take_steps(&mut kernel, &plan);
    let (init, group) = (kernel.init.take(), kernel.group.take());
    // Init has a copy; when that is closed as well, it is gone.
    drop(theirs);
    let failure = match (taken, init) {
        (Ok(()), Some(init)) => match await_start(&ours, &plan, observer) {
            Ok(()) => {
                return Ok(Started {
                    init,
                    channel: ours,
                    group,
                });
            }
            Err(failure) => abandon(&init, failure),
        },
        (Ok(()), None) => Error::System {
            call: "clone3",
            errno: Errno::ENOSYS,
        },
        (Err(failure), Some(init)) => abandon(&init, failure),
        (Err(failure), None) => failure,
    };
    // The failure matters more than a directory, which the next run sweeps.
    drop(group);
    Err(failure)
}

/// Listens to init until the command runs.
fn await_start(channel: &OwnedFd, plan: &Plan, observer: &mut dyn Observer) -> Result<(), Error> {
    match hear(channel, plan, observer)? {
        News::Ready => Ok(()),
        // How it ended, `abandon` finds out.
        _ => Err(Error::InitEnded {
            status: ExitStatus::Exited(0),
        }),
    }
}

/// Ends an init that did not become a container; gives the failure, completed by how it ended.
fn abandon(init: &Cloned, failure: Error) -> Error {
    let _ = sys::pidfd_send_signal(init.pidfd.as_fd(), libc::SIGKILL);
    match (failure, reap(init)) {
        (Error::InitEnded { .. }, Ok(status)) => Error::InitEnded { status },
        (failure, _) => failure,
    }
}

/// Waits until init has ended: the last process of the container, since the kernel ends the others first.
pub(crate) fn reap(init: &Cloned) -> Result<ExitStatus, Error> {
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

/// The kernel as the runtime asks it.
struct Runtime<'a> {
    host: &'a Host,
    inheritance: &'a Inheritance<'a>,
    program: &'a mut Program,
    channel: BorrowedFd<'a>,
    group: Option<Ephemeral>,
    entrance: Option<Entrance>,
    init: Option<Cloned>,
    /// What a cgroup said, in more words than an errno has.
    refusal: Option<cgroup::Error>,
    observer: &'a mut dyn Observer,
}

impl execute::Runtime for Runtime<'_> {
    type Error = Error;

    fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    fn failure(&mut self, step: &Step, call: u16, errno: Errno) -> Error {
        match self.refusal.take() {
            Some(source) => Error::Cgroup {
                what: step.told(),
                source,
            },
            None => Error::step(step, call, errno),
        }
    }
}

impl Kernel for Runtime<'_> {
    fn call(&mut self, call: &Call) -> Result<(), Errno> {
        match call {
            Call::CreateGroup { controllers, .. } => {
                let layout = self.host.cgroups.as_ref().ok_or(Errno::ENOENT)?;
                let group = Ephemeral::create(layout, *controllers);
                let group = group.map_err(|error| self.refuse(error))?;
                let entrance = group.entrance_v1();
                self.group = Some(group);
                self.entrance = Some(entrance.map_err(|error| self.refuse(error))?);
                Ok(())
            }
            Call::LimitGroup { limits } => {
                let group = self.group.as_ref().ok_or(Errno::ENOENT)?;
                group.apply(limits).map_err(|error| self.refuse(error))
            }
            Call::Clone3 {
                namespaces,
                into_group,
            } => {
                let group = self.group.as_ref().filter(|_| *into_group);
                let cgroup = group.and_then(|group| group.directory_fd());
                let what = Clone3 {
                    namespaces: namespaces.flags(),
                    cgroup,
                    ..Clone3::default()
                };
                let (inheritance, entrance, program) =
                    (self.inheritance, self.entrance.as_ref(), &mut *self.program);
                self.init = Some(sys::clone3(&what, || {
                    init::run(inheritance, entrance, program)
                })?);
                Ok(())
            }
            Call::WriteProc { file, text } => {
                let init = self.init.as_ref().ok_or(Errno::ESRCH)?;
                let path = format!("/proc/{}/{file}", init.pid);
                let file = std::fs::OpenOptions::new().write(true).open(path);
                let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
                written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            }
            Call::Release => nix::unistd::write(self.channel, b"\n").map(drop),
            // Init's own; a plan that gives them to the runtime is wrong, and says so.
            _ => Err(Errno::ENOSYS),
        }
    }
}

impl Runtime<'_> {
    fn refuse(&mut self, error: cgroup::Error) -> Errno {
        let errno = error.errno().unwrap_or(Errno::EINVAL);
        self.refusal = Some(error);
        errno
    }
}

//! The container's first process. It takes its steps of the plan, starts the command, and then does
//! what every PID 1 has to: reap whom others left behind, pass signals on, and go when its work ends
//! (`man 7 pid_namespaces`, "The namespace init process"). The kernel kills whoever is left.
//!
//! Everything here runs between `clone3` and the end of the process in a copy of the runtime's memory,
//! and so must not allocate, lock or panic.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;

use super::plain;
use super::report::Report;
use super::steps::{self, Init};
use super::streams::Streams;
use crate::cgroup::Entrance;
use crate::execute::Kernel;
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::sys::{self, Program, SpawnError};

/// What init has from the runtime.
#[derive(Debug)]
pub struct Inheritance<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// Where to report, and where the runtime says to go on.
    pub channel: BorrowedFd<'a>,
    /// Becomes readable when the runtime ends.
    pub runtime: BorrowedFd<'a>,
    /// What the command reads and writes instead of the runtime's standard streams.
    pub streams: Streams<'a>,
    /// The signal mask that the command gets.
    pub mask: SigSet,
    /// Whether every step is reported, or only a failure.
    pub tells_steps: bool,
    /// Whether the thread that cloned init may end before the container.
    pub outlives_thread: bool,
}

/// Takes init's steps, then looks after the command; returns init's own exit status.
pub fn run(
    inheritance: &Inheritance<'_>,
    entrance: Option<&Entrance>,
    program: &mut Program,
) -> i32 {
    if let Err(errno) = inheritance.streams.take() {
        Report::Failed {
            step: u16::MAX,
            call: 0,
            errno,
        }
        .send(inheritance.channel);
        return 125;
    }
    let mut kernel = Child {
        inheritance,
        entrance,
        program,
        command: None,
        not_executed: None,
        umask: None,
    };
    if !steps::take(&mut kernel, inheritance.plan, 0) {
        return 125;
    }
    let Some(command) = kernel.command else {
        return 125;
    };
    Report::Started.send(inheritance.channel);
    if inheritance.outlives_thread {
        // From here on the runtime's descriptor tells when it ends.
        let _ = prctl::set_pdeathsig(None);
    }
    look_after(command, inheritance)
}

/// Waits until the command ends, and reports how.
fn look_after(command: Pid, inheritance: &Inheritance<'_>) -> i32 {
    // Outside the terminal's session, signals typed there reach the command and not init as well.
    let _ = nix::unistd::setsid();
    let Ok(signals) = SignalFd::with_flags(
        &SigSet::all(),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    ) else {
        return 125;
    };
    loop {
        // Children first: the command may have ended before the descriptor was there.
        if let Some(wait_status) = reap(command) {
            Report::Ended { wait_status }.send(inheritance.channel);
            return 0;
        }
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut ready = [readable(signals.as_fd()), readable(inheritance.runtime)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 125,
        }
        if ready[1].any() == Some(true) {
            return 125;
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            // One that was typed before init had left the session: the command has it already.
            let is_typed = signal.ssi_code == libc::SI_KERNEL;
            if signal.ssi_signo as i32 != libc::SIGCHLD && !is_typed {
                sys::kill(command, signal.ssi_signo as i32);
            }
        }
    }
}

/// Waits for every child that has ended; gives the command's wait status if it is among them.
fn reap(command: Pid) -> Option<i32> {
    loop {
        match sys::wait_any() {
            Some((pid, wait_status)) if pid == command => return Some(wait_status),
            Some(_) => {}
            None => return None,
        }
    }
}

/// The kernel as init asks it.
struct Child<'a> {
    inheritance: &'a Inheritance<'a>,
    entrance: Option<&'a Entrance>,
    program: &'a mut Program,
    command: Option<Pid>,
    not_executed: Option<SpawnError>,
    /// The caller's, while a step uses another.
    umask: Option<Mode>,
}

impl Kernel for Child<'_> {
    fn call(&mut self, call: &Call) -> Result<(), Errno> {
        match call {
            Call::EnterGroup => match self.entrance.map(Entrance::enter) {
                Some(entered) => entered.map_err(|error| error.errno),
                None => Err(Errno::ENOENT),
            },
            Call::AwaitRelease => self.await_release(),
            Call::CloseDescriptors => close_all_but([
                self.inheritance.channel.as_raw_fd(),
                self.inheritance.runtime.as_raw_fd(),
            ]),
            Call::Umask { mask } => {
                let before = umask(Mode::from_bits_truncate(*mask));
                self.umask.get_or_insert(before);
                Ok(())
            }
            Call::RestoreUmask => {
                self.umask.take().map(umask);
                Ok(())
            }
            Call::Execute => match sys::spawn(self.program, &self.inheritance.mask) {
                Ok(pid) => {
                    self.command = Some(pid);
                    Ok(())
                }
                Err(failure) => {
                    self.not_executed = Some(failure);
                    Err(failure.errno)
                }
            },
            _ => plain::call(call),
        }
    }
}

impl Init for Child<'_> {
    fn listener(&self) -> BorrowedFd<'_> {
        self.inheritance.channel
    }

    fn tells_steps(&self) -> bool {
        self.inheritance.tells_steps
    }

    fn program(&self) -> &Program {
        self.program
    }

    fn not_executed(&self) -> Option<SpawnError> {
        self.not_executed
    }
}

impl Child<'_> {
    fn await_release(&self) -> Result<(), Errno> {
        let mut byte = [0];
        loop {
            match nix::unistd::read(self.inheritance.channel, &mut byte) {
                Ok(1) => return Ok(()),
                Ok(_) => return Err(Errno::EPIPE),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Closes every descriptor past the standard streams, except two.
fn close_all_but(mut keep: [RawFd; 2]) -> Result<(), Errno> {
    keep.sort_unstable();
    let mut first = 3;
    for kept in keep.into_iter().filter_map(|fd| u32::try_from(fd).ok()) {
        if kept > first {
            sys::close_range(first, kept - 1)?;
        }
        first = first.max(kept + 1);
    }
    sys::close_range(first, u32::MAX)
}

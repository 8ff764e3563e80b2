//! What the runtime does while the command runs: pass signals on, and wait.
//!
//! A signal typed at the terminal goes to everybody in the foreground, the command included, so it must
//! not be passed on; one that somebody sent to the runtime must be. The kernel says which it was:
//! `si_code` is `SI_KERNEL` for the terminal (`man 2 sigaction`).

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

use crate::sys;

/// Signals that mean a fault of the process itself, and those that stop it when it reads from or writes
/// to a terminal that is not its own: not for the command.
const OURS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// The calling thread's signals, blocked; unblocked again when this is dropped.
#[derive(Debug)]
pub struct Blocked {
    before: SigSet,
}

impl Blocked {
    /// Blocks every signal that could interrupt or be passed on.
    ///
    /// # Errors
    /// None that a current kernel gives.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            before: set().thread_swap_mask(SigmaskHow::SIG_SETMASK)?,
        })
    }

    /// The mask as it was: the command's.
    pub fn before(&self) -> SigSet {
        self.before
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

fn set() -> SigSet {
    let mut set = SigSet::all();
    for signal in OURS {
        set.remove(signal);
    }
    set
}

/// Passes signals to the process of `init` until `channel` has something to say.
///
/// The signals have to be [`Blocked`].
///
/// # Errors
/// `EMFILE` when the process has too many descriptors.
pub fn until_readable(channel: BorrowedFd<'_>, init: BorrowedFd<'_>) -> Result<(), Errno> {
    let signals = SignalFd::with_flags(&set(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut ready = [readable(channel), readable(signals.as_fd())];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        while let Some(signal) = signals.read_signal()? {
            pass_on(&signal, init);
        }
        if ready[0].any() == Some(true) {
            return Ok(());
        }
    }
}

fn pass_on(signal: &siginfo, init: BorrowedFd<'_>) {
    let number = signal.ssi_signo as i32;
    let is_typed = signal.ssi_code == libc::SI_KERNEL;
    match number {
        libc::SIGCHLD => {}
        libc::SIGTSTP if is_typed => stop(),
        _ if is_typed => {}
        // Init passes it on in turn. That it has just ended will show on the channel.
        _ => drop(sys::pidfd_send_signal(init, number)),
    }
}

/// Stops this process as the terminal has stopped the command: the shell waits for both. Not by SIGSTOP,
/// because where no shell could continue them (an orphaned process group) the kernel lets the command run
/// on.
fn stop() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTSTP);
    if raise(Signal::SIGTSTP).is_ok() {
        // Here it stops, and here it goes on.
        let _ = set.thread_unblock();
        let _ = set.thread_block();
    }
}

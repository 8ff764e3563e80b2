//! The last steps: wait to be started, find the program, become it (`man 2 execve`).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{AccessFlags, faccessat};

use super::{GO_ON_AND_TELL, Init, await_byte};
use crate::plan::call::text;
use crate::process::report::Report;
use crate::runtime::passwd;
use crate::sys::{self, Program, SpawnError};

impl Init<'_> {
    /// Tells the runtime that all is ready, and waits until somebody says "go": whoever only asks
    /// whether we wait hangs up without a word.
    pub(super) fn await_start(&mut self) -> Result<(), Errno> {
        let listener = self.inheritance.listener.ok_or(Errno::EBADF)?;
        self.find_program()?;
        prctl::set_pdeathsig(None)?;
        // The first process of a PID namespace ends by no signal that it does not ask for.
        let ending = SigSet::from_iter([
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGALRM,
        ]);
        ending.thread_block()?;
        let signals = SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC)?;
        Report::Started.send(self.inheritance.channel);
        loop {
            let mut ready = [
                PollFd::new(listener, PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            }
            if ready[1].revents().is_some_and(|it| !it.is_empty()) {
                let signal = signals.read_signal()?.map_or(0, |it| it.ssi_signo as i32);
                std::process::exit(128 + signal);
            }
            let caller = match nix::sys::socket::accept4(
                listener.as_raw_fd(),
                nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            ) {
                Ok(fd) => sys::own(fd),
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                Err(errno) => return Err(errno),
            };
            if let Ok(word) = await_byte(caller.as_fd()) {
                self.tells_steps = word == GO_ON_AND_TELL;
                self.start = Some(caller);
                return Ok(());
            }
        }
    }

    /// Callers expect `create`, not `start`, to tell them that there is no such program.
    pub(super) fn find_program(&mut self) -> Result<(), Errno> {
        let mut verdict = SpawnError {
            candidate: 0,
            errno: Errno::ENOENT,
        };
        for (candidate, path) in self.inheritance.program.candidates().iter().enumerate() {
            let path = path.as_c_str();
            let Err(errno) = may_be_executed(path) else {
                return Ok(());
            };
            if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
                verdict = SpawnError { candidate, errno };
            }
        }
        self.not_executed = Some(verdict);
        Err(verdict.errno)
    }

    pub(super) fn find_home(&mut self, uid: u32) {
        let mut environment = self.inheritance.plan.environment.clone();
        environment.retain(|entry| !entry.to_bytes().starts_with(b"HOME="));
        environment.push(text([b"HOME=", passwd::home(uid).as_slice()].concat()));
        self.environment = Some(environment);
    }

    pub(super) fn execute(&mut self) -> Result<(), Errno> {
        if self.start.is_none() {
            prctl::set_pdeathsig(None)?;
        }
        sys::default_signals();
        let with_home = self.environment.take().map(|environment| {
            let plan = self.inheritance.plan;
            Program::new(plan.candidates.clone(), plan.arguments.clone(), environment)
        });
        let failure = with_home
            .as_ref()
            .unwrap_or(self.inheritance.program)
            .execute();
        self.not_executed = Some(failure);
        Err(failure.errno)
    }
}

/// Whether a file looks as if `execve` would take it. The container's own filter may already be in force,
/// and know neither call: one that is refused has no say.
fn may_be_executed(path: &CStr) -> Result<(), Errno> {
    let is_allowed = match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Ok(()) => true,
        Err(Errno::EPERM | Errno::ENOSYS) => false,
        Err(errno) => return Err(errno),
    };
    match nix::sys::stat::stat(path).map(|it| it.st_mode) {
        Ok(mode) if mode & libc::S_IFMT != libc::S_IFREG => Err(Errno::EACCES),
        Ok(mode) if !is_allowed && mode & 0o111 == 0 => Err(Errno::EACCES),
        Ok(_) | Err(Errno::EPERM | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

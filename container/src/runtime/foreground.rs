//! A container's process in the foreground: the caller's terminal is joined to its own, signals are passed
//! on, and its end is waited for. It has a session of its own, so what is typed reaches it from here only.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::{Error, own_descriptor};
use crate::sys;

/// A pair of sockets: one for us, one over which the container sends its terminal.
pub(super) fn sockets() -> Result<(OwnedFd, OwnedFd), Error> {
    let pair = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    );
    pair.map_err(Error::system("socketpair"))
}

/// Receives a terminal.
pub(super) fn receive(socket: &OwnedFd) -> nix::Result<OwnedFd> {
    let mut name = [0; 64];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part
            && let Some(fd) = descriptors.first()
        {
            return Ok(own_descriptor(*fd));
        }
    }
    Err(nix::Error::EBADMSG)
}

/// The caller's terminal in raw mode; back to what it was when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn new() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            // The container's terminal ends lines with a newline alone; ours makes a line of it.
            raw.output_flags.insert(OutputFlags::OPOST);
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw);
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Copies between the caller's terminal and the container's until the process has ended, and passes
/// signals and changes of size on.
pub(super) fn relay(
    master: Option<&OwnedFd>,
    process: BorrowedFd<'_>,
    pid: Pid,
) -> nix::Result<()> {
    let set = SigSet::all();
    set.thread_block()?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let _raw = master.map(|_| Raw::new());
    if let Some(master) = master {
        copy_size(std::io::stdin().as_fd(), master.as_fd());
    }
    let (mut input_ends, mut output_ends) = (master.is_none(), master.is_none());
    // Without a terminal it is the program's own, and none of ours.
    let stdin = master.map(|_| std::io::stdin());
    let input = stdin.as_ref().map_or(process, AsFd::as_fd);
    loop {
        let on = |fd, skip: bool| {
            PollFd::new(
                fd,
                if skip {
                    PollFlags::empty()
                } else {
                    PollFlags::POLLIN
                },
            )
        };
        let terminal = master.map_or(process, AsFd::as_fd);
        let mut ready = [
            on(process, false),
            on(signals.as_fd(), false),
            on(terminal, output_ends),
            on(input, input_ends),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let is_ready = |index: usize| ready[index].revents().is_some_and(|it| !it.is_empty());
        let (has_ended, told, written, typed) = (
            is_ready(0),
            is_ready(1),
            is_ready(2) && !output_ends,
            is_ready(3) && !input_ends,
        );
        if told {
            while let Ok(Some(signal)) = signals.read_signal() {
                match (signal.ssi_signo as i32, master) {
                    (libc::SIGCHLD, _) => bury(pid),
                    (libc::SIGWINCH, Some(master)) => copy_size(input, master.as_fd()),
                    (number, _) if Signal::try_from(number) == Ok(Signal::SIGURG) => {}
                    (number, _) => drop(sys::pidfd_send_signal(process, number)),
                }
            }
        }
        if let Some(master) = master {
            if written {
                output_ends = !copy(master.as_fd(), std::io::stdout().as_fd());
            }
            if typed {
                input_ends = !copy(input, master.as_fd());
            }
        }
        // What was written last is still to be read.
        if has_ended && (output_ends || !written) {
            return Ok(());
        }
    }
}

/// Gives one terminal the size of another; nothing when one is none.
fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    if let Ok(size) = sys::terminal_size(from) {
        let _ = sys::set_terminal_size(to, size);
    }
}

/// Processes that lose their parent in a container without a PID namespace come to us.
///
/// # Errors
/// None that a current kernel gives.
pub fn adopt_orphans() -> Result<(), Error> {
    let set = nix::sys::prctl::set_child_subreaper(true);
    set.map_err(Error::system("prctl"))
}

/// Waits for adopted processes that have ended; the container's own is waited for last.
fn bury(own: Pid) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, peek) {
        match status.pid() {
            Some(pid) if pid != own => drop(nix::sys::wait::waitpid(pid, None)),
            _ => return,
        }
    }
}

/// Copies what is there; `false` at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut bytes = [0; 8192];
    let Ok(length @ 1..) = nix::unistd::read(from, &mut bytes) else {
        return false;
    };
    let mut rest = &bytes[..length];
    while !rest.is_empty() {
        match nix::unistd::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(nix::Error::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

//! This process's side of a command in a guest: standard input, signals, the terminal.

use crate::session::{Session, frame};
use crate::sys;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use ringside_abi::session::{Kind, PAYLOAD};
use ringside_vmm::sys::signal::{ENDING, is_ignored};
use ringside_vmm::virtio::ConsoleHandle;
use signal_hook::consts::{SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Rows and columns of the terminal that this process has on both sides.
pub fn terminal_size() -> Option<(u16, u16)> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return None;
    }
    sys::window_size(io::stdout().as_fd())
}

/// This process's terminal, if its streams are one. While the guest boots it makes signals as ever, so
/// that Ctrl-C ends that; once the command takes input it passes on what is typed as it is, for the
/// guest's terminal edits lines and makes signals.
#[derive(Clone, Default)]
pub struct Terminal(Arc<Mutex<Option<Raw>>>);

impl Terminal {
    fn raw(&self) -> MutexGuard<'_, Option<Raw>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what is typed from now on, unless the session is over.
    fn pass_on(&self, session: &Session) {
        let mut raw = self.raw();
        if raw.is_none() && session.room().is_some() {
            // A terminal that is gone has nothing to pass on.
            *raw = Raw::take().ok();
        }
    }

    /// Makes it what it was. The session is over.
    pub fn restore(&self) {
        drop(self.raw().take());
    }
}

/// The terminal of standard input passes on what is typed as it is, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn take() -> io::Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Carries standard input as fast as the guest takes it. The thread may wait in a read for ever and is
/// not waited for.
pub fn carry_input(session: &Session, console: &ConsoleHandle, terminal: Option<&Terminal>) {
    let (session, console) = (session.clone(), console.clone());
    let terminal = terminal.cloned();
    let carry = move || {
        let mut buffer = vec![0; PAYLOAD];
        let mut input = io::stdin();
        while let Some(room) = session.room() {
            if let Some(terminal) = &terminal {
                terminal.pass_on(&session);
            }
            let room = room.min(PAYLOAD);
            let (kind, count) = match input.read(&mut buffer[..room]) {
                Ok(0) | Err(_) => (Kind::InputEnd, 0),
                Ok(count) => (Kind::Input, count),
            };
            session.sent(count);
            let sent = console.input(&frame(kind, &buffer[..count]));
            if kind == Kind::InputEnd || sent.is_err() {
                return;
            }
        }
    };
    // Without the thread the command reads nothing; it is told that its input ends.
    let _ = thread::Builder::new().name("input".into()).spawn(carry);
}

/// Passes signals on to the command, until it is dropped.
pub struct Forwarding {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Forwarding {
    /// Takes over the signals that a user or a supervisor sends, but for those that this process was
    /// started to ignore. One that asks to end before the guest's user space is there ends the session,
    /// and with it, by `stop`, the machine: a kernel that hangs passes nothing on.
    pub fn begin(
        session: &Session,
        console: &ConsoleHandle,
        stop: impl Fn() + Send + 'static,
    ) -> io::Result<Forwarding> {
        let mut wanted = [ENDING.as_slice(), &[SIGUSR1, SIGUSR2, SIGWINCH]].concat();
        wanted.retain(|&signal| !is_ignored(signal));
        let mut signals = Signals::new(wanted)?;
        let handle = signals.handle();
        let (session, console) = (session.clone(), console.clone());
        let forward = move || {
            for signal in &mut signals {
                if ENDING.contains(&signal) && session.end_unless_ready(signal.unsigned_abs() as u8)
                {
                    stop();
                    return;
                }
                let frame = match signal {
                    SIGWINCH => {
                        let Some((rows, columns)) = terminal_size() else {
                            continue;
                        };
                        let size = [rows.to_le_bytes(), columns.to_le_bytes()].concat();
                        frame(Kind::Resize, &size)
                    }
                    signal => frame(Kind::Signal, &signal.unsigned_abs().to_le_bytes()),
                };
                if console.input(&frame).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("signals".into())
            .spawn(forward)?;
        Ok(Forwarding {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

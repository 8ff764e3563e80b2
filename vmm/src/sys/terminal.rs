//! The terminal that a guest's console is shown on, in raw mode (`man 3 termios`): each key goes to
//! the guest at once, control characters among them, and nothing is echoed but by the guest.
//!
//! A terminal left in raw mode is unusable, so it is put back on every way out: when the guard is
//! dropped, when the process exits or panics, and when a signal ends it that nothing else handles.

use std::io;
use std::sync::Once;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the terminal was; set before [`RAW`] is, once.
static BEFORE: OnceLock<libc::termios> = OnceLock::new();
/// Whether it is raw now.
static RAW: AtomicBool = AtomicBool::new(false);

/// A raw terminal, until dropped.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Makes the terminal on standard input raw; `None` if that is none.
    ///
    /// # Errors
    /// The system calls'.
    pub fn enter() -> io::Result<Option<RawTerminal>> {
        // SAFETY: no memory of Rust's is involved.
        if unsafe { libc::isatty(0) } == 0 {
            return Ok(None);
        }
        // SAFETY: all-zero is a valid `termios`; the pointers are to a local.
        let mut mode: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        if unsafe { libc::tcgetattr(0, &mut mode) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let before = *BEFORE.get_or_init(|| mode);
        mode = before;
        // SAFETY: the pointer is to a local.
        unsafe { libc::cfmakeraw(&mut mode) };
        // Output stays as it was: a newline of the VMM's own goes to the line's beginning too.
        mode.c_oflag = before.c_oflag;
        at_every_end()?;
        RAW.store(true, Ordering::SeqCst);
        // SAFETY: the pointer is to a local.
        match unsafe { libc::tcsetattr(0, libc::TCSANOW, &mode) } {
            0 => Ok(Some(RawTerminal(()))),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Async-signal-safe (`man 7 signal-safety`): `tcsetattr` and atomics.
extern "C" fn restore() {
    if let Some(before) = BEFORE.get()
        && RAW.swap(false, Ordering::SeqCst)
    {
        // SAFETY: the pointer is to a static that does not change any more.
        unsafe { libc::tcsetattr(0, libc::TCSANOW, before) };
    }
}

/// Restores the terminal and lets the signal do what it does by default.
extern "C" fn on_fatal(signal: i32) {
    restore();
    // SAFETY: all async-signal-safe. The default action ends this process, when the handler returns.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Signals that end a process by its own fault or that a person sends to end it; those that the VMM
/// handles itself end it in an orderly way.
const FATAL: [i32; 10] = [
    libc::SIGABRT,
    libc::SIGALRM,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGHUP,
    libc::SIGILL,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGSEGV,
    libc::SIGTERM,
];

fn at_every_end() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // SAFETY: the function is async-signal-safe and does not unwind.
        unsafe { libc::atexit(restore) };
        for signal in FATAL {
            if let Err(error) = handle(signal) {
                result = Err(error);
            }
        }
    });
    result
}

/// Handles a signal unless somebody handles or ignores it already. Rust's own handler of SIGSEGV and
/// SIGBUS, which tells of stack overflows, gives way.
fn handle(signal: i32) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags and an empty mask; the handler is
    // async-signal-safe; the pointers are to locals.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &mut old) != 0 {
            return Err(io::Error::last_os_error());
        }
        let of_rust = matches!(signal, libc::SIGSEGV | libc::SIGBUS);
        if old.sa_sigaction != libc::SIG_DFL && !of_rust {
            return Ok(());
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fatal as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER;
        match libc::sigaction(signal, &action, std::ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

//! Ctrl-C as a value that can be asked and waited for, instead of the end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// Whether somebody asked this process to stop.
#[derive(Debug)]
pub struct Interrupt {
    /// The first signal that came, 0 for none.
    signal: Arc<AtomicUsize>,
    /// Readable from the first signal on, for good: nobody reads it.
    readable: UnixStream,
    /// Kept open, because the end of the stream would read as a signal.
    written: UnixStream,
    registered: Vec<SigId>,
}

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP no longer end this process but show here, until this is
    /// dropped. (Afterwards they are ignored: signal-hook leaves its handler in place.)
    ///
    /// # Errors
    ///
    /// Those of `sigaction` and `socketpair`.
    pub fn on_signals() -> io::Result<Self> {
        let mut interrupt = Interrupt::never()?;
        for number in [SIGINT, SIGTERM, SIGHUP] {
            // The flag before the pipe, so that whoever is woken finds it set.
            let value = usize::try_from(number).map_err(io::Error::other)?;
            let signal = Arc::clone(&interrupt.signal);
            let ids = &mut interrupt.registered;
            ids.push(flag::register_usize(number, signal, value)?);
            let written = interrupt.written.try_clone()?;
            ids.push(low_level::pipe::register(number, written)?);
        }
        Ok(interrupt)
    }

    /// One that never comes, for callers that leave the signals as they are.
    ///
    /// # Errors
    ///
    /// Those of `socketpair`.
    pub fn never() -> io::Result<Self> {
        let (readable, written) = UnixStream::pair()?;
        Ok(Interrupt {
            signal: Arc::default(),
            readable,
            written,
            registered: Vec::new(),
        })
    }

    /// The number of the last signal that asked to stop, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
    }
}

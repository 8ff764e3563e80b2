//! A Linux guest's console: the first serial port, with input and an interrupt.

use super::{Device, Interrupt, SharedOutput};
use crate::trap::{Reply, Width};
use std::convert::Infallible;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use vm_superio::Serial;
use vm_superio::serial::NoEvents;

/// The port. Clones are the same one: one is on the bus, another is typed at.
#[derive(Clone)]
pub struct Console(Arc<Shared>);

struct Shared {
    port: Mutex<Serial<Interrupt, NoEvents, SharedOutput>>,
    /// The guest has read all that was typed.
    drained: Condvar,
}

impl Console {
    /// A port that writes to `output` and interrupts by `interrupt`.
    pub fn new(interrupt: Interrupt, output: impl Write + Send + 'static) -> Console {
        Console(Arc::new(Shared {
            port: Mutex::new(Serial::new(interrupt, SharedOutput::new(output))),
            drained: Condvar::new(),
        }))
    }

    /// Types: gives the guest all of these bytes, as fast as it reads them. A guest that does not
    /// read keeps the caller waiting.
    pub fn type_in(&self, mut bytes: &[u8]) {
        let mut port = self.port();
        while !bytes.is_empty() {
            // An error says that there is no room; in loop mode the port takes none either.
            let taken = port.enqueue_raw_bytes(bytes).unwrap_or(0);
            bytes = &bytes[taken..];
            if !bytes.is_empty() {
                let waited = self.0.drained.wait(port);
                port = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn port(&self) -> MutexGuard<'_, Serial<Interrupt, NoEvents, SharedOutput>> {
        self.0.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Console {
    fn read(&mut self, offset: u64, _: Width) -> Reply {
        let mut port = self.port();
        let full = port.fifo_capacity();
        let value = port.read(offset as u8);
        if port.fifo_capacity() > full {
            self.0.drained.notify_one();
        }
        Reply::Value(value.into())
    }

    fn write(&mut self, offset: u64, _: Width, value: u64) -> Reply {
        // As with any serial line, the guest is not told that the cable was pulled.
        let _: Result<(), vm_superio::serial::Error<Infallible>> =
            self.port().write(offset as u8, value as u8);
        Reply::Resume
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}

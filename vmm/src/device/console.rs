//! A Linux guest's console: the first serial port, with input and an interrupt; and the keys by which
//! a person leaves it.

use super::{Device, Interrupt, SharedOutput};
use crate::trap::{Reply, Width};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vm_superio::Serial;
use vm_superio::serial::NoEvents;

/// What may be typed ahead, beside what the port itself holds.
const TYPED_MAX: usize = 64 << 10;

/// What the port holds (`vm_superio`'s, of which a 16550A has 16).
const FIFO_BYTES: usize = 64;

/// The port. Clones are the same one: one is on the bus, another is typed at.
#[derive(Clone)]
pub struct Console(Arc<Mutex<State>>);

struct State {
    port: Serial<Interrupt, NoEvents, SharedOutput>,
    /// Typed, and not in the port yet.
    typed: VecDeque<u8>,
}

impl State {
    /// Moves into the port what it has room for.
    fn refill(&mut self) {
        while !self.typed.is_empty() {
            let (next, _) = self.typed.as_slices();
            // An error says that there is no room; a port in loop mode takes nothing either.
            match self.port.enqueue_raw_bytes(next) {
                Ok(taken) if taken > 0 => drop(self.typed.drain(..taken)),
                _ => return,
            }
        }
    }
}

impl Console {
    /// A port that writes to `output` and interrupts by `interrupt`.
    pub fn new(interrupt: Interrupt, output: impl Write + Send + 'static) -> Console {
        Console(Arc::new(Mutex::new(State {
            port: Serial::new(interrupt, SharedOutput::new(output)),
            typed: VecDeque::new(),
        })))
    }

    /// Types: gives the guest bytes, as it reads them. How many there was room for.
    pub fn type_in(&self, bytes: &[u8]) -> usize {
        let mut state = self.state();
        let taken = bytes.len().min(TYPED_MAX - state.typed.len());
        state.typed.extend(&bytes[..taken]);
        state.refill();
        taken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Console {
    fn read(&mut self, offset: u64, _: Width) -> Reply {
        let mut state = self.state();
        let value = state.port.read(offset as u8);
        // Not before all is read, for one interrupt stands for all that is there.
        if offset == 0 && state.port.fifo_capacity() == FIFO_BYTES {
            state.refill();
        }
        Reply::Value(value.into())
    }

    fn write(&mut self, offset: u64, _: Width, value: u64) -> Reply {
        // As with any serial line, the guest is not told that the cable was pulled.
        let _: Result<(), vm_superio::serial::Error<Infallible>> =
            self.state().port.write(offset as u8, value as u8);
        Reply::Resume
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}

/// The key that the VMM listens to, Ctrl-A; the next one says what for.
const ESCAPE: u8 = 1;

/// Tells the keys that are for the VMM from those for the guest: Ctrl-A x leaves, Ctrl-A Ctrl-A (or
/// Ctrl-A a) is a Ctrl-A for the guest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys {
    escaped: bool,
}

impl Keys {
    /// Takes keys for the VMM out of `bytes`, as they come; whether the person leaves.
    pub fn take(&mut self, bytes: &mut Vec<u8>) -> bool {
        let mut leaves = false;
        let mut kept = Vec::with_capacity(bytes.len());
        for &byte in bytes.iter() {
            match (std::mem::take(&mut self.escaped), byte) {
                (false, ESCAPE) => self.escaped = true,
                (false, byte) => kept.push(byte),
                (true, b'x' | b'X') => leaves = true,
                (true, ESCAPE | b'a') => kept.push(ESCAPE),
                // No command of ours: the guest gets both.
                (true, byte) => kept.extend([ESCAPE, byte]),
            }
        }
        *bytes = kept;
        leaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A console with its interrupts counted, and receive interrupts on.
    fn console() -> (Console, Arc<AtomicUsize>) {
        let raised = Arc::new(AtomicUsize::new(0));
        let count = raised.clone();
        let interrupt = Interrupt::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let mut console = Console::new(interrupt, std::io::sink());
        console.write(1, Width::Byte, 1);
        (console, raised)
    }

    /// Reads as a driver does: while the line status says that there is a byte.
    fn drain(console: &mut Console) -> Vec<u8> {
        let mut read = Vec::new();
        while let Reply::Value(status) = console.read(5, Width::Byte)
            && status & 1 != 0
        {
            match console.read(0, Width::Byte) {
                Reply::Value(byte) => read.push(byte as u8),
                reply => panic!("{reply:?}"),
            }
        }
        read
    }

    #[test]
    fn more_than_the_port_holds_arrives_as_the_guest_reads() {
        let (mut console, raised) = console();
        let bytes: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        assert_eq!(console.type_in(&bytes), 1000);
        assert_eq!(raised.load(Ordering::SeqCst), 1);
        assert_eq!(drain(&mut console), bytes);
    }

    #[test]
    fn a_guest_that_does_not_read_keeps_nobody_waiting() {
        let (console, _) = console();
        let bytes = vec![b'.'; 2 * TYPED_MAX];
        let taken = console.type_in(&bytes);
        assert_eq!(taken, TYPED_MAX);
        assert_eq!(
            console.type_in(&bytes),
            FIFO_BYTES,
            "what the port has taken"
        );
        assert_eq!(console.type_in(&bytes), 0);
    }

    #[test]
    fn keys_for_the_vmm_do_not_reach_the_guest() {
        let mut keys = Keys::default();
        let mut take = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let leaves = keys.take(&mut bytes);
            (bytes, leaves)
        };
        assert_eq!(take(b"ls\x01"), (b"ls".to_vec(), false));
        assert_eq!(take(b"x"), (b"".to_vec(), true));
        assert_eq!(
            take(b"\x01\x01\x01a\x01c"),
            (b"\x01\x01\x01c".to_vec(), false)
        );
    }
}

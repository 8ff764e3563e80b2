//! A console (virtio 1.2, 5.3): a terminal whose lines cost a notification each, not an exit a byte.

use super::{Context, Event, Kind, Violation, VirtioDevice};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// `VIRTIO_CONSOLE_F_SIZE`: the configuration says how large the terminal is.
const F_SIZE: u32 = 0;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// The most input that waits for the guest.
const PENDING_MAX: usize = 64 << 10;

/// The device.
pub struct Console {
    output: Box<dyn Write + Send>,
    shared: Arc<Shared>,
    /// The size that the driver was last told.
    told: (u16, u16),
}

/// The other side of a console: what is typed, and how large its window is.
#[derive(Clone, Debug)]
pub struct ConsoleHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    taken: Condvar,
    wake: EventFd,
}

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<u8>,
    size: (u16, u16),
    gone: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when it was written 2^64 - 2 times.
        let _ = self.wake.write(1);
    }
}

impl Console {
    /// A console that shows what the guest writes on `output`.
    ///
    /// # Errors
    /// The host has no descriptor for it.
    pub fn new(output: impl Write + Send + 'static) -> io::Result<(Console, ConsoleHandle)> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            taken: Condvar::new(),
            wake: EventFd::new(EFD_NONBLOCK)?,
        });
        let console = Console {
            output: Box::new(output),
            shared: shared.clone(),
            told: (0, 0),
        };
        Ok((console, ConsoleHandle(shared)))
    }

    /// Gives the guest what was typed, as far as it has room for it.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<(), Violation> {
        let mut state = self.shared.state();
        let mut pushed = false;
        while !state.pending.is_empty() {
            let Some(mut chain) = context.pop(RECEIVE)? else {
                // Asks to hear of room, and looks once more.
                if context.notifications(RECEIVE, true)? {
                    continue;
                }
                break;
            };
            let written = chain.writable.write(state.pending.make_contiguous());
            if written == 0 {
                return Err(Violation::Request {
                    queue: RECEIVE,
                    what: "a buffer for input that cannot be written",
                });
            }
            state.pending.drain(..written);
            context.push(RECEIVE, chain.head, written)?;
            pushed = true;
        }
        self.shared.taken.notify_all();
        match pushed {
            true => context.notify(RECEIVE),
            false => Ok(()),
        }
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Result<(), Violation> {
        let output = &mut self.output;
        let mut bytes = [0; 4096];
        context.drain(TRANSMIT, |mut chain| {
            while chain.readable.bytes() > 0 {
                let count = chain.readable.read(&mut bytes);
                // A terminal that went away loses what is written, as a cable that was pulled does.
                let _ = output.write_all(&bytes[..count]);
            }
            Ok(Some(0))
        })?;
        let _ = self.output.flush();
        Ok(())
    }
}

impl VirtioDevice for Console {
    fn kind(&self) -> Kind {
        Kind {
            id: VIRTIO_ID_CONSOLE,
            name: "console",
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        // A driver fills the first with pages at its start.
        &[32, 256]
    }

    fn features(&self) -> u64 {
        1 << F_SIZE
    }

    fn config(&self) -> Vec<u8> {
        let (columns, rows) = self.shared.state().size;
        [columns.to_le_bytes(), rows.to_le_bytes()].concat()
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.shared.wake.as_raw_fd()]
    }

    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation> {
        match event {
            Event::Queue(TRANSMIT) => self.transmit(context),
            Event::Queue(_) => self.receive(context),
            Event::Source(_) => {
                // Fails when nobody wrote, as when the device begins.
                let _ = self.shared.wake.read();
                let size = self.shared.state().size;
                if size != self.told {
                    self.told = size;
                    context.configuration_changed();
                }
                self.receive(context)
            }
        }
    }

    fn reset(&mut self) {
        self.told = (0, 0);
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.shared.state().gone = true;
        self.shared.taken.notify_all();
    }
}

impl ConsoleHandle {
    /// Types. What the guest does not take yet waits, up to 64 KiB; beyond that, the caller does.
    ///
    /// # Errors
    /// `BrokenPipe` when the console is gone.
    pub fn input(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let state = self.0.state();
            let full = |state: &mut State| state.pending.len() >= PENDING_MAX && !state.gone;
            let waited = self.0.taken.wait_while(state, full);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = PENDING_MAX - state.pending.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            state.pending.extend(now);
            bytes = later;
            drop(state);
            self.0.wake();
        }
        Ok(())
    }

    /// Says how large the terminal is from now on.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.0.state().size = (columns, rows);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Streams;
    use crate::memory::Gpa;
    use crate::virtio::driver::Driver;

    fn console() -> (Driver, ConsoleHandle, Arc<Mutex<Vec<u8>>>) {
        let (streams, shown) = Streams::captured();
        let (console, handle) = Console::new(streams.output).unwrap();
        (Driver::running(console, 0), handle, shown)
    }

    #[test]
    fn what_the_guest_writes_is_shown() {
        let (mut driver, _handle, shown) = console();
        let long = vec![b'x'; 10_000];
        driver.request(TRANSMIT, &[b"one ", b"line"], &[]);
        driver.request(TRANSMIT, &[&long], &[]);
        let shown = shown.lock().unwrap();
        assert_eq!(&shown[..8], b"one line");
        assert_eq!(shown[8..], long);
    }

    #[test]
    fn what_is_typed_waits_for_room_and_arrives_in_order() {
        let (mut driver, handle, _) = console();
        handle.input(b"typed ahead").unwrap();
        driver.transport.serve(Event::Source(0));
        for expected in [&b"type"[..], b"d ah", b"ead"] {
            let places = driver.put(RECEIVE, &[], &[4]);
            driver.notify(RECEIVE);
            let (_, written) = driver.used(RECEIVE).unwrap();
            let mut bytes = vec![0; written as usize];
            driver.memory.read(Gpa(places[0]), &mut bytes).unwrap();
            assert_eq!(bytes, expected);
        }
        // Room first, and then something to fill it.
        driver.put(RECEIVE, &[], &[4]);
        driver.notify(RECEIVE);
        assert_eq!(driver.used(RECEIVE), None);
        handle.input(b"!").unwrap();
        driver.transport.serve(Event::Source(0));
        assert_eq!(driver.used(RECEIVE), Some((0, 1)));
    }

    #[test]
    fn a_new_size_is_told_once() {
        let (driver, handle, _) = console();
        let generation = || driver.transport.read(0xfc, crate::trap::Width::Double);
        let before = generation();
        handle.resize(132, 43);
        driver.transport.serve(Event::Source(0));
        driver.transport.serve(Event::Source(0));
        assert_eq!(generation(), before + 1);
        let size = driver.transport.read(0x100, crate::trap::Width::Double);
        assert_eq!(size, 43 << 16 | 132);
    }

    #[test]
    fn typing_at_a_console_that_is_gone_ends() {
        let (driver, handle, _) = console();
        handle.input(&vec![0; PENDING_MAX]).unwrap();
        let typist = std::thread::spawn(move || handle.input(b"one more"));
        drop(driver);
        let error = typist.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_buffer_for_input_must_be_writable() {
        let (mut driver, handle, _) = console();
        driver.put(RECEIVE, &[b"no"], &[]);
        handle.input(b"x").unwrap();
        driver.notify(RECEIVE);
        assert!(matches!(
            driver.judged(),
            Some(Violation::Request { queue: RECEIVE, .. })
        ));
    }
}

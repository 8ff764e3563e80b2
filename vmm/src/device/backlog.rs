//! Output that does not keep a processor waiting: a vCPU leaves its bytes here, and a thread carries
//! them on.
//!
//! A serial port hands over one byte an exit. To write each where it goes would be a system call an
//! exit, on the vCPU's time; the thread takes them together, as they have come in a millisecond.
//! Who writes faster than the thread can carry waits when the room is full, and so does the guest.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How much may wait.
const ROOM_BYTES: usize = 64 << 10;
/// How long bytes are gathered.
const GATHERING: Duration = Duration::from_millis(1);
/// How often who waits looks whether the process is asked to end.
const PATIENCE: Duration = Duration::from_millis(10);

/// The writing end. Clones share it; [`finish`](Self::finish) waits until all is written.
#[derive(Clone)]
pub struct Backlog(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether to give up: a signal asks the process to end, say, and nobody reads any more.
    gives_up: fn() -> bool,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// The thread writes what it has taken.
    busy: bool,
    /// Nobody writes here any more.
    closed: bool,
    /// The output broke: bytes are lost, as on a cable that was pulled.
    broken: bool,
}

impl Backlog {
    /// A thread that writes to `output`, until the last clone of what is returned has gone. Who
    /// waits for it gives up when `gives_up` says so.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn new(output: impl Write + Send + 'static, gives_up: fn() -> bool) -> io::Result<Backlog> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            gives_up,
        });
        let of_thread = Carrier(shared.clone());
        thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || of_thread.carry(output))?;
        Ok(Backlog(shared))
    }

    /// Waits until all that was left here is written.
    pub fn finish(&self) {
        let mut state = self.0.lock();
        while (state.busy || !state.bytes.is_empty()) && !(self.0.gives_up)() {
            state = self.0.wait(state);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, PATIENCE);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Write for Backlog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        while state.bytes.len() >= ROOM_BYTES && !state.broken {
            if (self.0.gives_up)() {
                return Ok(bytes.len());
            }
            state = self.0.wait(state);
        }
        if !state.broken {
            state.bytes.extend(bytes);
            // A thread that is at work looks again by itself.
            if !state.busy {
                state.busy = true;
                self.0.changed.notify_all();
            }
        }
        Ok(bytes.len())
    }

    /// Does not wait: a serial port flushes each byte.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        // This one and the thread's.
        if Arc::strong_count(&self.0) <= 2 {
            self.finish();
            self.0.lock().closed = true;
            self.0.changed.notify_all();
        }
    }
}

struct Carrier(Arc<Shared>);

impl Carrier {
    fn carry(&self, mut output: impl Write) {
        let mut taken = Vec::new();
        let mut state = self.0.lock();
        loop {
            while !state.busy {
                if state.closed {
                    return;
                }
                state = self
                    .0
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            thread::sleep(GATHERING);
            taken.clear();
            taken.extend(self.0.lock().bytes.drain(..));
            let written = output.write_all(&taken).and_then(|()| output.flush());
            state = self.0.lock();
            state.broken |= written.is_err();
            state.busy = !state.bytes.is_empty();
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.0.extend_from_slice(bytes);
            kept.1 += 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_bytes_arrive_in_order_and_together() {
        let kept = Kept::default();
        let mut backlog = Backlog::new(kept.clone(), || false).unwrap();
        let bytes: Vec<u8> = (0..3 * ROOM_BYTES).map(|n| n as u8).collect();
        for byte in &bytes {
            backlog.write_all(std::slice::from_ref(byte)).unwrap();
        }
        backlog.finish();
        let kept = kept.0.lock().unwrap();
        assert!(kept.0 == bytes);
        assert!(kept.1 < bytes.len() / 4, "{} writes", kept.1);
    }

    #[test]
    fn the_last_writer_that_goes_leaves_nothing_behind() {
        let kept = Kept::default();
        let mut backlog = Backlog::new(kept.clone(), || false).unwrap();
        let clone = backlog.clone();
        backlog.write_all(b"last words").unwrap();
        drop(clone);
        drop(backlog);
        assert_eq!(kept.0.lock().unwrap().0, b"last words");
    }

    #[test]
    fn a_broken_output_keeps_nobody_waiting() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut backlog = Backlog::new(Broken, || false).unwrap();
        for _ in 0..4 {
            backlog.write_all(&[0; ROOM_BYTES]).unwrap();
        }
        backlog.finish();
    }
}

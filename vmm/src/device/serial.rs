//! The serial port (16550A): one byte, one exit, as full virtualization has it.

use super::Device;
use crate::trap::{Reply, Width};
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use vm_superio::Serial;
use vm_superio::Trigger;
use vm_superio::serial::NoEvents;

/// Nobody waits for the port's interrupt.
#[derive(Clone, Copy, Debug)]
struct NoInterrupt;

impl Trigger for NoInterrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A serial port whose line ends in `W`.
pub struct SerialPort<W: Write>(Serial<NoInterrupt, NoEvents, W>);

impl<W: Write> SerialPort<W> {
    /// A port that writes to `out`.
    pub fn new(out: W) -> Self {
        SerialPort(Serial::new(NoInterrupt, out))
    }
}

impl<W: Write + Send> Device for SerialPort<W> {
    fn read(&mut self, offset: u64, _: Width) -> Reply {
        Reply::Value(self.0.read(offset as u8).into())
    }

    fn write(&mut self, offset: u64, _: Width, value: u64) -> Reply {
        // A line that broke (a closed pipe, say) loses bytes, as a cable that was pulled does: a
        // serial port has no way to tell its guest.
        let _: Result<(), vm_superio::serial::Error<Infallible>> =
            self.0.write(offset as u8, value as u8);
        Reply::Resume
    }
}

/// An output that several devices share.
#[derive(Clone)]
pub struct SharedOutput(Arc<Mutex<dyn Write + Send>>);

impl SharedOutput {
    /// Shares `output`.
    pub fn new(output: impl Write + Send + 'static) -> SharedOutput {
        SharedOutput(Arc::new(Mutex::new(output)))
    }

    /// An output into a buffer, and that buffer.
    pub fn captured() -> (SharedOutput, Arc<Mutex<Vec<u8>>>) {
        let buffer = Arc::default();
        (SharedOutput(Arc::clone(&buffer) as _), buffer)
    }
}

impl Write for SharedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_odd_accesses_do_no_harm() {
        let mut bytes = Vec::new();
        let mut port = SerialPort::new(&mut bytes);
        for byte in b"ok" {
            assert_eq!(port.write(0, Width::Byte, (*byte).into()), Reply::Resume);
        }
        for offset in 0..8 {
            assert!(matches!(port.read(offset, Width::Double), Reply::Value(_)));
        }
        port.write(7, Width::Quad, u64::MAX);
        drop(port);
        assert_eq!(bytes, b"ok");
    }
}

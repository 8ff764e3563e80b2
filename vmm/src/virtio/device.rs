//! What makes a device: everything else is the same for all.

use super::{Context, Violation};
use std::os::fd::RawFd;

/// A type of device: its number (virtio 1.2, 5) and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The number by which a driver knows it.
    pub id: u32,
    /// Its name, for people.
    pub name: &'static str,
}

/// Why a device is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver put something into this queue.
    Queue(usize),
    /// Something happened at this one of [`VirtioDevice::sources`]. It is not told again before
    /// something new happens.
    Source(usize),
}

/// A device behind a transport.
///
/// It is called by one thread at a time, never by one that runs a vCPU, and only while the driver
/// has it running. Right after that begins it is called for each queue and each source once.
pub trait VirtioDevice: Send {
    /// What it is.
    fn kind(&self) -> Kind;

    /// How long each of its queues can be: powers of two.
    fn queue_sizes(&self) -> &[u16];

    /// Its own features, beside those of the queues and the transport.
    fn features(&self) -> u64 {
        0
    }

    /// Its configuration, as the driver reads it.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The driver writes to its configuration.
    fn write_config(&mut self, _offset: usize, _bytes: &[u8]) {}

    /// Descriptors that wake it, each open as long as the device is.
    fn sources(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// Does what there is to do. What is wrong with a request that is well-formed it tells the
    /// driver in the request's own way.
    ///
    /// # Errors
    /// The rule that the driver broke. The device is not called again until it is reset.
    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation>;

    /// The driver starts over: forgets everything about it.
    fn reset(&mut self) {}
}

impl<D: VirtioDevice + ?Sized> VirtioDevice for Box<D> {
    fn kind(&self) -> Kind {
        (**self).kind()
    }

    fn queue_sizes(&self) -> &[u16] {
        (**self).queue_sizes()
    }

    fn features(&self) -> u64 {
        (**self).features()
    }

    fn config(&self) -> Vec<u8> {
        (**self).config()
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        (**self).write_config(offset, bytes);
    }

    fn sources(&self) -> Vec<RawFd> {
        (**self).sources()
    }

    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation> {
        (**self).serve(event, context)
    }

    fn reset(&mut self) {
        (**self).reset();
    }
}

//! How a device reaches its driver: an interrupt, and a register that says what for.

use crate::device::Interrupt;
use std::sync::atomic::{AtomicU32, Ordering};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

/// A device's interrupt, with what its registers say about it.
#[derive(Debug)]
pub(super) struct Line {
    /// Why it was raised (4.2.2, `InterruptStatus`).
    pub status: AtomicU32,
    /// How often the configuration changed.
    pub generation: AtomicU32,
    interrupt: Interrupt,
}

impl Line {
    pub fn new(interrupt: Interrupt) -> Line {
        Line {
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            interrupt,
        }
    }

    /// "There is something in a used ring."
    pub fn used(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// "The configuration, or the status, has changed."
    pub fn changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    fn raise(&self, why: u32) {
        self.status.fetch_or(why, Ordering::SeqCst);
        self.interrupt.raise();
    }
}

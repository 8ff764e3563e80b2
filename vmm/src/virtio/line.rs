//! How a device reaches its driver: an interrupt, and a register that says what for.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

/// A device's interrupt, with what its registers say about it.
pub(super) struct Line {
    /// Why it was raised (4.2.2, `InterruptStatus`).
    pub status: AtomicU32,
    /// How often the configuration changed.
    pub generation: AtomicU32,
    raise: Box<dyn Fn() + Send + Sync>,
}

impl Line {
    pub fn new(raise: impl Fn() + Send + Sync + 'static) -> Line {
        Line {
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            raise: Box::new(raise),
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
        (self.raise)();
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("status", &self.status)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

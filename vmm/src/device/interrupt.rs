//! How a device is heard: a line from it to an interrupt controller.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use vm_superio::Trigger;

/// A device's interrupt line. What is at its other end, a device does not know: a pin of the
/// [I/O APIC](super::io_apic), an event file that a kernel listens to, or a test that counts.
///
/// Lines here are edge-triggered: each call is one interrupt, and there is no level to hold.
#[derive(Clone)]
pub struct Interrupt(Arc<dyn Fn() + Send + Sync>);

impl Interrupt {
    /// A line whose other end is `raise`, which any thread may call.
    pub fn new(raise: impl Fn() + Send + Sync + 'static) -> Interrupt {
        Interrupt(Arc::new(raise))
    }

    /// A line that ends in the air.
    pub fn unconnected() -> Interrupt {
        Interrupt::new(|| ())
    }

    /// Interrupts the guest.
    pub fn raise(&self) {
        (self.0)();
    }
}

impl Trigger for Interrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.raise();
        Ok(())
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

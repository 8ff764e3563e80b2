//! virtio: *paravirtual* devices, which know that they are virtual (virtio 1.2, OASIS).
//!
//! A device as hardware has it costs an exit for each register that its driver touches. A virtio
//! device has few registers, used to set it up; its work lies in *queues* in guest memory, which
//! both sides read and write without any exit. What is left is one exit (or, with an `ioeventfd`,
//! none) to say "there is something in the queue", and one interrupt to say "it is done":
//!
//! ```text
//!   guest                     guest memory                       VMM
//!   driver  ── buffers ─────▶ descriptors, available ring ─────▶ device's own thread
//!           ── notify ── register, or ioeventfd ── eventfd ────▶   reads, writes, serves
//!           ◀─ interrupt ── a message ───────────────────────────  used ring
//! ```
//!
//! | Part | Is |
//! |---|---|
//! | [`Chain`] | one request: the buffers that a chain of descriptors names, checked |
//! | [`Context`] | what a device works with: queues, memory, the interrupt line |
//! | [`VirtioDevice`] | what a device is: a type, features, a configuration, and how it serves |
//! | [`Transport`] | the registers (MMIO, 4.2), the driver's state machine, negotiation |
//! | [`Mmio`] | the transport on the bus, with the thread that works for it |
//! | [`Violation`] | how a driver can lie; it costs it the device, until it is reset |

mod balloon;
mod block;
mod chain;
mod console;
mod context;
mod device;
mod line;
mod mmio;
mod net;
mod rng;
mod transport;
mod violation;
mod vsock;

#[cfg(test)]
mod driver;
#[cfg(test)]
mod tests;

pub use balloon::{BalloonHandle, VirtioBalloon};
pub use block::{Block, CopyOnWrite, DiskError, DiskFailure, DiskOperation, Medium, Raw};
pub use chain::{Buffers, Chain};
pub use console::{Console, ConsoleHandle};
pub use context::Context;
pub use device::{Event, Kind, VirtioDevice};
pub use mmio::Mmio;
pub use net::{Net, NetError};
pub use rng::Rng;
pub use transport::{Complain, Life, Transport};
pub use violation::{Broken, Violation};
pub use vsock::{HOST_CID, Vsock, VsockError};

//! Devices: what stands behind ports and memory-mapped registers.
//!
//! A device is a pure structure, generic over where its output goes, so that a test gives it a
//! `Vec<u8>`. It sees offsets into its own range, never the machine.

mod backlog;
mod bare;
mod bus;
mod console;
mod debug_exit;
mod hypercall;
mod i8042;
mod interrupt;
pub mod io_apic;
pub mod linux;
mod power;
mod rtc;
mod serial;

pub use backlog::Backlog;
pub use bus::{Bus, Buses, Device, Overlap};
pub use console::{Console, Keys};
pub use debug_exit::DebugExit;
pub(crate) use hypercall::ring_pieces;
pub use hypercall::{Hypercalls, Streams};
pub use i8042::I8042;
pub use interrupt::Interrupt;
pub use io_apic::IoApic;
pub use power::Power;
pub use rtc::Rtc;
pub use serial::{SerialPort, SharedOutput};

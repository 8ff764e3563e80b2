//! Guest memory: the addresses, the regions, the slots.

pub mod address;
mod guest;
pub mod size;

pub use address::{Gpa, Gva, Hpa, Hva, PAGE_BYTES};
pub use guest::{GuestMemory, MemoryError};

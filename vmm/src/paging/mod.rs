//! Page tables: the guest's own, the two levels together, and the shadow of both.
//!
//! It works over [`PhysicalMemory`], and has no KVM in it.

mod memory;

pub use memory::{PhysicalMemory, VecMemory};

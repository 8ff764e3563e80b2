//! Guest memory: the addresses, the regions, the slots.

pub mod address;

pub use address::{Gpa, Gva, Hpa, Hva, PAGE_BYTES};

//! vmm

pub mod memory;
pub mod paging;

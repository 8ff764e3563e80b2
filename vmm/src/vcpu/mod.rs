//! The virtual processor's state: how it enters long mode, and the loop that runs it.

pub mod cpuid;
pub mod long_mode;

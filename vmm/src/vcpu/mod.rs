//! The virtual processor's state: how it enters long mode, the loop that runs it, and the handle by
//! which others pause and stop it.

pub mod control;
pub mod cpuid;
pub mod features;
pub mod linux;
pub mod long_mode;
pub(crate) mod run;
pub mod template;

//! One file a command.

pub mod explain;
pub mod failure;
pub mod run;
pub mod vm;

pub use failure::Failure;

//! One file a command.

pub mod compare;
pub mod container;
pub mod doctor;
pub mod explain;
pub mod failure;
pub mod gc;
pub mod kernel;
pub mod output;
pub mod run;
pub mod sysbench;
pub mod vm;
pub mod workload;

pub use failure::{ExitCode, Failure};

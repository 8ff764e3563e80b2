//! Traps: why a guest exits to its hypervisor, and what the hypervisor answers.
//!
//! *Trap and emulate:* the guest runs until it does something that only the hypervisor may do; the
//! processor exits; the hypervisor does it in the guest's place and resumes it. Here an [`Exit`] is
//! plain data and [`dispatch`] a function of it and a [`Bus`](crate::device::Bus), with no KVM in
//! it, so that a trap can be unit-tested, logged and replayed.

mod dispatch;
mod exit;
mod log;
mod observer;
pub mod recording;
mod report;
mod statistics;
mod width;

pub use dispatch::{Reply, Stop, dispatch};
pub use exit::{Exit, Reason};
pub use log::{Entry, TrapLog, trapped_instruction};
pub use observer::Observer;
pub use report::{Report, disassemble, named_registers, paging_of};
pub use statistics::{Statistics, Summary, Tally};
pub use width::Width;

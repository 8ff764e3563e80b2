//! Traps: why a guest exits to its hypervisor, and what the hypervisor answers.
//!
//! *Trap and emulate:* the guest runs until it does something that only the hypervisor may do; the
//! processor exits; the hypervisor does it in the guest's place and resumes it. Here an [`Exit`] is
//! plain data and [`dispatch`] a function of it and a [`Bus`](crate::device::Bus), with no KVM in
//! it, so that a trap can be unit-tested, logged and replayed.

mod dispatch;
mod exit;
mod observer;
mod report;
mod statistics;

pub use dispatch::{Reply, Stop, dispatch};
pub use exit::{Exit, Reason, Width};
pub use observer::Observer;
pub use report::{Report, disassemble};
pub use statistics::{Statistics, Summary};

//! Contenders, workloads, schedules, statistics and reports: what `ringside compare` is made of.

pub mod floor;
pub mod host;
pub mod peers;

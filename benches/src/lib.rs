//! Contenders, workloads, schedules, statistics and reports: what `ringside compare` is made of.

pub mod calibrate;
pub mod child;
pub mod clock;
pub mod compare;
pub mod contender;
pub mod doctor;
pub mod floor;
pub mod footprint;
pub mod host;
pub mod interrupt;
pub mod measure;
pub mod native;
pub mod peers;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod selection;
pub mod stats;
mod sys;
pub mod workload;

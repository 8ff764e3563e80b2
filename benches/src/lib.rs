//! Contenders, workloads, schedules, statistics and reports: what `ringside compare` is made of.
//!
//! *Which is better, and when?* The lecture's answer is an argument; this is the measurement.
//!
//! ```text
//!  contender  how to run something: a process, a container, a virtual machine     contender/
//!  workload   what to run, and which figures come out of it                        workload
//!      │
//!  schedule   every contender × workload once a round, in random order             schedule
//!      │
//!  measure    one run: a child process, listened to and never left behind   measure, child
//!      │
//!  stats      median, spread, bootstrap intervals, ratios                             stats
//!      │
//!  report     data with the host's label on it; as table, JSON, CSV                 report/
//! ```
//!
//! A peer joins with one more file in `contender/`, and everything else takes it as it comes. How
//! sure a comparison is comes out beside what it says:
//!
//! ```
//! use rand::SeedableRng;
//! use ringside_benches::stats;
//!
//! let native = [10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1];
//! let vm = [12.1, 11.8, 12.0, 12.3, 11.9, 12.0, 12.2];
//! let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let ratio = stats::ratio(&vm, &native, &mut random).unwrap();
//! assert!((ratio.value - 1.2).abs() < 0.01);
//! assert!(ratio.interval.low > 1.0, "the vm is slower, and that is no noise");
//! ```

pub mod calibrate;
pub mod child;
pub mod clock;
pub mod compare;
pub mod confine;
pub mod contender;
pub mod doctor;
pub mod floor;
pub mod footprint;
pub mod host;
pub mod interrupt;
pub mod linux;
pub mod measure;
pub mod native;
pub mod peers;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod selection;
pub mod stats;
mod sys;
pub mod sysbench;
pub mod workload;

//! A container runtime for teaching: namespaces, an overlay root and cgroups, put together step by step
//! from a plan that can be read before, while and after it happens.
//!
//! A container is an ordinary process that the kernel shows less of the machine, and lets use less:
//!
//! 1. A [`Config`] says what to run.
//! 2. [`plan`](plan::plan) turns it into [steps](plan::step::Step): data, with the system calls, why
//!    they are needed and which field asked for them.
//! 3. [`run`] takes the steps, passes signals to the command, waits, and leaves nothing behind.
//!
//! ```no_run
//! use ringside_container::{Config, run};
//!
//! let status = run(&Config::new(["sh", "-c", "hostname; echo $$; touch /gone; exit 3"]), &mut ())?;
//! assert_eq!(status.code(), 3);
//! # Ok::<(), ringside_container::Error>(())
//! ```
//!
//! What it would do can be read without doing it, by anybody:
//!
//! ```
//! use ringside_container::{Config, dry_run};
//!
//! let plan = dry_run(&Config::new(["true"]))?;
//! assert!(plan.to_string().contains("pivot_root"));
//! # Ok::<(), ringside_container::Error>(())
//! ```
//!
//! What keeps nobody from anything, such as a capability that no kernel knows, is told by the crate `log`
//! as a warning.
//!
//! The command sees the host's files and can change them all, but what it changes is a copy that goes
//! with it.

pub mod cgroup;
pub mod config;
pub mod error;
pub mod execute;
pub mod explain;
pub mod host;
pub mod mount;
pub mod namespace;
pub mod plan;
pub mod process;
mod run;
pub mod runtime;
pub mod spec;
mod start;
pub mod survey;
mod sys;

pub use config::{Config, Limits};
pub use error::{Error, NotExecuted};
pub use process::report::StepOutcome;
pub use process::status::ExitStatus;
pub use process::streams::Streams;
pub use run::{Container, Observer, dry_run, gc, run, spawn};
pub use sys::enter;

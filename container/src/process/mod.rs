//! The two processes that make a container, and the command: the runtime outside, init inside.
//!
//! ```text
//! runtime ──clone3──▶ init (PID 1) ──vfork, execve──▶ command
//!    ▲  signals ──────────▶ │ ───────────────────────────▶ │
//!    └── reports, status ── │ ◀── wait ─────────────────── │
//! ```
//!
//! Init is a copy of the runtime, not a program of its own: nothing has to be found, loaded or linked.

pub mod diagnose;
pub(crate) mod hear;
pub mod init;
pub mod plain;
pub mod report;
pub mod status;
pub(crate) mod steps;
pub mod streams;
pub mod supervise;

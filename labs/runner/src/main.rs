//! `cargo lab`: the lab course's runner and grader.
//!
//! It knows no lab. Every folder `labs/labNN-…` with a `[package.metadata.lab]` in its `Cargo.toml`
//! is one; the runner builds that one crate and starts its binary once a check.

mod class;
mod commands;
mod compile;
mod doctor;
mod gate;
mod grade;
mod handout;
mod hints;
mod measure;
mod process;
mod render;
mod state;
mod strip;
mod tree;
mod watch;
mod wrong;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}

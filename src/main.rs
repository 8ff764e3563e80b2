//! The command line: parses, calls a library, renders. No logic lives here.

mod commands;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Two isolation models in one ring: a KVM virtual machine and a container, built from scratch,
/// measured head to head.
#[derive(Parser)]
#[command(name = "ringside", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Compare(commands::compare::Args),
    Doctor(commands::doctor::Args),
    Run(commands::run::Args),
    Vm(commands::vm::Args),
    #[command(hide = true)]
    Workload(commands::workload::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Compare(args) => commands::compare::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Run(args) => commands::run::run(&args),
        Command::Vm(args) => commands::vm::run(&args),
        Command::Workload(args) => commands::workload::run(&args),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("ringside: {failure}");
        failure.exit_code()
    })
}

//! `ringside run`: one command, and one word that says how it is isolated.

use super::{Failure, vm};
use clap::ValueEnum;
use std::process::ExitCode;

/// Run a command natively, in a container or in a virtual machine
///
/// Standard streams, signals and the exit status pass through (128 + n after signal n). The
/// container sees this machine's files; nothing that it writes survives. In the virtual machine run
/// the embedded guest programs (`ringside vm list`).
#[derive(clap::Args)]
pub struct Args {
    /// How the command is isolated
    #[arg(long = "in", value_enum, default_value_t = Model::Native)]
    model: Model,
    #[command(flatten)]
    limits: LimitArgs,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// An isolation model.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// None: a plain process
    Native,
    /// Namespaces, cgroups, an overlay
    Container,
    /// A KVM virtual machine
    Vm,
}

/// Limits of every model.
#[derive(clap::Args)]
pub struct LimitArgs {
    /// Processors, such as 1 or 0.5
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Memory, such as 64M or 1G
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Processes and threads at most
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args.model {
        Model::Vm => vm::embedded(&args.command, args.limits.memory.as_deref()),
        Model::Native | Model::Container => Err(Failure::usage("not there yet")),
    }
}

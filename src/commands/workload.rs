//! `ringside workload`: the embedded work in the calling process.

use super::Failure;
use crate::commands::ExitCode;
use ringside_benches::native::Process;

/// Run an embedded piece of work in this process, as `compare` does natively and in a container
#[derive(clap::Args)]
pub struct Args {
    /// The work's name
    name: String,
    /// Its arguments: whole numbers
    arguments: Vec<String>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let arguments: Vec<&str> = args.arguments.iter().map(String::as_str).collect();
    let mut process = Process::default();
    ringside_benches::native::run(&args.name, &arguments, &mut process)
        .map_err(|error| Failure::usage(error.to_string()))?;
    process.finish()?;
    Ok(ExitCode::SUCCESS)
}

//! `ringside vm list`: the guest programs that are built in.

use crate::commands::ExitCode;
use crate::commands::{Failure, output::print};
use ringside_guest::PROGRAMS;
use serde_json::{Value, json};

/// List the embedded guest programs
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists them.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.json {
        let programs = PROGRAMS.iter();
        let each = programs.map(|program| json!({"name": program.name, "about": program.about}));
        print(format_args!("{:#}\n", each.collect::<Value>()))?;
        return Ok(ExitCode::SUCCESS);
    }
    for program in PROGRAMS {
        print(format_args!("{:<12} {}\n", program.name, program.about))?;
    }
    Ok(ExitCode::SUCCESS)
}

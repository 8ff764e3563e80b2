//! `ringside vm exits`: what a guest exited for, how often, and what that cost.

use super::{GuestArgs, ShareArgs, finish, statistics};
use crate::commands::ExitCode;
use crate::commands::{Failure, output::print};
use ringside_vmm::device::Streams;
use ringside_vmm::trap::Stop;
use ringside_vmm::vm::End;
use serde_json::json;

/// Run a guest quietly and show its exits, with how long each kind took to handle
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// Print JSON: counts, and times in nanoseconds
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let program = args.guest.program()?;
    let image = args.guest.image(&program)?;
    let _confined = args.share.enter()?;
    let (streams, _output) = Streams::captured();
    let mut vm = args.guest.machine(&image, streams)?;
    let outcome = vm.run(args.guest.limits()?).map_err(Failure::of_run)?;
    match args.json {
        true => {
            let mut value = statistics::json(&outcome.statistics);
            value["end"] = json!(outcome.end.to_string());
            print(format_args!("{value:#}\n"))?;
        }
        false => {
            print(statistics::table(&outcome.statistics))?;
            print(statistics::bars(&outcome.statistics))?;
        }
    }
    match outcome.end {
        // A limit that was asked for is how an endless guest is measured.
        End::TimeLimit(_) | End::ExitLimit(_) | End::Stopped(Stop::Exited(_)) => {
            Ok(ExitCode::SUCCESS)
        }
        _ => finish(&outcome),
    }
}

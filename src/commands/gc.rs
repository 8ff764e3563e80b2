//! `ringside gc`: removes what killed runs left behind.

use super::{Failure, output::print};
use crate::commands::ExitCode;

/// Remove what killed runs left behind
///
/// Whatever ends a run that is not `kill -9`, nothing of it remains. After `kill -9` its processes
/// and mounts go by themselves; its cgroups remain until the next run or this command.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_: &Args) -> Result<ExitCode, Failure> {
    let swept = ringside_container::gc()?;
    for path in &swept.removed {
        print(format_args!("removed {}\n", path.display()))?;
    }
    for path in &swept.occupied {
        print(format_args!("still in use: {}\n", path.display()))?;
    }
    if swept.removed.is_empty() && swept.occupied.is_empty() {
        print("nothing was left behind\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

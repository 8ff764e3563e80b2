//! `ringside container exec`: another command in a container that runs.

use super::super::{ExitCode, Failure};
use super::Name;
use ringside_container::runtime::exec::{self, Exec};
use std::path::PathBuf;

/// Run another command in a container
///
/// Standard streams, signals and the exit status pass through.
#[derive(clap::Args)]
pub struct Args {
    /// Give it a terminal: this one
    #[arg(short, long)]
    tty: bool,
    /// For those used to it: standard input is passed on anyway
    #[arg(short, long)]
    interactive: bool,
    /// Leave it to itself in the background
    #[arg(short, long, conflicts_with = "tty")]
    detach: bool,
    /// Set a variable of its environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Where it starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who it is, by numbers
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    #[command(flatten)]
    name: Name,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

/// Runs it.
pub fn run(root: PathBuf, args: &Args) -> Result<ExitCode, Failure> {
    let mut env = args.env.clone();
    // What draws on a terminal has to know which.
    if let (true, Ok(kind)) = (args.tty, std::env::var("TERM")) {
        env.insert(0, format!("TERM={kind}"));
    }
    let what = Exec {
        root,
        id: args.name.name.clone(),
        args: args.command.clone(),
        cwd: args.workdir.clone(),
        env,
        tty: args.tty,
        user: args.user.clone(),
        ..Exec::default()
    };
    if args.detach {
        exec::exec(&what, None, &mut ()).map_err(Failure::of_runtime)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ended = exec::exec_attached(&what, &mut ()).map_err(Failure::of_runtime)?;
    Ok(ExitCode::from(ended.code()))
}

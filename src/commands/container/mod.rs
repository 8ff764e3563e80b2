//! `ringside container`: containers that live on between commands, for people. It is the same runtime
//! as `ringside-oci`, with the same memory of what there is.

mod exec;
mod inspect;
mod list;
mod run;
mod usage;

use super::output::print;
use super::{ExitCode, Failure};
use clap::Subcommand;
use ringside_container::Limits;
use ringside_container::runtime::events::{self, Event};
use ringside_container::runtime::state::Status;
use ringside_container::runtime::{default_root, delete, kill, status};
use ringside_vmm::memory::size;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Containers that live on between commands
#[derive(clap::Args)]
pub struct Args {
    /// Where containers are remembered; as ringside-oci has it, unless told
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    /// List containers
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the processes of a container
    Ps(Name),
    Exec(exec::Args),
    /// Ask a container to end, and kill it if it does not
    Stop {
        #[command(flatten)]
        name: Name,
        /// Seconds until it is killed
        #[arg(long, default_value_t = 10)]
        time: u64,
    },
    /// Send a signal to a container's first process
    Kill {
        #[command(flatten)]
        name: Name,
        /// Which, by name or number
        #[arg(default_value = "KILL")]
        signal: String,
    },
    /// Remove a container
    Delete {
        #[command(flatten)]
        name: Name,
        /// Even if it runs
        #[arg(short, long)]
        force: bool,
    },
    /// Stop a container where it stands
    Pause(Name),
    /// Let a paused container go on
    Resume(Name),
    /// Change what a container may use
    Update {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Show a container as the kernel sees it, beside what its configuration asked for
    Inspect {
        #[command(flatten)]
        name: Name,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell what a container uses, every second, and when it runs out of memory
    Events(Name),
    /// Print what a container that runs in the background has written
    Logs(Name),
}

/// A container.
#[derive(clap::Args)]
struct Name {
    /// The container's name
    name: String,
}

/// What a container may use.
#[derive(clap::Args)]
struct LimitArgs {
    /// Share of contended processors, 1 to 10000, where everybody else has 100
    #[arg(long, value_name = "N")]
    cpu_weight: Option<u64>,
    /// Processor time a second, in processors, such as 1 or 0.5
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Memory, such as 64M or 1G
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Processes and threads at most
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
}

impl LimitArgs {
    fn limits(&self) -> Result<Limits, Failure> {
        let memory = self.memory.as_deref().map(size::parse).transpose();
        Ok(Limits {
            cpus: self.cpus,
            cpu_weight: self.cpu_weight,
            memory_bytes: memory.map_err(Failure::usage)?,
            pids: self.pids,
        })
    }
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let root = args.root.clone().unwrap_or_else(default_root);
    let done = |result: Result<(), ringside_container::runtime::Error>| {
        result?;
        Ok(ExitCode::SUCCESS)
    };
    match &args.command {
        Command::Run(args) => run::run(&root, args),
        Command::List { json } => list::containers(&root, *json),
        Command::Ps(it) => list::processes(&root, &it.name),
        Command::Exec(args) => exec::run(root, args),
        Command::Stop { name, time } => {
            done(kill::stop(&root, &name.name, Duration::from_secs(*time)))
        }
        Command::Kill { name, signal } => {
            let signal = kill::signal_number(signal).map_err(Failure::usage)?;
            done(kill::kill(&root, &name.name, signal, false))
        }
        Command::Delete { name, force } => {
            delete::delete(&root, &name.name, *force, &mut ())?;
            run::forget(&root, &name.name);
            Ok(ExitCode::SUCCESS)
        }
        Command::Pause(it) => done(status::pause(&root, &it.name)),
        Command::Resume(it) => done(status::resume(&root, &it.name)),
        Command::Update { name, limits } => {
            done(status::limit(&root, &name.name, &limits.limits()?))
        }
        Command::Inspect { name, json } => inspect::run(&root, &name.name, *json),
        Command::Events(it) => {
            let mut output = std::io::stdout().lock();
            let observe = &mut |event: Event| {
                let line = match event {
                    Event::Stats(stats) => usage::line(&stats),
                    Event::OutOfMemory => "out of memory".to_owned(),
                };
                writeln!(output, "{line}").is_ok()
            };
            done(events::watch(
                &root,
                &it.name,
                Duration::from_secs(1),
                observe,
            ))
        }
        Command::Logs(it) => {
            print(String::from_utf8_lossy(&run::log(&root, &it.name)?))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// How a status is painted.
fn paint(status: Status) -> anstyle::Style {
    use super::vm::style;
    match status {
        Status::Running => style::GOOD,
        Status::Paused | Status::Created | Status::Creating => style::NOTE,
        Status::Stopped => style::DIM,
    }
}

//! `ringside vm`: bare guests, by name or file.

use super::Failure;
use clap::Subcommand;
use ringside_guest::PROGRAMS;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::memory::size;
use ringside_vmm::sys::{kvm::Kvm, signal};
use ringside_vmm::trap::Stop;
use ringside_vmm::vm::{End, Limits, Outcome, Vm};
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

/// Virtual machines with bare guests
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(RunArgs),
    /// List the embedded guest programs
    List,
}

/// Run a guest program and show its exits
#[derive(clap::Args)]
struct RunArgs {
    /// An embedded program's name, or a file: a static ELF image or flat binary
    program: String,
    /// The program's arguments
    arguments: Vec<String>,
    /// Guest memory
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_MEMORY)]
    memory: String,
    /// End the guest after so many seconds
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<f64>,
    /// End the guest after so many exits
    #[arg(long, value_name = "N")]
    exit_limit: Option<u64>,
    /// Do not show the exits
    #[arg(long)]
    quiet: bool,
}

const DEFAULT_MEMORY: &str = "64M";

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Run(args) => run_program(args),
        Command::List => {
            for program in PROGRAMS {
                println!("{:<12} {}", program.name, program.about);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_program(args: &RunArgs) -> Result<ExitCode, Failure> {
    let file;
    let bytes = match ringside_guest::program(&args.program) {
        Some(program) => program.elf,
        None => {
            file = fs::read(&args.program).map_err(|error| Failure::usage(format!("`{}` is no embedded program (`ringside vm list` lists them) and no readable file: {error}", args.program)))?;
            &file
        }
    };
    let time = args
        .time_limit
        .map(Duration::try_from_secs_f64)
        .transpose()
        .map_err(Failure::usage)?;
    let limits = Limits {
        time,
        exits: args.exit_limit,
    };
    let arguments: Vec<&str> = args.arguments.iter().map(String::as_str).collect();
    let outcome = start(bytes, &arguments, &args.memory, limits)?;
    if !args.quiet {
        eprint_statistics(&outcome);
    }
    finish(&outcome)
}

/// Runs an embedded program: `run --in vm`.
pub fn embedded(
    command: &[&str],
    memory: Option<&str>,
    _cpus: Option<f64>,
) -> Result<ExitCode, Failure> {
    let [name, arguments @ ..] = command else {
        return Err(Failure::usage("no command"));
    };
    let Some(program) = ringside_guest::program(name) else {
        let names: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
        return Err(Failure::of_run(format!(
            "`{name}` cannot run in the virtual machine: without a Linux kernel it runs the embedded programs only: {}",
            names.join(", ")
        )));
    };
    let outcome = start(
        program.elf,
        arguments,
        memory.unwrap_or(DEFAULT_MEMORY),
        Limits::default(),
    )?;
    finish(&outcome)
}

fn start(
    program: &[u8],
    arguments: &[&str],
    memory: &str,
    limits: Limits,
) -> Result<Outcome, Failure> {
    let memory_bytes = size::parse(memory).map_err(Failure::usage)?;
    let image = Image::parse(program).map_err(Failure::of_run)?;
    let kvm = Kvm::open().map_err(Failure::of_run)?;
    signal::watch(&signal::ENDING).map_err(Failure::of_run)?;
    let mut vm = Vm::new(&kvm, memory_bytes, &image, arguments, Streams::inherit())
        .map_err(Failure::of_run)?;
    vm.run(limits).map_err(Failure::of_run)
}

/// The guest's status as ours; the report of a bad end.
fn finish(outcome: &Outcome) -> Result<ExitCode, Failure> {
    match outcome.end {
        End::Stopped(Stop::Exited(status)) => return Ok(ExitCode::from(status)),
        End::Signal(signal) => return Ok(ExitCode::from(128 + signal as u8)),
        end => eprintln!("ringside: {end}"),
    }
    if let Some(report) = &outcome.report {
        eprintln!("{report}");
    }
    Ok(ExitCode::FAILURE)
}

fn eprint_statistics(outcome: &Outcome) {
    let statistics = &outcome.statistics;
    eprintln!(
        "{:<16} {:>10} {:>12} {:>12} {:>12}",
        "exit", "count", "median ns", "p99 ns", "max ns"
    );
    for row in statistics.summaries() {
        eprintln!(
            "{:<16} {:>10} {:>12} {:>12} {:>12}",
            row.reason.name(),
            row.count,
            row.median_ns,
            row.p99_ns,
            row.max_ns
        );
    }
    eprintln!(
        "{} exits; in KVM and the guest {:.3} ms, in the VMM {:.3} ms",
        statistics.total(),
        statistics.in_kvm().as_secs_f64() * 1e3,
        statistics.in_vmm().as_secs_f64() * 1e3
    );
}

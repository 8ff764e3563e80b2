//! `ringside compare`: one workload, three isolation models.

use super::{Failure, output::print};
use crate::commands::ExitCode;
use ringside_benches::compare::{Plan, compare};
use ringside_benches::contender::{self, Tools};
use ringside_benches::floor::Floor;
use ringside_benches::host::{HostLabel, KvmLabel};
use ringside_benches::interrupt::Interrupt;
use ringside_benches::progress::Bar;
use ringside_benches::report::table::{self, Look};
use ringside_benches::report::{Report, csv, json};
use ringside_benches::{linux, selection, workload::WORKLOADS};
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Compare a plain process, a container and a virtual machine at the same work
///
/// Starts each of them again and again, in a new random order every round, and shows the median of
/// every figure with its 95 % confidence interval and its ratio to the plain process.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds that count; a warm-up comes before them [default: 20, or as many as fit in 45 s]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: Option<u32>,
    /// Only these workloads, such as start,primes
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Only these contenders, such as native,vm
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    contenders: Vec<String>,
    /// Decides the order of runs and the resampling [default: a new one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write the whole report as JSON (- is standard output, instead of the table)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the samples as CSV (- is standard output, instead of the table)
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// No progress bar and no table
    #[arg(long, short)]
    quiet: bool,
}

/// Rounds, and the time that they may take, when nobody asked for a number.
const RUNS: u32 = 20;
const TIME_LIMIT: Duration = Duration::from_secs(45);

/// This host can run none of what was asked for.
const SKIPPED: u8 = 77;

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let workloads = selection::workloads(&args.workloads, &WORKLOADS).map_err(Failure::usage)?;
    let contenders =
        selection::contenders(&args.contenders, contender::all()).map_err(Failure::usage)?;
    let to_stdout = |file: &Option<PathBuf>| file.as_deref() == Some(Path::new("-"));
    if to_stdout(&args.json) && to_stdout(&args.csv) {
        return Err(Failure::usage(
            "standard output takes either JSON or CSV; give one of them a file",
        ));
    }
    let plan = Plan {
        contenders,
        workloads,
        runs: args.runs.unwrap_or(RUNS),
        time_limit: args.runs.is_none().then_some(TIME_LIMIT),
        seed: args
            .seed
            .unwrap_or_else(ringside_benches::schedule::new_seed),
    };
    // Better to hear now than after all the measuring that a file cannot be written.
    for file in [&args.json, &args.csv].into_iter().flatten() {
        if file != Path::new("-") {
            let opened = OpenOptions::new().create(true).append(true).open(file);
            opened.map_err(|error| cannot_write(file, &error))?;
        }
    }
    // From here on Ctrl-C ends the comparison, not the process that has to clean up.
    let interrupt = Interrupt::on_signals()?;
    let host = HostLabel::read(KvmLabel::calibrated());
    let tools = Tools {
        ringside: env::current_exe()?,
        floor: Floor::extract(&env::temp_dir())?,
        kernel: linux::kernel_name(&host.kvm),
    };
    let bar = Bar::new(args.quiet);
    let report = compare(&plan, host, &tools, &interrupt, &mut |progress| {
        bar.show(progress);
    });
    drop((bar, tools));

    if let Some(file) = &args.json {
        write(file, &json::render(&report)?)?;
    }
    if let Some(file) = &args.csv {
        write(file, &csv::render(&report)?)?;
    }
    if !args.quiet && !to_stdout(&args.json) && !to_stdout(&args.csv) {
        let look = if io::stdout().is_terminal() {
            Look::Terminal
        } else {
            Look::Plain
        };
        write(Path::new("-"), &table::render(&report, look))?;
    }
    Ok(status(&report, &interrupt))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    if file == Path::new("-") {
        return print(text);
    }
    fs::write(file, text).map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot write {}: {error}", file.display()),
    )
}

fn status(report: &Report, interrupt: &Interrupt) -> ExitCode {
    if let Some(signal) = interrupt
        .signal()
        .and_then(|signal| u8::try_from(signal).ok())
    {
        return ExitCode::from(128 + signal);
    }
    if report.has_failures() {
        return ExitCode::FAILURE;
    }
    if report.is_empty() {
        return ExitCode::from(SKIPPED);
    }
    ExitCode::SUCCESS
}

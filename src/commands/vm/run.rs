//! `ringside vm run`: runs a guest, counts its exits, logs them, records them, replays them.

use super::{GuestArgs, finish, statistics};
use crate::commands::ExitCode;
use crate::commands::Failure;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::trap::recording::{Recorder, replay};
use ringside_vmm::trap::{Reply, TrapLog, paging_of, trapped_instruction};
use ringside_vmm::vm::Vm;
use rustc_demangle::demangle;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Run a guest program and show its exits
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    guest: GuestArgs,
    /// Show the statistics of exits at the end, on standard error (the default)
    #[arg(long, conflicts_with = "quiet")]
    stats: bool,
    /// Do not show them
    #[arg(long)]
    quiet: bool,
    /// Show the last N exits with their registers and instructions, on standard error
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20")]
    trace: Option<usize>,
    /// Save every exit to a file, to be replayed
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    record: Option<PathBuf>,
    /// Put the exits of a recording before the devices again, without KVM and without a guest
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trace", "record"])]
    replay: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.replay {
        Some(recording) => replay_file(recording, &args.guest.program),
        None => run_guest(args, &args.guest),
    }
}

fn run_guest(args: &Args, guest: &GuestArgs) -> Result<ExitCode, Failure> {
    let program = guest.program()?;
    let image = Image::parse(&program).map_err(Failure::of_run)?;
    let limits = guest.limits()?;
    let mut vm = guest.machine(&image, Streams::inherit())?;
    let outcome = if let Some(kept) = args.trace {
        let mut log = TrapLog::new(kept);
        let outcome = vm.run_observed(limits, &mut log).map_err(Failure::of_run)?;
        eprint!("{}", trace(&log, &vm, &image));
        outcome
    } else if let Some(path) = &args.record {
        let file = File::create(path).map_err(|error| in_file(path, &error))?;
        let mut recorder =
            Recorder::new(BufWriter::new(file), &guest.program, vm.memory().bytes())?;
        let outcome = vm.run_observed(limits, &mut recorder);
        recorder.finish().map_err(|error| in_file(path, &error))?;
        outcome.map_err(Failure::of_run)?
    } else {
        vm.run(limits).map_err(Failure::of_run)?
    };
    if !args.quiet {
        eprint!("{}", statistics::table(&outcome.statistics));
    }
    finish(&outcome)
}

fn in_file(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::usage(format!("cannot use {}: {error}", path.display()))
}

/// The log's exits, a line each: number, exit, answer, address with its symbol, instruction.
fn trace(log: &TrapLog, vm: &Vm, image: &Image<'_>) -> String {
    let paging = vm.system_registers().and_then(|system| paging_of(&system));
    let mut text = format!("{} exits, the last {}:\n", log.seen(), log.entries().len());
    for entry in log.entries() {
        let answer = match entry.reply {
            Some(Reply::Value(value)) => format!(" → {value:#x}"),
            Some(Reply::Stop(_)) => " → the end".to_owned(),
            Some(Reply::Unclaimed) => " → nobody answers".to_owned(),
            Some(Reply::Resume) | None => String::new(),
        };
        let instruction = paging
            .as_ref()
            .and_then(|paging| trapped_instruction(entry, paging, vm.memory()));
        let (rip, instruction) = instruction.unwrap_or((entry.registers.rip, "?".to_owned()));
        let place = match image.symbol_at(rip) {
            Some((name, offset)) => format!("{:#}+{offset:#x}", demangle(name)),
            None => String::new(),
        };
        let r = &entry.registers;
        text += &format!(
            "{:>6}  {}{answer}\n        {rip:#x} {place}  {instruction}\n        \
             rax {:#x}  rbx {:#x}  rcx {:#x}  rdx {:#x}  rsi {:#x}  rdi {:#x}  rsp {:#x}  rflags {:#x}\n",
            entry.number, entry.exit, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rflags
        );
    }
    text
}

fn replay_file(path: &Path, program: &str) -> Result<ExitCode, Failure> {
    let file = File::open(path).map_err(|error| in_file(path, &error))?;
    let replayed = replay(BufReader::new(file), program)?;
    std::io::stdout().write_all(&replayed.output)?;
    eprintln!("{} accesses, all answered as recorded", replayed.accesses);
    if let Some(stop) = replayed.stop {
        eprintln!("{stop}");
    }
    Ok(ExitCode::SUCCESS)
}

//! `ringside vm run`: runs a guest, counts its exits, logs them, records them, replays them.

use super::style::{self, BAD, CODE, DIM, HEADING};
use super::{GuestArgs, ShareArgs, finish, statistics, status};
use crate::commands::ExitCode;
use crate::commands::Failure;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::trap::recording::{Recorder, replay};
use ringside_vmm::trap::{Entry, Reply, TrapLog, named_registers, paging_of, trapped_instruction};
use ringside_vmm::vm::Vm;
use rustc_demangle::demangle;
use serde_json::{Value, json};
use std::collections::HashMap;
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
    /// Print the statistics and the trace as JSON, on standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    share: ShareArgs,
    /// Put the exits of a recording before the devices again, without KVM and without a guest
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trace", "record"])]
    replay: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.replay {
        Some(recording) => replay_file(recording, &args.guest.program, args.json),
        None => run_guest(args, &args.guest),
    }
}

fn run_guest(args: &Args, guest: &GuestArgs) -> Result<ExitCode, Failure> {
    let program = guest.program()?;
    let image = args.guest.image(&program)?;
    let limits = guest.limits()?;
    let _confined = args.share.enter()?;
    let mut vm = guest.machine(&image, Streams::inherit())?;
    let mut traced = None;
    let outcome = if let Some(kept) = args.trace {
        let mut log = TrapLog::new(kept);
        let outcome = vm.run_observed(limits, &mut log).map_err(Failure::of_run)?;
        traced = Some((log.seen(), trace(&log, &vm, &image)));
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
    if args.json {
        let mut value = statistics::json(&outcome.statistics);
        value["end"] = json!(outcome.end.to_string());
        value["report"] = json!(outcome.report.as_ref().map(ToString::to_string));
        value["trace"] = traced
            .iter()
            .flat_map(|(_, rows)| rows)
            .map(Row::json)
            .collect();
        eprintln!("{value:#}");
        return Ok(status(&outcome.end));
    }
    if let Some((seen, rows)) = traced {
        style::eprint(format_args!("{}", told(seen, &rows)));
    }
    if !args.quiet {
        style::eprint(statistics::table(&outcome.statistics));
    }
    finish(&outcome)
}

fn in_file(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::usage(format!("cannot use {}: {error}", path.display()))
}

/// One exit of the log: what it was, where, and by which instruction.
struct Row {
    entry: Entry,
    rip: u64,
    /// The symbol before it, and how far behind that it is.
    place: Option<String>,
    instruction: Option<String>,
}

fn trace(log: &TrapLog, vm: &Vm, image: &Image<'_>) -> Vec<Row> {
    let paging = vm.system_registers().and_then(|system| paging_of(&system));
    let row = |entry: &Entry| {
        let found = paging
            .as_ref()
            .and_then(|paging| trapped_instruction(entry, paging, vm.memory()));
        let (rip, instruction) = match found {
            Some((rip, instruction)) => (rip, Some(instruction)),
            None => (entry.registers.rip, None),
        };
        let symbol = image.symbol_at(rip);
        Row {
            entry: *entry,
            rip,
            place: symbol.map(|(name, offset)| format!("{:#}+{offset:#x}", demangle(name))),
            instruction,
        }
    };
    log.entries().map(row).collect()
}

/// The rows as text: number, exit and answer; address with its symbol, and instruction; registers.
fn told(seen: u64, rows: &[Row]) -> String {
    let seen = statistics::exits(seen);
    let mut text = format!("{HEADING}{seen}, the last {}:{HEADING:#}\n", rows.len());
    for row in rows {
        let answer = match row.entry.reply {
            Some(Reply::Value(value)) => format!(" → {value:#x}"),
            Some(Reply::Stop(_)) => " → the end".to_owned(),
            Some(Reply::Unclaimed) => format!(" → {BAD}nobody answers{BAD:#}"),
            Some(Reply::Resume) | None => String::new(),
        };
        let place = row.place.as_deref().unwrap_or_default();
        let instruction = row.instruction.as_deref().unwrap_or("?");
        let r = &row.entry.registers;
        text += &format!(
            "{:>6}  {}{answer}\n        {:#x} {place}  {CODE}{instruction}{CODE:#}\n        \
             {DIM}rax {:#x}  rbx {:#x}  rcx {:#x}  rdx {:#x}  rsi {:#x}  rdi {:#x}  rsp {:#x}  rflags {:#x}{DIM:#}\n",
            row.entry.number,
            row.entry.exit,
            row.rip,
            r.rax,
            r.rbx,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rsp,
            r.rflags
        );
    }
    text
}

impl Row {
    fn json(&self) -> Value {
        let registers = named_registers(&self.entry.registers);
        let registers = registers.map(|(name, value)| (name, format!("{value:#x}")));
        json!({
            "number": self.entry.number,
            "reason": self.entry.exit.reason().name(),
            "exit": self.entry.exit,
            "reply": self.entry.reply,
            "rip": format!("{:#x}", self.rip),
            "place": self.place,
            "instruction": self.instruction,
            "registers": HashMap::from(registers),
        })
    }
}

fn replay_file(path: &Path, program: &str, json: bool) -> Result<ExitCode, Failure> {
    let file = File::open(path).map_err(|error| in_file(path, &error))?;
    let replayed = replay(BufReader::new(file), program)?;
    std::io::stdout().write_all(&replayed.output)?;
    let end = replayed.stop.map(|stop| stop.to_string());
    if json {
        let value = json!({"accesses": replayed.accesses, "end": end});
        eprintln!("{value:#}");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} accesses, all answered as recorded", replayed.accesses);
    if let Some(end) = end {
        eprintln!("{end}");
    }
    Ok(ExitCode::SUCCESS)
}

//! `ringside vm`: bare guests, by name or file.

mod boot;
mod channels;
mod devices;
mod exits;
mod linux;
mod list;
mod map;
mod processor;
mod run;
mod share;
mod statistics;
pub mod style;
mod walk;

pub use linux::LinuxArgs;
pub use share::ShareArgs;

use super::Failure;
use crate::commands::ExitCode;
use clap::Subcommand;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::memory::size;
use ringside_vmm::sys::{kvm::Kvm, signal};
use ringside_vmm::trap::Stop;
use ringside_vmm::vm::{End, Limits, Outcome, Vm};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;
use style::BAD;

/// Virtual machines with bare guests
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Boot(boot::Args),
    Exits(exits::Args),
    Channels(channels::Args),
    Walk(walk::WalkArgs),
    Translate(walk::TranslateArgs),
    Map(map::Args),
    Update(share::UpdateArgs),
    List(list::Args),
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Run(args) => run::run(args),
        Command::Boot(args) => boot::run(args),
        Command::Exits(args) => exits::run(args),
        Command::Channels(args) => channels::run(args),
        Command::Walk(args) => walk::walk(args),
        Command::Translate(args) => walk::translate(args),
        Command::Map(args) => map::run(args),
        Command::Update(args) => share::update(args),
        Command::List(args) => list::run(args),
    }
}

/// Guest memory where nothing else is asked for.
const DEFAULT_MEMORY: &str = "64M";

/// A guest that has run so long is not one that only starts.
const SETTLED: Duration = Duration::from_millis(50);

/// Which guest, and how far it may go.
#[derive(clap::Args)]
struct GuestArgs {
    /// An embedded program's name, or a file: a static ELF image or flat binary
    program: String,
    /// The program's arguments
    arguments: Vec<String>,
    /// Guest memory
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_MEMORY)]
    memory: String,
    /// Virtual processors, 1 to 8; as many as the program asks for unless told
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// End the guest after so many seconds
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<f64>,
    /// End the guest after so many exits
    #[arg(long, value_name = "N")]
    exit_limit: Option<u64>,
}

impl GuestArgs {
    /// The program's bytes.
    fn program(&self) -> Result<Cow<'static, [u8]>, Failure> {
        program(&self.program)
    }

    /// The program as it is to run.
    fn image<'p>(&self, program: &'p [u8]) -> Result<Image<'p>, Failure> {
        let mut image = Image::parse(program).map_err(Failure::of_run)?;
        if let Some(vcpus) = self.vcpus {
            image.needs.processors = vcpus;
        }
        Ok(image)
    }

    fn limits(&self) -> Result<Limits, Failure> {
        let time = self.time_limit.map(Duration::try_from_secs_f64);
        Ok(Limits {
            time: time.transpose().map_err(Failure::usage)?,
            exits: self.exit_limit,
        })
    }

    fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    fn memory_bytes(&self) -> Result<u64, Failure> {
        size::parse(&self.memory).map_err(Failure::usage)
    }

    /// A machine with the guest at its first instruction.
    fn machine(&self, image: &Image<'_>, streams: Streams) -> Result<Vm, Failure> {
        machine(self.memory_bytes()?, image, &self.arguments(), streams)
    }
}

/// An embedded program's bytes, or a file's.
fn program(name: &str) -> Result<Cow<'static, [u8]>, Failure> {
    if let Some(program) = ringside_guest::program(name) {
        return Ok(Cow::Borrowed(program.elf));
    }
    let read = fs::read(name);
    read.map(Cow::Owned).map_err(|error| {
        Failure::usage(format!(
            "`{name}` is no embedded program (`ringside vm list` lists them) and no readable file: {error}"
        ))
    })
}

/// A machine that a signal to this process ends.
fn machine(
    memory_bytes: u64,
    image: &Image<'_>,
    arguments: &[&str],
    streams: Streams,
) -> Result<Vm, Failure> {
    let kvm = Kvm::open().map_err(Failure::of_run)?;
    signal::watch(&signal::ENDING).map_err(Failure::of_run)?;
    let vm = Vm::new(&kvm, memory_bytes, image, arguments, streams);
    let mut vm = vm.map_err(Failure::of_run)?;
    vm.settle_after(SETTLED);
    Ok(vm)
}

/// Runs `run --in vm`'s command: an embedded program's name is a bare guest, anything else a program of
/// this host in a Linux guest.
pub fn command(
    command: &[OsString],
    memory: Option<&str>,
    share: &ShareArgs,
    linux: &LinuxArgs,
) -> Result<ExitCode, Failure> {
    let name = command.first().and_then(|name| name.to_str());
    match name.and_then(ringside_guest::program) {
        Some(_) if linux.is_used() => Err(Failure::usage(format!(
            "`{}` is a guest program that is built in, without a kernel: leave out --kernel, --console, --stamps, --cpu-template, --mask, --file and devices, or name a program of this host by its path",
            name.unwrap_or_default()
        ))),
        Some(program) => {
            let arguments: Option<Vec<&str>> =
                command[1..].iter().map(|word| word.to_str()).collect();
            let arguments = arguments
                .ok_or_else(|| Failure::usage("the command of a bare guest is not UTF-8"))?;
            embedded(program, &arguments, memory, share)
        }
        None => linux::run(command, memory, share, linux),
    }
}

fn embedded(
    program: &ringside_guest::Program,
    arguments: &[&str],
    memory: Option<&str>,
    share: &ShareArgs,
) -> Result<ExitCode, Failure> {
    let memory_bytes = size::parse(memory.unwrap_or(DEFAULT_MEMORY)).map_err(Failure::usage)?;
    // The machine's memory is a size, not a limit; its processor time is a limit on this process.
    let _confined = share.enter()?;
    let image = Image::parse(program.elf).map_err(Failure::of_run)?;
    let mut vm = machine(memory_bytes, &image, arguments, Streams::inherit())?;
    let outcome = vm.run(Limits::default()).map_err(Failure::of_run)?;
    finish(&outcome)
}

/// The guest's status as ours.
fn status(end: &End) -> ExitCode {
    match *end {
        End::Stopped(Stop::Exited(status)) => ExitCode::from(status),
        End::Stopped(Stop::Reset | Stop::PoweredOff) => ExitCode::SUCCESS,
        End::Signal(signal) => ExitCode::from(128 + signal as u8),
        _ => ExitCode::FAILURE,
    }
}

/// The same, with the report of a bad end.
fn finish(outcome: &Outcome) -> Result<ExitCode, Failure> {
    let end = &outcome.end;
    if !matches!(
        end,
        End::Stopped(Stop::Exited(_) | Stop::Reset | Stop::PoweredOff) | End::Signal(_)
    ) {
        style::eprint(format_args!("{BAD}ringside: {end}{BAD:#}\n"));
        if let Some(report) = &outcome.report {
            style::eprint(format_args!("{}\n", style::walk(report)));
        }
    }
    Ok(status(end))
}

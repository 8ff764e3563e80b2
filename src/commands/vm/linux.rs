//! `ringside run --in vm` of a program of this host: in a Linux guest.

use super::ShareArgs;
use super::devices::Devices;
use super::processor::ProcessorArgs;
use crate::commands::{ExitCode, Failure};
use ringside_benches::clock::monotonic_ns;
use ringside_benches::host::KvmLabel;
use ringside_benches::linux;
use ringside_linux::cache::{Cache, Ring0};
use ringside_linux::closure::{ClosureError, find_program};
use ringside_linux::guest::Command;
use ringside_linux::machine::{self, Ended, Machine};
use ringside_linux::session::Ending;
use ringside_vmm::memory::size;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Of a Linux guest only.
#[derive(clap::Args)]
#[group(skip)]
pub struct LinuxArgs {
    /// The kernel of a Linux guest: a name of `ringside kernel list`, or a file
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// Show what a Linux guest's kernel says, on standard error
    #[arg(long)]
    console: bool,
    /// Write to this file when a Linux guest's first instruction came, and when its user space:
    /// `entered_ns` and `ready_ns` of CLOCK_MONOTONIC
    #[arg(long, value_name = "FILE")]
    stamps: Option<PathBuf>,
    #[command(flatten)]
    processor: ProcessorArgs,
    /// Take this program, file or folder along into a Linux guest (more than once)
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    devices: Devices,
    /// The address of a Linux guest's first network card, such as 10.0.0.2/24
    #[arg(long, value_name = "ADDRESS/BITS", requires = "tap", value_parser = network)]
    address: Option<String>,
    /// Where a Linux guest sends what is for other networks
    #[arg(long, value_name = "ADDRESS", requires = "address")]
    gateway: Option<Ipv4Addr>,
}

/// An address with its network's bits, as it was given.
fn network(text: &str) -> Result<String, &'static str> {
    let is_one = text.split_once('/').is_some_and(|(address, bits)| {
        address.parse::<Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
    });
    match is_one {
        true => Ok(text.to_owned()),
        false => Err("give an IPv4 address and its network's bits, such as 10.0.0.2/24"),
    }
}

impl LinuxArgs {
    /// Whether anything is asked for that no bare guest has.
    pub fn is_used(&self) -> bool {
        self.kernel.is_some()
            || self.console
            || self.stamps.is_some()
            || self.processor.is_used()
            || !self.files.is_empty()
            || self.devices.any()
    }
}

/// Guest memory, where nobody asks for another size: preparing it costs the guest's kernel
/// instructions, which are dear where ring 0 is emulated.
const MEMORY: &str = "512M";
const MEMORY_EMULATED: &str = "128M";

/// Runs a command in a Linux guest, with this process's streams.
pub fn run(
    command: &[OsString],
    memory: Option<&str>,
    share: &ShareArgs,
    args: &LinuxArgs,
) -> Result<ExitCode, Failure> {
    let command = command_of(command, &args.files)?;
    let label = KvmLabel::calibrated();
    // Without KVM the machine itself says why.
    let ring0 = linux::ring0(&label).unwrap_or(Ring0::Native);
    let memory = memory.unwrap_or(match ring0 {
        Ring0::Native => MEMORY,
        Ring0::Emulated => MEMORY_EMULATED,
    });
    let cache = Cache::of_user().map_err(Failure::of_run)?;
    let kernel = match &args.kernel {
        Some(name) => cache.find(name).map_err(Failure::of_run)?,
        None => linux::kernel(&cache, ring0).map_err(Failure::of_run)?,
    };
    let machine = Machine {
        kernel,
        ring0,
        memory_bytes: size::parse(memory).map_err(Failure::usage)?,
        processors: share.cpus.map_or(1.0, f64::ceil).clamp(1.0, 255.0) as u8,
        masked: args.processor.masked(machine::template(ring0))?,
        console: args.console,
        address: args.address.clone(),
        gateway: args.gateway.map(|it| it.to_string()),
    };
    let devices = args.devices.open().map_err(Failure::in_run)?;
    let _confined = share.enter()?;
    let ended = machine::run(&machine, &command, devices).map_err(Failure::of_run)?;
    if let Some(path) = &args.stamps {
        write_stamps(path, &ended).map_err(|error| {
            Failure::of_run(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    match ended.ending {
        Ending::Failed { status, message } => Err(Failure::with_status(message, status)),
        Ending::Nonsense => Err(Failure::of_run(
            "the guest's init speaks another protocol; is this a kernel with an initramfs of its own?",
        )),
        ending => Ok(ExitCode::from(ending.code())),
    }
}

fn write_stamps(path: &Path, ended: &Ended) -> io::Result<()> {
    let mut text = String::new();
    for (name, stamp) in [("entered", Some(ended.entered)), ("ready", ended.ready)] {
        if let Some(stamp) = stamp {
            let ns = u128::from(monotonic_ns()) - stamp.elapsed().as_nanos();
            text += &format!("{name}_ns {ns}\n");
        }
    }
    fs::write(path, text)
}

/// The command as this process would execute it.
fn command_of(words: &[OsString], files: &[PathBuf]) -> Result<Command, Failure> {
    let find = |name: &std::ffi::OsStr| {
        find_program(name).map_err(|error| {
            let status = match error {
                ClosureError::NotFound { .. } => Failure::NOT_FOUND,
                _ => Failure::NOT_EXECUTABLE,
            };
            Failure::with_status(error, status)
        })
    };
    let first = words.first().ok_or_else(|| Failure::usage("no command"))?;
    // A name without a slash is a program on PATH, as it is for the command itself.
    let files = files.iter().map(|file| match file.exists() {
        true => Ok(std::path::absolute(file)?),
        false => find(file.as_os_str()),
    });
    Ok(Command {
        program: find(first)?,
        arguments: words.to_vec(),
        environment: env::vars_os()
            .map(|(name, value)| {
                let mut variable = name;
                variable.push("=");
                variable.push(value);
                variable
            })
            .collect(),
        directory: env::current_dir()?,
        terminal: None,
        files: files.collect::<Result<_, Failure>>()?,
    })
}

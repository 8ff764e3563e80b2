//! `ringside run`: one command, and one word that says how it is isolated.

use super::{Failure, explain, vm};
use crate::commands::ExitCode;
use clap::ValueEnum;
use ringside_container::{Config, Observer};
use ringside_vmm::memory::size;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Run a command natively, in a container or in a virtual machine
///
/// Standard streams, signals and the exit status pass through (128 + n after signal n; 127 if there
/// is no such command, 126 if it cannot be executed, 125 if ringside itself failed). The container
/// sees this machine's files; nothing that it writes survives. The virtual machine runs a program of
/// this machine on a Linux kernel (`ringside kernel`), with its libraries and what --file names, and
/// nothing that it writes survives; a name of `ringside vm list` without a slash runs as a guest of its
/// own, without a kernel.
#[derive(clap::Args)]
pub struct Args {
    /// How the command is isolated
    #[arg(long = "in", value_enum, value_name = "MODEL", default_value_t = Model::Native)]
    model: Model,
    #[command(flatten)]
    share: vm::ShareArgs,
    /// Memory, such as 64M or 1G: the container's limit, or the virtual machine's size
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Processes and threads at most
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
    #[command(flatten)]
    explain: explain::Args,
    #[command(flatten)]
    linux: vm::LinuxArgs,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// An isolation model.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Model {
    /// None: a plain process
    Native,
    /// Namespaces, cgroups and an overlay
    Container,
    /// A KVM virtual machine
    Vm,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args.model {
        Model::Native | Model::Container if args.linux.is_used() => Err(Failure::usage(
            "--kernel, --console, --stamps, --cpu-template, --mask, --file and devices are for a Linux guest; use --in vm, or leave them out",
        )),
        Model::Native => native(args),
        Model::Container => container(args),
        Model::Vm => machine(args),
    }
}

/// No isolation needs no supervisor: this process becomes the command.
fn native(args: &Args) -> Result<ExitCode, Failure> {
    let share = args.share.cpus.is_some() || args.share.cpu_weight.is_some();
    let explains = args.explain.explain.is_some();
    if share || args.memory.is_some() || args.pids.is_some() || explains {
        return Err(Failure::usage(
            "a native process is not limited and has no steps to explain; use --in container, or leave out --cpus, --cpu-weight, --memory, --pids and --explain",
        ));
    }
    let error = Command::new(&args.command[0])
        .args(&args.command[1..])
        .exec();
    let status = match error.kind() {
        ErrorKind::NotFound => Failure::NOT_FOUND,
        _ => Failure::NOT_EXECUTABLE,
    };
    Err(Failure::with_status(
        format!("cannot run {:?}: {error}", args.command[0]),
        status,
    ))
}

fn container(args: &Args) -> Result<ExitCode, Failure> {
    let mut config = Config::like_caller(args.command.iter().cloned());
    config.limits.cpus = args.share.cpus;
    config.limits.cpu_weight = args.share.cpu_weight;
    config.limits.memory_bytes = args
        .memory
        .as_deref()
        .map(size::parse)
        .transpose()
        .map_err(Failure::usage)?;
    config.limits.pids = args.pids;
    let mut narrator = args.explain.narrator();
    let observer: &mut dyn Observer = match args.explain.explain {
        None => &mut (),
        Some(explain::Explain::Run) => &mut narrator,
        Some(explain::Explain::Plan) => {
            let plan = ringside_container::dry_run(&config).map_err(Failure::of_container)?;
            args.explain.print(&plan)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let status = ringside_container::run(&config, observer).map_err(Failure::of_container)?;
    Ok(ExitCode::from(status.code() as u8))
}

fn machine(args: &Args) -> Result<ExitCode, Failure> {
    if args.pids.is_some() || args.explain.explain.is_some() {
        return Err(Failure::usage(
            "a virtual machine has no processes of the host's to limit (--pids) and no steps to explain (--explain)",
        ));
    }
    vm::command(
        &args.command,
        args.memory.as_deref(),
        &args.share,
        &args.linux,
    )
}

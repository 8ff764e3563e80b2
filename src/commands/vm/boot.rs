//! `ringside vm boot`: a Linux kernel, started to its end.

use super::devices::Devices;
use super::processor::ProcessorArgs;
use super::{SETTLED, ShareArgs, finish, statistics, style};
use crate::commands::ExitCode;
use crate::commands::Failure;
use ringside_linux::machine::tell_unpacking;
use ringside_vmm::boot::linux::{Kernel, KernelCache, Protocol};
use ringside_vmm::device::{Backlog, Console, Keys, Streams};
use ringside_vmm::linux::{Config, LinuxMachine, Software};
use ringside_vmm::memory::size;
use ringside_vmm::sys::{kvm::Kvm, signal, terminal::RawTerminal};
use ringside_vmm::vcpu::control::VmControl;
use ringside_vmm::vcpu::template;
use ringside_vmm::vm::{End, Limits};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Boot a Linux kernel, with its serial port on standard output
#[derive(clap::Args)]
pub struct Args {
    /// The kernel: a bzImage (vmlinuz) or an ELF vmlinux
    kernel: PathBuf,
    /// The first file system: a cpio archive
    #[arg(long, value_name = "FILE")]
    initramfs: Option<PathBuf>,
    /// The kernel's command line
    #[arg(
        long,
        value_name = "STR",
        default_value = "console=ttyS0 reboot=k panic=-1"
    )]
    cmdline: String,
    /// Guest memory
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    memory: String,
    /// How many processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u8,
    /// Enter the kernel in protected mode, as PVH has it, and not in long mode
    #[arg(long)]
    pvh: bool,
    #[command(flatten)]
    processor: ProcessorArgs,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    devices: Devices,
    /// End the guest after so many seconds
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<f64>,
    /// Give the guest what is typed: its terminal is this one, and Ctrl-A x leaves
    #[arg(long)]
    console: bool,
    /// Do not show the statistics of exits
    #[arg(long)]
    quiet: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = Config {
        memory_bytes: size::parse(&args.memory).map_err(Failure::usage)?,
        processors: args.vcpus,
        masked: args.processor.masked(template::HOST)?,
    };
    let time = args.time_limit.map(Duration::try_from_secs_f64);
    let limits = Limits {
        time: time.transpose().map_err(Failure::usage)?,
        exits: None,
    };
    let kernel = Kernel::open(&args.kernel, &KernelCache::of_user())?;
    tell_unpacking(&kernel, &args.kernel.display().to_string());
    let initramfs = args.initramfs.as_ref().map(|path| {
        let unreadable = |error| {
            Failure::usage(format!(
                "cannot read the initramfs {}: {error}",
                path.display()
            ))
        };
        File::open(path).map_err(unreadable)
    });
    let initramfs = initramfs.transpose()?;
    let _confined = args.share.enter()?;
    let kvm = Kvm::open()?;
    signal::watch(&signal::ENDING)?;
    let output = Backlog::new(Streams::inherit().output, || signal::requested().is_some())?;
    let mut machine = LinuxMachine::new(&kvm, &config, output.clone())?;
    args.devices.plug(&mut machine)?;
    let console = machine.console();
    let software = Software {
        initramfs: initramfs.as_ref(),
        protocol: match args.pvh {
            true => Protocol::Pvh,
            false => Protocol::Linux64,
        },
        ..Software::new(&kernel, &args.cmdline)
    };
    let mut vm = machine.boot(&software)?;
    vm.settle_after(SETTLED);
    let outcome = if args.console {
        let control = vm.control();
        let _terminal = RawTerminal::enter()?;
        thread::spawn(move || type_at(&console, &control));
        vm.run(limits)
    } else {
        vm.run(limits)
    };
    output.finish();
    let outcome = outcome?;
    if !args.quiet {
        style::eprint(statistics::table(&outcome.statistics));
    }
    match outcome.end {
        // By Ctrl-A x.
        End::Cancelled => Ok(ExitCode::SUCCESS),
        _ => finish(&outcome),
    }
}

/// Gives the guest what comes on standard input, until it ends or the person leaves.
fn type_at(console: &Console, control: &VmControl) {
    let mut keys = Keys::default();
    let mut input = Streams::inherit().input;
    let mut piece = [0; 4096];
    loop {
        let mut bytes = match input.read(&mut piece) {
            Ok(0) => return,
            Ok(len) => piece[..len].to_vec(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if keys.take(&mut bytes) {
            return control.stop();
        }
        let mut rest = &bytes[..];
        loop {
            rest = &rest[console.type_in(rest)..];
            if rest.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

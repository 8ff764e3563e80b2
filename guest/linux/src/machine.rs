//! A command of this host in a Linux guest, from packing to its exit status.
//!
//! ```text
//!   this process                          the guest
//!   stdin, stdout, stderr, signals ══ virtio console ══ init ══ the command
//!                                     virtio block   ── its files, read-only
//!   (kept, or --console)           ◀─ serial port    ── what the kernel says
//! ```

use crate::cache::{Kernel, Ring0};
use crate::guest::{Command, PackError, Wiring, initramfs};
use crate::session::{Ending, Listener, Session};
use crate::streams::{self, Forwarding, Terminal};
use ringside_vmm::boot::linux::{Kernel as Image, KernelCache, KernelError};
use ringside_vmm::linux::{Config, LinuxMachine, LinuxMachineError, Software};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::vcpu::control::VmControl;
use ringside_vmm::vcpu::features::Feature;
use ringside_vmm::vcpu::template::{self, Template};
use ringside_vmm::virtio::{Block, Console, DiskError, Kind, Raw as Disk, Violation, VirtioDevice};
use ringside_vmm::vm::{Limits, VmError};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Of the kernel's words, the last bytes that are kept to explain a guest that died.
const KEPT: usize = 2_000;

/// A guest that has run so long needs what only its set-up did no more.
const SETTLED: Duration = Duration::from_millis(50);

/// Why a command did not run to its end in a guest.
#[derive(Debug, Error)]
pub enum RunError {
    /// The kernel and the host do not fit.
    #[error(
        "the kernel {name} cannot run here: ring 0 of this host's KVM is emulated, and a stock kernel stops before its first program there; `ringside kernel build` makes one that runs"
    )]
    Emulated {
        /// The kernel.
        name: String,
    },
    /// No kernel.
    #[error(
        "a virtual machine that runs programs of this host needs a Linux kernel, and none is kept; {0}"
    )]
    NoKernel(&'static str),
    /// The command's files.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The kernel's file.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] LinuxMachineError),
    /// The image as a disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The run itself.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A descriptor or a thread of this process.
    #[error("cannot set up the guest's streams: {0}")]
    Streams(#[from] io::Error),
    /// The guest ended without a word about the command.
    #[error("the guest ended before its command did: {end}{console}")]
    Died {
        /// How it ended.
        end: String,
        /// The last that its kernel said, if anything.
        console: String,
    },
}

/// What to say where there is no kernel.
pub fn no_kernel(ring0: Ring0) -> RunError {
    RunError::NoKernel(match ring0 {
        Ring0::Native => {
            "`ringside kernel fetch` fetches one, `ringside kernel build` builds a smaller one"
        }
        Ring0::Emulated => "`ringside kernel build` builds one that runs on this host",
    })
}

/// The processor that suits a kernel there.
pub fn template(ring0: Ring0) -> Template {
    match ring0 {
        Ring0::Native => template::HOST,
        Ring0::Emulated => template::EMULATED_RING0,
    }
}

/// A machine for one command.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel.
    pub kernel: Kernel,
    /// How ring 0 runs here.
    pub ring0: Ring0,
    /// Guest memory.
    pub memory_bytes: u64,
    /// Processors.
    pub processors: u8,
    /// Features that the processors are not to have.
    pub masked: Vec<Feature>,
    /// Whether the kernel's own words go to standard error.
    pub console: bool,
    /// The address of its first network card with its network's bits, if there is a card.
    pub address: Option<String>,
    /// Who takes what is for other networks.
    pub gateway: Option<String>,
}

/// How a run ended, and how it came to user space.
#[derive(Debug)]
pub struct Ended {
    /// The command.
    pub ending: Ending,
    /// The guest's first instruction: up to here it was the VMM's part.
    pub entered: Instant,
    /// The guest's user space: up to here it was the kernel's part. A guest may have left it out.
    pub ready: Option<Instant>,
}

/// Runs the command with this process's streams, and with these devices beside its own: a disk is
/// `/dev/vdb`, for the first one holds the command.
///
/// # Errors
/// [`RunError`]; how the command itself ended is no error.
pub fn run(
    machine: &Machine,
    command: &Command,
    devices: Vec<Box<dyn VirtioDevice>>,
) -> Result<Ended, RunError> {
    if !machine.kernel.suits(machine.ring0) {
        return Err(RunError::Emulated {
            name: machine.kernel.name.clone(),
        });
    }
    let kvm = Kvm::open().map_err(VmError::from)?;
    let size = streams::terminal_size();
    let terminal = size.map(|_| Terminal::default());
    let command = Command {
        terminal: size,
        ..command.clone()
    };
    let files = command.image()?;
    let wiring = Wiring {
        channel: "/dev/hvc0",
        image: "/dev/vda",
        address: machine.address.as_deref(),
        gateway: machine.gateway.as_deref(),
    };
    let initramfs = initramfs(&machine.kernel, &command, wiring)?;
    let image = Image::open(&machine.kernel.image, &KernelCache::of_user())?;
    tell_unpacking(&image, &machine.kernel.name);

    let config = Config {
        memory_bytes: machine.memory_bytes,
        processors: machine.processors,
        masked: machine.masked.clone(),
    };
    let words = Words::new(machine.console);
    let mut linux = LinuxMachine::new(&kvm, &config, words.clone())?;
    let session = Session::default();
    let control: Arc<Mutex<Option<VmControl>>> = Arc::default();
    let stop = {
        let control = control.clone();
        move || {
            let control = control.lock().unwrap_or_else(PoisonError::into_inner);
            control.iter().for_each(|control| control.stop());
        }
    };
    let listener = Listener::new(&session, io::stdout(), io::stderr(), stop.clone());
    let (console, handle) = Console::new(listener)?;
    linux.plug(console, complain)?;
    let disk = PathBuf::from(format!("/proc/self/fd/{}", files.as_raw_fd()));
    linux.plug(Block::new(Disk::open(&disk, true)?, "ringside"), complain)?;
    for device in devices {
        linux.plug(device, complain)?;
    }

    let line = command_line(machine);
    let software = Software {
        initramfs: Some(&initramfs),
        ..Software::new(&image, &line)
    };
    let mut vm = linux.boot(&software)?;
    vm.settle_after(SETTLED);
    *control.lock().unwrap_or_else(PoisonError::into_inner) = Some(vm.control());
    let forwarding = Forwarding::begin(&session, &handle, stop)?;
    streams::carry_input(&session, &handle, terminal.as_ref());
    let entered = Instant::now();
    let outcome = vm.run(Limits::default());
    session.close();
    terminal.iter().for_each(Terminal::restore);
    drop(forwarding);
    let outcome = outcome?;
    let Some(ending) = session.ending() else {
        return Err(RunError::Died {
            end: outcome.end.to_string(),
            console: words.last(),
        });
    };
    Ok(Ended {
        ending,
        entered,
        ready: session.ready(),
    })
}

/// Tells of a start that is slower than the next one will be.
pub fn tell_unpacking(image: &Image, name: &str) {
    if let Some(unpacking) = image.unpacking() {
        let ms = unpacking.as_millis();
        eprintln!(
            "ringside: the first start of the kernel {name}: {ms} ms went into decompressing it"
        );
    }
}

/// What a device's driver did wrong, for people.
fn complain(kind: Kind, violation: Violation) {
    eprintln!("ringside: the guest's {} driver: {violation}", kind.name);
}

/// What the kernel is told. Little is said on a serial port where each byte is an exit, nothing is
/// measured that KVM tells, and a panic ends the machine at once. The kernel for an emulated ring 0 knows
/// the rest by itself: each of these words costs it thousands of instructions to read.
fn command_line(machine: &Machine) -> String {
    let mut line = String::from("console=ttyS0 reboot=k panic=-1");
    line.push_str(match machine.ring0 {
        Ring0::Native => {
            " nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=on audit=0"
        }
        Ring0::Emulated => " ring0=emulated",
    });
    if !machine.console {
        line.push_str(" quiet");
    }
    line
}

/// What the kernel says: shown, or its end kept.
#[derive(Clone)]
struct Words {
    kept: Arc<Mutex<Vec<u8>>>,
    shown: bool,
}

impl Words {
    fn new(shown: bool) -> Words {
        Words {
            kept: Arc::default(),
            shown,
        }
    }

    /// The last lines, if nobody has seen them.
    fn last(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let mut last = String::new();
        for line in text.lines().rev().take(12).collect::<Vec<_>>().iter().rev() {
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            if !line.is_empty() {
                let _ = write!(last, "\n  {line}");
            }
        }
        last
    }
}

impl Write for Words {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shown {
            let _ = io::stderr().write_all(bytes);
        } else {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(bytes);
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! A virtual machine, put together and run.

use crate::boot::bare::{self, BootError};
use crate::boot::image::Image;
use crate::device::{Buses, Streams};
use crate::memory::{GuestMemory, MemoryError};
use crate::sys::clock;
use crate::sys::kvm::{Kvm, Unavailable};
use crate::sys::vcpu::Vcpu;
use crate::sys::vm::{SetUpError, VmHandle};
use crate::trap::{Exit, Observer, Report, Statistics, Stop};
use crate::vcpu::control::VmControl;
use crate::vcpu::run::{Left, Run, Turns};
use crate::vcpu::{cpuid, long_mode};
use kvm_bindings::kvm_sregs;
use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};
use thiserror::Error;

/// What keeps a machine from being made or run. Whatever a *guest* does is no error but an
/// [`Outcome`].
#[derive(Debug, Error)]
pub enum VmError {
    /// No KVM here.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// KVM refused a step.
    #[error(transparent)]
    SetUp(#[from] SetUpError),
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The program, its arguments or the memory's size.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// `KVM_RUN` itself failed.
    #[error("KVM cannot run the guest: {0}")]
    Run(io::Error),
    /// No thread for another vCPU.
    #[error("cannot make a thread for a vCPU: {0}")]
    Thread(io::Error),
    /// No descriptors for the console that the program asks for.
    #[error("cannot make the guest's virtio console: {0}")]
    Console(io::Error),
    /// No timer for the time limit.
    #[error("cannot set a timer for the guest's time limit: {0}")]
    Timer(io::Error),
}

/// How far a guest may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time from its first instruction on.
    pub time: Option<Duration>,
    /// Exits.
    pub exits: Option<u64>,
}

/// What an access means that no device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// The guest's end: a bare guest knows its devices, so that anything else is a bug in it, and
    /// better shown.
    Ends,
    /// A bus that floats, as in a PC: reads give all ones, and writes are lost. Linux finds out so
    /// what there is.
    Floats,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By something that it did.
    Stopped(Stop),
    /// It ran longer than allowed.
    TimeLimit(Duration),
    /// It exited more often than allowed.
    ExitLimit(u64),
    /// Another thread stopped it ([`VmControl::stop`]).
    Cancelled,
    /// This signal asked the process to end ([`watch`](crate::sys::signal::watch)).
    Signal(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Stopped(stop) => stop.fmt(f),
            End::TimeLimit(limit) => write!(
                f,
                "the guest ran into its time limit of {} s",
                limit.as_secs_f64()
            ),
            End::ExitLimit(limit) => write!(f, "the guest ran into its limit of {limit} exits"),
            End::Cancelled => f.write_str("the machine was stopped"),
            End::Signal(signal) => write!(f, "signal {signal} ended the guest"),
        }
    }
}

/// A guest's end, with what led to it.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Its exits.
    pub statistics: Statistics,
    /// What it was doing, unless it ended itself.
    pub report: Option<Report>,
}

/// A virtual machine with a guest in it.
///
/// ```
/// use ringside_vmm::{boot::Image, device::Streams, sys::kvm::Kvm, trap::Stop, vm::{End, Limits, Vm}};
///
/// let Ok(kvm) = Kvm::open() else { return Ok(()) };
/// // mov al, 7; out 0xf4, al
/// let image = Image::flat(&[0xb0, 7, 0xe6, 0xf4])?;
/// let mut vm = Vm::new(&kvm, 8 << 20, &image, &[], Streams::captured().0)?;
/// let outcome = vm.run(Limits::default())?;
/// assert_eq!(outcome.end, End::Stopped(Stop::Exited(7)));
/// assert_eq!(outcome.statistics.total(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Vm {
    // Field order is drop order.
    vcpus: Vec<Vcpu>,
    handle: VmHandle,
    memory: GuestMemory,
    buses: Buses,
    unclaimed: Unclaimed,
    control: VmControl,
    settled: Option<Duration>,
}

impl Vm {
    /// A machine of `memory_bytes` with a program at its first instruction, and with as many vCPUs
    /// and interrupt controllers as the program's image asks for
    /// ([`Needs`](ringside_abi::needs::Needs)): most want one vCPU and no controller, so that `hlt`
    /// is an exit.
    ///
    /// # Errors
    /// What KVM, the host's memory or the program forbids.
    pub fn new(
        kvm: &Kvm,
        memory_bytes: u64,
        image: &Image<'_>,
        arguments: &[&str],
        streams: Streams,
    ) -> Result<Vm, VmError> {
        let memory = GuestMemory::new(memory_bytes)?;
        let entry = bare::load(&memory, image, arguments)?;
        Vm::with_memory(kvm, memory, entry, streams)
    }

    /// A machine whose memory is loaded already: by [`bare::load`], or a copy of an image
    /// ([`MemoryImage`](crate::memory::MemoryImage)) of memory that was.
    ///
    /// # Errors
    /// What KVM forbids.
    pub fn with_memory(
        kvm: &Kvm,
        memory: GuestMemory,
        entry: bare::Entry,
        streams: Streams,
    ) -> Result<Vm, VmError> {
        let needs = entry.needs;
        let handle = VmHandle::create(kvm, &memory, needs.interrupts)?;
        let vcpus = (0..needs.processors).map(|index| {
            let vcpu = handle.create_vcpu(index.into())?;
            vcpu.set_cpuid(&cpuid::baseline(index, needs))?;
            long_mode::enter(&vcpu, entry, index)?;
            Ok(vcpu)
        });
        let vcpus = vcpus.collect::<Result<_, SetUpError>>()?;
        let buses = match needs.console {
            true => Buses::bare_with_console(&memory, streams).map_err(VmError::Console)?,
            false => Buses::bare(&memory, streams),
        };
        Ok(Vm::assemble(vcpus, handle, memory, buses, Unclaimed::Ends))
    }

    /// A machine of parts, whose first vCPU stands at its first instruction.
    pub(crate) fn assemble(
        vcpus: Vec<Vcpu>,
        handle: VmHandle,
        memory: GuestMemory,
        buses: Buses,
        unclaimed: Unclaimed,
    ) -> Vm {
        Vm {
            vcpus,
            handle,
            memory,
            buses,
            unclaimed,
            settled: None,
            control: VmControl::default(),
        }
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The first vCPU's system registers, while it does not run; `None` if KVM does not give them.
    pub fn system_registers(&self) -> Option<kvm_sregs> {
        self.vcpus.first()?.system_registers().ok()
    }

    /// The machine as KVM knows it: its slots and the log of written pages.
    pub fn machine(&self) -> &VmHandle {
        &self.handle
    }

    /// Has the process let go of its own code and constants once the guest has run for `time`
    /// ([`forget_set_up`](crate::sys::code::forget_set_up)): for a process that is one machine and nothing
    /// else.
    pub fn settle_after(&mut self, time: Duration) {
        self.settled = Some(time);
    }

    /// The handle by which other threads pause and stop this machine.
    pub fn control(&self) -> VmControl {
        self.control.clone()
    }

    /// Runs the guest to its end or its limits. Its first vCPU runs on the calling thread, and each
    /// further one on a thread of its own; what ends one ends all, but for `hlt`, which ends the
    /// machine when all have halted.
    ///
    /// # Errors
    /// A failure of the host; nothing that a guest does.
    pub fn run(&mut self, limits: Limits) -> Result<Outcome, VmError> {
        self.run_observed(limits, &mut ())
    }

    /// As [`run`](Self::run), with somebody who watches each exit.
    ///
    /// # Errors
    /// As of [`run`](Self::run).
    pub fn run_observed<O: Observer + Send>(
        &mut self,
        limits: Limits,
        observer: &mut O,
    ) -> Result<Outcome, VmError> {
        let run = Run {
            buses: &self.buses,
            unclaimed: self.unclaimed,
            memory: &self.memory,
            limits,
            settled: self.settled,
            control: &self.control,
            vcpus: self.vcpus.len(),
            exits: AtomicU64::new(0),
            start: Instant::now(),
        };
        let ticks = clock::ticks();
        run.control.begin(run.vcpus);
        let (left, mut statistics) = match &mut self.vcpus[..] {
            [only] => run.vcpu(only, observer),
            vcpus => run_side_by_side(&run, vcpus, observer),
        };
        statistics.calibrate(clock::ticks().saturating_sub(ticks), run.start.elapsed());
        match left? {
            Left::Ended(end, report) => Ok(Outcome {
                end,
                statistics,
                report: report.map(|report| *report),
            }),
            Left::Halted | Left::Asked => unreachable!("some vCPU was the last"),
        }
    }
}

/// Runs each vCPU on its own thread, the first on this one. The end is the one that came first.
fn run_side_by_side<O: Observer + Send>(
    run: &Run<'_>,
    vcpus: &mut [Vcpu],
    observer: &mut O,
) -> (Result<Left, VmError>, Statistics) {
    let mut all = Statistics::default();
    let observer = Mutex::new(observer);
    let alone = |vcpu: &mut Vcpu| run.vcpu(vcpu, &mut Turns::new(&observer));
    let (first, others) = vcpus.split_first_mut().expect("a machine has a vCPU");
    let mut all_left = thread::scope(|scope| {
        let mut threads = Vec::new();
        for vcpu in others {
            let builder = thread::Builder::new().name("vcpu".to_owned());
            match builder.spawn_scoped(scope, || alone(vcpu)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    run.control.end();
                    while !run.control.gone_but(run.vcpus - threads.len()) {}
                    return vec![(Err(VmError::Thread(error)), Statistics::default())];
                }
            }
        }
        let mut all_left = vec![alone(first)];
        // A vCPU that halted leaves this thread to look after signals and time, which the other
        // threads see for themselves once they are kicked.
        while !run.control.gone_but(0) {
            if run.asked_to_end(Exit::Interrupted).is_some() {
                run.control.kick();
            }
        }
        all_left.extend(threads.into_iter().map(|thread| match thread.join() {
            Ok(left) => left,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        all_left
    });
    for (_, statistics) in &all_left {
        all.add(statistics);
    }
    let decides = |left: &Result<Left, VmError>| !matches!(left, Ok(Left::Halted | Left::Asked));
    let first = all_left.iter().position(|(left, _)| decides(left));
    let (left, _) = all_left.swap_remove(first.unwrap_or(0));
    (left, all)
}

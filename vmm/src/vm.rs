//! A virtual machine, put together and run.

use crate::boot::bare::{self, BootError};
use crate::boot::image::Image;
use crate::device::{Buses, Streams};
use crate::memory::{GuestMemory, MemoryError};
use crate::sys::kvm::{Kvm, Unavailable};
use crate::sys::signal::{self, Alarm};
use crate::sys::vcpu::Vcpu;
use crate::sys::vm::{SetUpError, VmHandle};
use crate::trap::{Exit, Observer, Reply, Report, Statistics, Stop, dispatch};
use crate::vcpu::{cpuid, long_mode};
use kvm_bindings::{kvm_regs, kvm_sregs};
use std::fmt;
use std::io;
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

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By something that it did.
    Stopped(Stop),
    /// It ran longer than allowed.
    TimeLimit(Duration),
    /// It exited more often than allowed.
    ExitLimit(u64),
    /// This signal asked the process to end ([`signal::watch`]).
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

/// A virtual machine with one vCPU and a bare guest in it.
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
    vcpu: Vcpu,
    handle: VmHandle,
    memory: GuestMemory,
    buses: Buses,
}

impl Vm {
    /// A machine of `memory_bytes` with a program at its first instruction.
    ///
    /// No interrupt controller: a bare guest's `hlt` is an exit, and setting one up would cost more
    /// than all the rest. Memory slots come before the vCPU, for KVM makes them faster in that order.
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
        let handle = VmHandle::new(kvm, &memory)?;
        let vcpu = handle.create_vcpu(0)?;
        vcpu.set_cpuid(&cpuid::baseline())?;
        long_mode::enter(&vcpu, entry)?;
        Ok(Vm {
            vcpu,
            handle,
            buses: Buses::bare(&memory, streams),
            memory,
        })
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The vCPU's system registers, while it does not run; `None` if KVM does not give them.
    pub fn system_registers(&self) -> Option<kvm_sregs> {
        self.vcpu.system_registers().ok()
    }

    /// The machine as KVM knows it: its slots and the log of written pages.
    pub fn machine(&self) -> &VmHandle {
        &self.handle
    }

    /// Runs the guest to its end or its limits, on the calling thread.
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
    pub fn run_observed<O: Observer>(
        &mut self,
        limits: Limits,
        observer: &mut O,
    ) -> Result<Outcome, VmError> {
        self.vcpu.sync_registers(O::WANTS_REGISTERS);
        let mut statistics = Statistics::default();
        let _interruptible = self.vcpu.interruptible();
        let start = Instant::now();
        let deadline = limits.time.and_then(|time| start.checked_add(time));
        let _alarm = limits
            .time
            .map(Alarm::after)
            .transpose()
            .map_err(VmError::Timer)?;
        let mut resumed = start;
        loop {
            if let Some(signal) = signal::requested() {
                return Ok(self.outcome(End::Signal(signal), Exit::Interrupted, statistics));
            }
            let exit = self.vcpu.run().map_err(VmError::Run)?;
            let exited = Instant::now();
            let stop = self.handle(exit, observer);
            let handled = Instant::now();
            statistics.record(exit.reason(), exited - resumed, handled - exited);
            resumed = handled;
            if let Some(stop) = stop {
                return Ok(self.outcome(End::Stopped(stop), exit, statistics));
            }
            if let (Some(deadline), Some(time)) = (deadline, limits.time)
                && handled >= deadline
            {
                return Ok(self.outcome(End::TimeLimit(time), exit, statistics));
            }
            if let Some(limit) = limits.exits
                && statistics.total() >= limit
            {
                return Ok(self.outcome(End::ExitLimit(limit), exit, statistics));
            }
        }
    }

    /// Handles one exit; says why the guest does not go on, if so.
    fn handle<O: Observer>(&mut self, exit: Exit, observer: &mut O) -> Option<Stop> {
        match exit {
            Exit::IoString { count, .. } => (0..count).find_map(|index| {
                let element = self.vcpu.string_element(exit, index)?;
                self.apply(element, index, observer)
            }),
            Exit::Interrupted => {
                self.vcpu.clear_interruption();
                None
            }
            exit => self.apply(exit, 0, observer),
        }
    }

    fn apply<O: Observer>(&mut self, exit: Exit, index: u32, observer: &mut O) -> Option<Stop> {
        if O::WANTS_REGISTERS {
            observer.exited(exit, &self.vcpu.synced_registers(), &self.memory);
        } else {
            observer.exited(exit, &kvm_regs::default(), &self.memory);
        }
        let reply = dispatch(exit, &self.buses);
        observer.handled(exit, reply, &self.memory);
        match reply {
            Reply::Resume => None,
            Reply::Value(value) => {
                self.vcpu.answer(exit, index, value);
                None
            }
            // A bare guest knows its devices: anything else is a bug in it, and better shown.
            Reply::Unclaimed => Some(Stop::Unclaimed(exit)),
            Reply::Stop(stop) => Some(stop),
        }
    }

    fn outcome(&self, end: End, exit: Exit, statistics: Statistics) -> Outcome {
        let rip = match end {
            End::Stopped(Stop::GuestFault { rip, .. }) => Some(rip),
            _ => None,
        };
        let report = match end {
            End::Stopped(Stop::Exited(_)) => None,
            _ => Report::capture(&self.vcpu, &self.memory, exit, rip),
        };
        Outcome {
            end,
            statistics,
            report,
        }
    }
}

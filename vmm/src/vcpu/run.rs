//! The run loop of one vCPU: enter the guest, take its exit, answer it, count it.

use super::control::{VmControl, Wanted};
use crate::device::Buses;
use crate::memory::GuestMemory;
use crate::sys::signal::{self, Alarm};
use crate::sys::vcpu::Vcpu;
use crate::sys::{clock, code};
use crate::trap::{Exit, Observer, Reply, Report, Statistics, Stop, Tally, dispatch};
use crate::vm::{End, Limits, Unclaimed, VmError};
use kvm_bindings::kvm_regs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the vCPUs of a running machine have in common.
pub(crate) struct Run<'a> {
    pub buses: &'a Buses,
    pub unclaimed: Unclaimed,
    pub memory: &'a GuestMemory,
    pub limits: Limits,
    pub control: &'a VmControl,
    /// When the guest began.
    pub start: Instant,
    /// After which time the guest runs, and what only its set-up needed is let go of.
    pub settled: Option<Duration>,
    /// How many vCPUs run.
    pub vcpus: usize,
    /// Exits of all of them, where they are limited and several.
    pub exits: AtomicU64,
}

/// How one vCPU's loop ended.
#[derive(Debug)]
pub(crate) enum Left {
    /// It ended the machine.
    Ended(End, Option<Box<Report>>),
    /// It halted, and others go on.
    Halted,
    /// Another one ended the machine.
    Asked,
}

impl Run<'_> {
    /// Runs a vCPU until it or another ends the machine; how that was, and its exits.
    pub(crate) fn vcpu<O: Observer>(
        &self,
        vcpu: &mut Vcpu,
        observer: &mut O,
    ) -> (Result<Left, VmError>, Statistics) {
        let mut tally = Tally::default();
        vcpu.sync_registers(O::WANTS_REGISTERS);
        // In this order, for a kick before there is a handler would end the process.
        let _interruptible = vcpu.interruptible();
        let entered = self.control.enter();
        let alarm = self.limits.time.map(Alarm::after).transpose();
        let settling = self.settled.map(Alarm::after).transpose();
        let left = match (alarm, settling) {
            (Ok(_alarm), Ok(settling)) => {
                self.cycle(vcpu, observer, &mut tally, settling, || entered.pause())
            }
            (Err(error), _) | (_, Err(error)) => Err(VmError::Timer(error)),
        };
        let left = match left {
            // The first one's end is the machine's.
            Ok(Left::Ended(..)) | Err(_) if self.vcpus > 1 && !self.control.end() => {
                Ok(Left::Asked)
            }
            left => left,
        };
        (left, tally.finish())
    }

    fn cycle<O: Observer>(
        &self,
        vcpu: &mut Vcpu,
        observer: &mut O,
        tally: &mut Tally,
        mut settling: Option<Alarm>,
        pause: impl Fn(),
    ) -> Result<Left, VmError> {
        let mut exits = 0;
        let mut exit = Exit::Interrupted;
        let mut resumed = clock::ticks();
        loop {
            // Asked by signals: the kick that carries the question is an exit of its own.
            if let Some(end) = self.asked_to_end(exit) {
                return Ok(self.ended(end, vcpu, exit));
            }
            match self.control.wanted() {
                Wanted::Run => {}
                Wanted::Stop => return Ok(self.ended(End::Cancelled, vcpu, exit)),
                Wanted::Leave => return Ok(Left::Asked),
                Wanted::Pause => {
                    pause();
                    resumed = clock::ticks();
                    continue;
                }
            }
            exit = vcpu.run().map_err(VmError::Run)?;
            // No exit of the guest's, and not counted as one.
            if exit == Exit::Interrupted && settling.take().is_some() {
                code::forget_set_up();
                vcpu.clear_interruption();
                resumed = clock::ticks();
                continue;
            }
            let exited = clock::ticks();
            let stop = self.handle(vcpu, exit, observer);
            let handled = clock::ticks();
            // Counters of two processors can differ by a few ticks.
            tally.record(
                exit.reason(),
                exited.saturating_sub(resumed),
                handled.saturating_sub(exited),
            );
            resumed = handled;
            match stop {
                None => {}
                Some(Stop::Halted) if self.vcpus > 1 && !self.control.halted() => {
                    return Ok(Left::Halted);
                }
                Some(stop) => return Ok(self.ended(End::Stopped(stop), vcpu, exit)),
            }
            if let Some(limit) = self.limits.exits {
                exits += 1;
                let of_all = match self.vcpus {
                    1 => exits,
                    _ => self.exits.fetch_add(1, Ordering::Relaxed) + 1,
                };
                if of_all >= limit {
                    return Ok(self.ended(End::ExitLimit(limit), vcpu, exit));
                }
            }
        }
    }

    /// Whether a signal or the time asks the machine to end. The clock is read only after an
    /// interruption, for when the time is over an alarm comes, and comes again.
    pub(crate) fn asked_to_end(&self, exit: Exit) -> Option<End> {
        if let Some(signal) = signal::requested() {
            return Some(End::Signal(signal));
        }
        let time = self.limits.time.filter(|_| exit == Exit::Interrupted)?;
        (self.start.elapsed() >= time).then_some(End::TimeLimit(time))
    }

    fn ended(&self, end: End, vcpu: &Vcpu, exit: Exit) -> Left {
        let rip = match end {
            End::Stopped(Stop::GuestFault { rip, .. }) => Some(rip),
            _ => None,
        };
        let report = match end {
            End::Stopped(Stop::Exited(_)) => None,
            _ => Report::capture(vcpu, self.memory, exit, rip).map(Box::new),
        };
        Left::Ended(end, report)
    }

    /// Handles one exit; says why the guest does not go on, if so.
    fn handle<O: Observer>(&self, vcpu: &mut Vcpu, exit: Exit, observer: &mut O) -> Option<Stop> {
        match exit {
            Exit::IoString { count, .. } => (0..count).find_map(|index| {
                let element = vcpu.string_element(exit, index)?;
                self.apply(vcpu, element, index, observer)
            }),
            Exit::Interrupted => {
                vcpu.clear_interruption();
                None
            }
            exit => self.apply(vcpu, exit, 0, observer),
        }
    }

    fn apply<O: Observer>(
        &self,
        vcpu: &mut Vcpu,
        exit: Exit,
        index: u32,
        observer: &mut O,
    ) -> Option<Stop> {
        if O::WANTS_REGISTERS {
            observer.exited(exit, &vcpu.synced_registers(), self.memory);
        } else {
            observer.exited(exit, &kvm_regs::default(), self.memory);
        }
        let reply = dispatch(exit, self.buses);
        observer.handled(exit, reply, self.memory);
        match reply {
            Reply::Resume => None,
            Reply::Value(value) => {
                vcpu.answer(exit, index, value);
                None
            }
            Reply::Unclaimed if self.unclaimed == Unclaimed::Floats => {
                // Ignored by exits that want no answer.
                vcpu.answer(exit, index, u64::MAX);
                None
            }
            Reply::Unclaimed => Some(Stop::Unclaimed(exit)),
            Reply::Stop(stop) => Some(stop),
        }
    }
}

/// One observer for several vCPUs: it sees their exits one after the other, each with what was done
/// about it, so that an observed machine handles one exit at a time.
pub(crate) struct Turns<'a, O> {
    observer: &'a Mutex<O>,
    turn: Option<MutexGuard<'a, O>>,
}

impl<'a, O> Turns<'a, O> {
    pub(crate) fn new(observer: &'a Mutex<O>) -> Turns<'a, O> {
        Turns {
            observer,
            turn: None,
        }
    }
}

impl<O: Observer> Observer for Turns<'_, O> {
    const WANTS_REGISTERS: bool = O::WANTS_REGISTERS;

    fn exited(&mut self, exit: Exit, registers: &kvm_regs, memory: &GuestMemory) {
        let turn = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn.insert(turn).exited(exit, registers, memory);
    }

    fn handled(&mut self, exit: Exit, reply: Reply, memory: &GuestMemory) {
        if let Some(mut turn) = self.turn.take() {
            turn.handled(exit, reply, memory);
        }
    }
}

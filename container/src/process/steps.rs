//! Init's half of a plan: its steps in order, each reported to whoever listens, and what to say when one
//! fails. Runs in a copy of the runtime's memory, and does not allocate.

use std::os::fd::BorrowedFd;

use nix::sys::time::TimeSpec;

use super::diagnose::diagnose;
use super::report::Report;
use crate::execute::{Kernel, perform};
use crate::plan::Plan;
use crate::plan::step::Actor;
use crate::sys::{Program, SpawnError};

/// A process that takes init's steps.
pub trait Init: Kernel {
    /// Who is to hear of steps and failures now.
    fn listener(&self) -> BorrowedFd<'_>;

    /// Whether they want to hear of every step, or only of a failure.
    fn tells_steps(&self) -> bool;

    /// The program at the end of the plan.
    fn program(&self) -> &Program;

    /// Why it could not be executed, if that is what made a step fail.
    fn not_executed(&self) -> Option<SpawnError>;

    /// Whether another process takes the rest of them.
    fn is_replaced(&self) -> bool {
        false
    }
}

/// Takes the steps from the one with the index `first` on. `false` when one has failed, which has been
/// told.
pub fn take(init: &mut impl Init, plan: &Plan, first: usize) -> bool {
    for (index, step) in plan.steps_of(Actor::Init).enumerate().skip(first) {
        let index = index as u16;
        let before = init.tells_steps().then(now);
        match perform(init, step) {
            Ok(outcome) if init.tells_steps() => {
                let nanoseconds = before.map_or(0, |before| now().saturating_sub(before));
                Report::Step {
                    step: index,
                    outcome,
                    nanoseconds,
                }
                .send(init.listener());
            }
            Ok(_) => {}
            Err((call, errno)) => {
                let report = match init.not_executed() {
                    Some(failure) => explain(init.program(), failure),
                    None => Report::Failed {
                        step: index,
                        call,
                        errno,
                    },
                };
                report.send(init.listener());
                return false;
            }
        }
        if init.is_replaced() {
            return true;
        }
    }
    true
}

/// Monotonic time in nanoseconds; without a system call.
fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .unwrap_or(TimeSpec::new(0, 0));
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

fn explain(program: &Program, failure: SpawnError) -> Report {
    match program.candidates().get(failure.candidate) {
        Some(path) => Report::NotExecuted {
            candidate: failure.candidate as u16,
            errno: failure.errno,
            diagnosis: diagnose(path, failure.errno),
        },
        None => Report::Failed {
            step: u16::MAX,
            call: 0,
            errno: failure.errno,
        },
    }
}

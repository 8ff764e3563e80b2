//! Takes the steps of a plan. The kernel is behind one seam, [`Kernel`], so that a test can record the
//! calls, or refuse one, without a container coming to be.

use std::time::Instant;

use nix::errno::Errno;

use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::step::{Actor, Otherwise, Step};
use crate::process::report::StepOutcome;
use crate::run::Observer;

/// Whoever makes system calls.
pub trait Kernel {
    /// Makes one.
    ///
    /// # Errors
    /// The kernel's.
    fn call(&mut self, call: &Call) -> Result<(), Errno>;
}

/// Takes one step. Does not allocate.
///
/// # Errors
/// The index of the call that failed (see [`Step::call`]) and the kernel's reason.
pub fn perform(kernel: &mut impl Kernel, step: &Step) -> Result<StepOutcome, (u16, Errno)> {
    let mut outcome = StepOutcome::Done;
    for (index, call) in step.calls.iter().enumerate() {
        match (kernel.call(call), &step.otherwise) {
            (Ok(()), _) => {}
            (Err(Errno::ENOENT), Otherwise::PassAbsent) => outcome = StepOutcome::Absent,
            (Err(errno), Otherwise::Try(alternative)) => {
                for (offset, call) in alternative.iter().enumerate() {
                    kernel
                        .call(call)
                        .map_err(|errno| ((step.calls.len() + offset) as u16, errno))?;
                }
                return Ok(StepOutcome::Alternative(errno));
            }
            (Err(errno), _) => return Err((index as u16, errno)),
        }
    }
    Ok(outcome)
}

/// A process that takes the runtime's steps.
pub(crate) trait Runtime: Kernel {
    /// What a step fails with.
    type Error;

    /// Who hears of steps.
    fn observer(&mut self) -> &mut dyn Observer;

    /// The failure of a step, in all the words that there are for it.
    fn failure(&mut self, step: &Step, call: u16, errno: Errno) -> Self::Error;
}

/// Takes the runtime's steps of `plan`, in order; init's go on meanwhile.
///
/// # Errors
/// The first failure.
pub(crate) fn take_steps<R: Runtime>(runtime: &mut R, plan: &Plan) -> Result<(), R::Error> {
    for step in plan.steps_of(Actor::Runtime) {
        let before = Instant::now();
        match perform(runtime, step) {
            Ok(outcome) => {
                let observer = runtime.observer();
                if observer.wants_steps() {
                    observer.step(step, outcome, before.elapsed());
                }
            }
            Err((call, errno)) => return Err(runtime.failure(step, call, errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Records calls, and refuses those that a test names.
    #[derive(Default)]
    pub(crate) struct Recorder {
        pub(crate) calls: Vec<String>,
        pub(crate) refuse: Vec<(&'static str, Errno)>,
    }

    impl Kernel for Recorder {
        fn call(&mut self, call: &Call) -> Result<(), Errno> {
            let call = call.to_string();
            let refusal = self
                .refuse
                .iter()
                .find(|(part, _)| call.contains(part))
                .map(|(_, errno)| *errno);
            self.calls.push(call);
            refusal.map_or(Ok(()), Err)
        }
    }

    fn step(otherwise: Otherwise) -> Step {
        Step::init("test", "test", vec![Call::LoopbackUp, Call::NotDumpable]).or(otherwise)
    }

    #[test]
    fn a_refused_call_ends_the_step() {
        let mut kernel = Recorder {
            refuse: vec![("ioctl", Errno::EPERM)],
            ..Recorder::default()
        };
        assert_eq!(
            perform(&mut kernel, &step(Otherwise::Fail)),
            Err((0, Errno::EPERM))
        );
        assert_eq!(kernel.calls.len(), 1);
    }

    #[test]
    fn an_alternative_replaces_the_rest() {
        let mut kernel = Recorder {
            refuse: vec![("ioctl", Errno::EPERM)],
            ..Recorder::default()
        };
        let step = step(Otherwise::Try(vec![Call::NewKeyring]));
        assert_eq!(
            perform(&mut kernel, &step),
            Ok(StepOutcome::Alternative(Errno::EPERM))
        );
        assert_eq!(kernel.calls.last().unwrap(), &Call::NewKeyring.to_string());
        kernel.refuse.push(("keyctl", Errno::ENOSYS));
        assert_eq!(perform(&mut kernel, &step), Err((2, Errno::ENOSYS)));
        assert_eq!(step.call(2), Some(&Call::NewKeyring));
    }

    #[test]
    fn only_absence_is_passed_over() {
        let mut kernel = Recorder {
            refuse: vec![("ioctl", Errno::ENOENT)],
            ..Recorder::default()
        };
        assert_eq!(
            perform(&mut kernel, &step(Otherwise::PassAbsent)),
            Ok(StepOutcome::Absent)
        );
        assert_eq!(kernel.calls.len(), 2);
        kernel.refuse = vec![("ioctl", Errno::EPERM)];
        assert_eq!(
            perform(&mut kernel, &step(Otherwise::PassAbsent)),
            Err((0, Errno::EPERM))
        );
    }
}

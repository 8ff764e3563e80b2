//! A lab, its checks, and what a check has to say when it does not pass.

use std::ffi::OsString;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::answers::{Question, check_answers};
use crate::host::{Missing, Need};
use crate::program::todo_message;
use crate::seed::Seed;

/// A whole lab, as its binary knows it. Number, title and needs stand in the crate's `Cargo.toml`
/// under `[package.metadata.lab]`, where the runner reads them without building anything.
#[derive(Debug)]
pub struct Lab {
    /// Its checks in the order in which a student should meet them; 100 points together.
    pub checks: &'static [Check],
    /// The graded written questions, for [`Check::answers`].
    pub questions: &'static [Question],
    /// What the student predicts before the measurement runs.
    pub predict: &'static str,
    /// Measures and returns the lines to show.
    pub measure: fn(&Context) -> Result<String, Failure>,
    /// Other programs that this binary can be: a check may start it again, also inside a container,
    /// with `--role NAME ARGUMENTS`.
    pub roles: &'static [Role],
}

/// Another program that a lab's binary can be.
#[derive(Debug)]
pub struct Role {
    /// What `--role` names.
    pub name: &'static str,
    /// The program; gets the arguments and returns the exit status.
    pub run: fn(&[OsString]) -> u8,
}

/// One check: one process, one verdict.
#[derive(Debug)]
pub struct Check {
    /// `6.1`: the lab and a counter.
    pub id: &'static str,
    /// A few words for the table.
    pub name: &'static str,
    /// What it is worth.
    pub points: u32,
    /// What the host must have; empty: any Linux user can run it.
    pub needs: &'static [Need],
    /// Seconds of processor time; the wall clock gets four times as many.
    pub seconds: u64,
    /// Whether it marks the written answers, which are right for one student only.
    pub written: bool,
    /// The check itself.
    pub run: fn(&Context) -> Outcome,
}

impl Check {
    /// A check with the usual limit, 5 seconds of processor time: it needs milliseconds, and a loop
    /// that never ends should not cost the student a minute.
    #[must_use]
    pub const fn new(
        id: &'static str,
        name: &'static str,
        points: u32,
        needs: &'static [Need],
        run: fn(&Context) -> Outcome,
    ) -> Self {
        Self {
            id,
            name,
            points,
            needs,
            seconds: 5,
            written: false,
            run,
        }
    }

    /// The check of the written answers.
    #[must_use]
    pub const fn answers(id: &'static str, points: u32) -> Self {
        Self {
            written: true,
            ..Self::new(id, "the written answers", points, &[], check_answers)
        }
    }
}

/// What a check is given.
#[derive(Debug)]
pub struct Context {
    /// This student's seed in this lab.
    pub seed: Seed,
    /// The lab's folder.
    pub folder: PathBuf,
    /// An empty directory for this process alone, removed after it.
    pub scratch: PathBuf,
    /// The lab's written questions.
    pub questions: &'static [Question],
    /// Whether the reference supplies what the student has not written.
    pub with_reference: bool,
    /// What it did supply.
    pub(crate) supplied: Mutex<Vec<String>>,
}

impl Context {
    pub(crate) fn new(seed: Seed, folder: PathBuf, scratch: PathBuf, with_reference: bool) -> Self {
        Self {
            seed,
            folder,
            scratch,
            questions: &[],
            with_reference,
            supplied: Mutex::default(),
        }
    }

    /// A context for examples and unit tests, in the current directory.
    #[must_use]
    pub fn example() -> Self {
        Self::new(Seed::new("example", 0), ".".into(), ".".into(), false)
    }

    /// Chooses who supplies a part of the system: the `student`, or, under `--with reference`, the
    /// `reference` when the student's is still `todo!`. `try_it` calls the student's part once, on
    /// input that does no harm, to find out.
    pub fn part<T>(
        &self,
        name: &str,
        student: T,
        reference: T,
        try_it: impl FnOnce(&T) + std::panic::UnwindSafe,
    ) -> T {
        if !self.with_reference {
            return student;
        }
        let missing = catch_unwind(AssertUnwindSafe(|| try_it(&student)))
            .err()
            .is_some_and(|panic| todo_message(&*panic).is_some());
        if !missing {
            return student;
        }
        let mut supplied = self.supplied.lock().unwrap_or_else(|e| e.into_inner());
        if !supplied.iter().any(|part| part == name) {
            supplied.push(name.into());
        }
        reference
    }
}

/// `Ok` when the check passed.
pub type Outcome = Result<(), Failure>;

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The student's code did something else than was asked.
    Found(Box<Finding>),
    /// It is not written yet; the value says what is to be written.
    Todo(String),
    /// This host cannot.
    Skip(Missing),
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        Self::Skip(missing)
    }
}

/// The four lines that a failed check prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The call or the situation, with its values.
    pub ran: String,
    /// What should have come back.
    pub expected: String,
    /// What did come back.
    pub got: String,
    /// The function, and the thought that usually helps.
    pub look: String,
}

impl Failure {
    /// A failure from the four lines.
    #[must_use]
    pub fn found(
        ran: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
        look: impl Into<String>,
    ) -> Self {
        Self::Found(Box::new(Finding {
            ran: ran.into(),
            expected: expected.into(),
            got: got.into(),
            look: look.into(),
        }))
    }
}

/// Passes when `got` equals `expected`.
///
/// # Errors
///
/// [`Failure::Found`] with both values printed by `Debug`.
pub fn compare<T: PartialEq + Debug>(
    ran: impl Into<String>,
    expected: T,
    got: T,
    look: impl Into<String>,
) -> Outcome {
    ensure(
        expected == got,
        ran,
        format!("{expected:?}"),
        || format!("{got:?}"),
        look,
    )
}

/// Passes when `holds`; `got` is asked only when it does not.
///
/// # Errors
///
/// [`Failure::Found`] with the texts.
pub fn ensure(
    holds: bool,
    ran: impl Into<String>,
    expected: impl Into<String>,
    got: impl FnOnce() -> String,
    look: impl Into<String>,
) -> Outcome {
    if holds {
        return Ok(());
    }
    Err(Failure::found(ran, expected, got(), look))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_supplies_only_what_is_todo_and_only_when_asked() {
        fn unwritten() -> u32 {
            std::panic::panic_any("not yet implemented: write it".to_string())
        }
        let mut context = Context::example();
        let part = |context: &Context, student: fn() -> u32| {
            let reference: fn() -> u32 = || 2;
            let chosen = context.part("part", student, reference, |part| assert_ne!(part(), 0));
            std::panic::catch_unwind(chosen)
        };
        assert!(part(&context, unwritten).is_err(), "not asked for");
        context.with_reference = true;
        assert_eq!(part(&context, || 1).ok(), Some(1));
        assert!(context.supplied.lock().unwrap().is_empty());
        assert_eq!(part(&context, unwritten).ok(), Some(2));
        assert_eq!(part(&context, unwritten).ok(), Some(2));
        assert_eq!(*context.supplied.lock().unwrap(), ["part"]);
        // A part that is written and wrong stays the student's.
        assert!(part(&context, || panic!("a bug")).is_err());
    }
}

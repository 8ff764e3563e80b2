//! What the checks of a lab are written with.
//!
//! A lab is a crate in a folder of its own, `labs/labNN-name/`. The student writes `src/lib.rs`; the
//! crate's binary holds the checks and hands them to [`main`]. The runner, `cargo lab`, starts that
//! binary once a check, so that a check which loops, crashes or prints junk harms no other:
//!
//! ```text
//!   cargo lab grade 6
//!     └─ lab06 --list                          what there is to check        ─► a Listing on stdout
//!     └─ lab06 --check 6.1 --seed S --result F one process for each check    ─► a Report in the file F
//!     └─ lab06 --measure   --seed S --result F the measurement, for wonder   ─► a Report in the file F
//! ```
//!
//! A check returns `Ok(())` or a [`Failure`] that says what it ran, what it expected, what it got and
//! where to look:
//!
//! ```
//! use ringside_lab_harness::{Check, Context, Outcome, compare};
//!
//! fn doubled(x: u64) -> u64 {
//!     x + x // what a student wrote
//! }
//!
//! fn doubles(context: &Context) -> Outcome {
//!     let mut random = context.seed.rng("doubles");
//!     for _ in 0..100 {
//!         let x = random.below(1000);
//!         compare(format!("doubled({x})"), 2 * x, doubled(x), "`doubled` in src/lib.rs")?;
//!     }
//!     Ok(())
//! }
//!
//! const CHECK: Check = Check::new("1.1", "twice as much", 100, &[], doubles);
//! assert_eq!((CHECK.run)(&Context::example()), Ok(()));
//! ```

mod answers;
mod check;
mod host;
mod program;
pub mod proof;
mod report;
mod seed;

pub use answers::{Answer, Answers, AnswersError, Question};
pub use check::{Check, Context, Failure, Finding, Lab, Outcome, Role, compare, ensure};
pub use host::{Missing, Need, answer_probe, probe};
pub use program::{attempt, main};
pub use report::{CheckListing, Listing, QuestionListing, Report, Verdict};
pub use seed::{Rng, Seed};

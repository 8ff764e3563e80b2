//! Measuring: predict first, then one process that measures. For wonder, not for marks.

use std::ffi::OsString;
use std::path::PathBuf;

use ringside_lab_harness::{Report, Seed};

use crate::compile::Place;
use crate::grade::{GradeError, Grader, list};
use crate::process::Job;
use crate::state::Student;
use crate::tree::{Lab, Tree};

/// Matches the harness's own limit for a measurement.
const SECONDS: u64 = 30;

/// A built lab with its question.
#[derive(Debug)]
pub struct Prepared {
    binary: PathBuf,
    question: String,
    arguments: Vec<OsString>,
}

impl Prepared {
    /// Builds `lab` at `place` and asks it for its question.
    ///
    /// # Errors
    ///
    /// When it does not build, or cannot be run.
    pub fn new(
        tree: &Tree,
        lab: &Lab,
        student: &Student,
        with_reference: bool,
        place: &Place,
    ) -> Result<Self, GradeError> {
        let binary = place.build(lab)?;
        let seed = Seed::new(&student.to_string(), lab.number);
        let grader = Grader {
            tree,
            lab,
            student,
            with_reference,
            only: None,
        };
        let mut arguments = vec!["--measure".into()];
        arguments.extend(grader.arguments(seed));
        Ok(Self {
            question: list(&binary, seed)?.predict,
            binary,
            arguments,
        })
    }

    /// What to predict.
    pub fn question(&self) -> &str {
        &self.question
    }

    /// Measures.
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub fn run(&self) -> Result<Report, GradeError> {
        let job = Job {
            binary: &self.binary,
            arguments: self.arguments.clone(),
            seconds: SECONDS,
        };
        let ended = job.run().map_err(|source| GradeError::Run {
            binary: self.binary.clone(),
            source,
        })?;
        Ok(ended.report)
    }
}

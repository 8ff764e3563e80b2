//! What the check binary and the runner say to each other, as JSON.

use serde::{Deserialize, Serialize};

use crate::check::{Check, Failure, Finding, Lab};
use crate::host::Need;
use crate::seed::Seed;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It passed, and its points count.
    #[serde(rename = "ok")]
    Ok,
    /// The student's code did something else than was asked.
    #[serde(rename = "FAIL")]
    Fail,
    /// The student has not written it yet. Not wrong; no points.
    #[serde(rename = "todo")]
    Todo,
    /// It did not end within its limit.
    #[serde(rename = "TIMEOUT")]
    Timeout,
    /// The process died, or left without finishing the check.
    #[serde(rename = "CRASH")]
    Crash,
    /// This host cannot run it. Its points are taken from the maximum.
    #[serde(rename = "skip")]
    Skip,
}

impl Verdict {
    /// As it is printed, and as it is written in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "FAIL",
            Self::Todo => "todo",
            Self::Timeout => "TIMEOUT",
            Self::Crash => "CRASH",
            Self::Skip => "skip",
        }
    }

    /// Whether something is wrong that the student should mend.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Fail | Self::Timeout | Self::Crash)
    }
}

/// What one process, run for one check or one measurement, has to report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub verdict: Verdict,
    /// For [`Verdict::Fail`]: what was run, expected and got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// What is still to be written, why it was skipped, how it died, or what was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// For [`Verdict::Skip`]: what makes this host able.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The parts that the reference supplied because the student has not written them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reference: Vec<String>,
}

impl Report {
    /// A report that holds a verdict and one sentence.
    #[must_use]
    pub fn new(verdict: Verdict, message: Option<String>) -> Self {
        Self {
            verdict,
            finding: None,
            message,
            fix: None,
            reference: Vec::new(),
        }
    }
}

impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Found(finding) => Self {
                finding: Some(*finding),
                ..Self::new(Verdict::Fail, None)
            },
            Failure::Todo(what) => Self::new(Verdict::Todo, Some(what)),
            Failure::Skip(missing) => Self {
                fix: Some(missing.fix),
                ..Self::new(Verdict::Skip, Some(missing.why))
            },
        }
    }
}

/// What `--list` prints: the lab without its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Its checks, in order.
    pub checks: Vec<CheckListing>,
    /// What to predict before the measurement.
    pub predict: String,
    /// The graded written questions, with the numbers that this seed decides.
    pub questions: Vec<QuestionListing>,
}

/// One check, without its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckListing {
    /// `6.1`: the lab and a counter.
    pub id: String,
    /// A few words for the table.
    pub name: String,
    /// What it is worth.
    pub points: u32,
    /// What the host must have; empty: any Linux user can run it.
    pub needs: Vec<Need>,
    /// Seconds of processor time; the wall clock gets four times as many.
    pub seconds: u64,
    /// Whether it marks the written answers, which are right for one student only.
    pub written: bool,
}

/// One graded written question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionListing {
    /// The table in `answers.toml`.
    pub id: String,
    /// The student's own numbers, when the question has some.
    pub given: Option<String>,
}

impl Listing {
    /// The listing of `lab` for the student with this `seed`.
    #[must_use]
    pub fn new(lab: &Lab, seed: Seed) -> Self {
        let check = |check: &Check| CheckListing {
            id: check.id.into(),
            name: check.name.into(),
            points: check.points,
            needs: check.needs.to_vec(),
            seconds: check.seconds,
            written: check.written,
        };
        let questions = lab.questions.iter().map(|question| QuestionListing {
            id: question.id.into(),
            given: question.given.map(|given| given(seed)),
        });
        Self {
            checks: lab.checks.iter().map(check).collect(),
            predict: lab.predict.into(),
            questions: questions.collect(),
        }
    }
}

//! Grading: one lab, one process a check, one verdict each.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ringside_lab_harness::{Answer, Answers, CheckListing, Listing, Need, Report, Seed, Verdict};
use serde::Serialize;

use crate::compile::{CompileError, Place};
use crate::process::Job;
use crate::state::Student;
use crate::tree::{Lab, Tree};

/// One lab, graded. This is what `--json` prints.
#[derive(Debug, Serialize)]
pub struct LabGrade {
    /// Its number.
    pub lab: u8,
    /// Its title.
    pub title: String,
    /// Points that the student has.
    pub score: u32,
    /// Points that can be had on this host: all of them but those of skipped checks.
    pub maximum: u32,
    /// Points of the whole lab, or of the one check that was asked for.
    pub points: u32,
    /// What the compiler said, when the code does not build; then there are no checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_error: Option<String>,
    /// The checks in order.
    pub checks: Vec<CheckGrade>,
    /// The written answers, as the student gave them, for the instructor to read.
    pub answers: Answers,
}

/// One check, run.
#[derive(Debug, Serialize)]
pub struct CheckGrade {
    /// `6.1`.
    pub id: String,
    /// A few words.
    pub name: String,
    /// What the student gets.
    pub points: u32,
    /// What it is worth.
    pub worth: u32,
    /// What the host must have.
    pub needs: Vec<Need>,
    /// The verdict and its reasons.
    #[serde(flatten)]
    pub report: Report,
    /// The end of what the check printed, when something is wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// Why a lab could not be graded, through no fault of the student's.
#[derive(Debug, thiserror::Error)]
pub enum GradeError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("cannot run {binary}: {source}", binary = binary.display())]
    Run {
        binary: PathBuf,
        source: std::io::Error,
    },
    #[error("{binary} does not list its checks: {source}", binary = binary.display())]
    Listing {
        binary: PathBuf,
        source: serde_json::Error,
    },
    #[error("lab {lab} has no check {check}; it has: {known}")]
    NoCheck {
        lab: u8,
        check: String,
        known: String,
    },
}

/// A lab to be graded, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Grader<'a> {
    /// The tree that the lab is built in.
    pub tree: &'a Tree,
    /// The lab.
    pub lab: &'a Lab,
    /// Whose seed.
    pub student: &'a Student,
    /// Whether the reference fills in.
    pub with_reference: bool,
    /// Only this check.
    pub only: Option<&'a str>,
}

impl Grader<'_> {
    /// Builds the lab in its tree and runs its checks.
    ///
    /// # Errors
    ///
    /// When cargo or the lab's binary cannot be run at all.
    pub fn grade(&self) -> Result<LabGrade, GradeError> {
        self.grade_in(&Place::of(self.tree.root.clone()))
    }

    /// As [`Grader::grade`], built at `place`.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn grade_in(&self, place: &Place) -> Result<LabGrade, GradeError> {
        match place.build(self.lab) {
            Ok(binary) => self.run_checks(&binary),
            Err(CompileError::Code(text)) => {
                let mut grade = self.empty();
                (grade.maximum, grade.points) = (100, 100);
                grade.build_error = Some(text);
                Ok(grade)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn empty(&self) -> LabGrade {
        LabGrade {
            lab: self.lab.number,
            title: self.lab.title.clone(),
            score: 0,
            maximum: 0,
            points: 0,
            build_error: None,
            checks: Vec::new(),
            answers: Answers::read(&self.lab.folder).unwrap_or_default(),
        }
    }

    /// Runs the checks with a binary that is there.
    ///
    /// # Errors
    ///
    /// When the binary cannot be run at all.
    pub fn run_checks(&self, binary: &Path) -> Result<LabGrade, GradeError> {
        let seed = Seed::new(&self.student.to_string(), self.lab.number);
        let mut checks = list(binary, seed)?.checks;
        if let Some(only) = self.only {
            let known: Vec<_> = checks.iter().map(|check| check.id.clone()).collect();
            checks.retain(|check| check.id == only);
            if checks.is_empty() {
                return Err(GradeError::NoCheck {
                    lab: self.lab.number,
                    check: only.into(),
                    known: known.join(", "),
                });
            }
        }
        let mut grade = self.empty();
        for check in checks {
            let check = self.run_check(binary, seed, check)?;
            grade.score += check.points;
            grade.points += check.worth;
            if check.report.verdict != Verdict::Skip {
                grade.maximum += check.worth;
            }
            grade.checks.push(check);
        }
        Ok(grade)
    }

    fn run_check(
        &self,
        binary: &Path,
        seed: Seed,
        check: CheckListing,
    ) -> Result<CheckGrade, GradeError> {
        let mut arguments: Vec<OsString> = vec!["--check".into(), check.id.clone().into()];
        arguments.extend(self.arguments(seed));
        let job = Job {
            binary,
            arguments,
            seconds: check.seconds,
        };
        let ended = job.run().map_err(|source| GradeError::Run {
            binary: binary.into(),
            source,
        })?;
        let passed = ended.report.verdict == Verdict::Ok && ended.report.reference.is_empty();
        Ok(CheckGrade {
            id: check.id,
            name: check.name,
            points: if passed { check.points } else { 0 },
            worth: check.points,
            needs: check.needs,
            output: if ended.report.verdict.is_wrong() {
                ended.output
            } else {
                String::new()
            },
            report: ended.report,
        })
    }

    /// What every start of a lab's binary is told.
    pub fn arguments(&self, seed: Seed) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--seed".into(),
            seed.to_string().into(),
            "--folder".into(),
            self.lab.folder.clone().into(),
        ];
        if self.with_reference {
            arguments.push("--with-reference".into());
        }
        arguments
    }
}

impl LabGrade {
    /// Whether something is wrong that the student should mend; `todo` and `skip` are not.
    pub fn is_wrong(&self) -> bool {
        self.build_error.is_some() || self.checks.iter().any(|c| c.report.verdict.is_wrong())
    }
}

/// What there is to check, as the lab's binary says.
///
/// # Errors
///
/// When it cannot be run or says something else.
pub fn list(binary: &Path, seed: Seed) -> Result<Listing, GradeError> {
    let output = Command::new(binary)
        .args(["--list", "--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| GradeError::Run {
            binary: binary.into(),
            source,
        })?;
    serde_json::from_slice(&output.stdout).map_err(|source| GradeError::Listing {
        binary: binary.into(),
        source,
    })
}

/// The written questions of a lab: id, question, the student's numbers, the answer so far.
pub type Questions = Vec<(String, String, Option<String>, String)>;

/// Joins `answers.toml` and the seeded numbers.
///
/// # Errors
///
/// When the lab does not build or its answers cannot be read.
pub fn questions(
    tree: &Tree,
    lab: &Lab,
    student: &Student,
) -> Result<Questions, crate::commands::Trouble> {
    let binary = Place::of(tree.root.clone()).build(lab)?;
    let seed = Seed::new(&student.to_string(), lab.number);
    let listing = list(&binary, seed)?;
    let answers = Answers::read(&lab.folder)?;
    let join = |(id, answer): (&String, &Answer)| {
        let listed = listing.questions.iter().find(|question| question.id == *id);
        (
            id.clone(),
            answer.question.clone(),
            listed.and_then(|question| question.given.clone()),
            answer.answer.clone(),
        )
    };
    Ok(answers.0.iter().map(join).collect())
}

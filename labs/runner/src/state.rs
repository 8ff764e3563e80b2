//! What the runner remembers between calls: who the student is, scores, hints seen, predictions.
//! It is one file, `.lab/state.json`, which may be deleted at any time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::commands::Trouble;
use crate::grade::LabGrade;
use crate::tree::Tree;

/// A student's id: it decides the seeds, so it must be the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Student(String);

/// The solution's own student, for whom the recorded answers are right.
pub const GATE: &str = "gate";

/// Why a text is no student's id.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an id: 2 to 64 letters, digits, `.`, `-`, `_` or `@`, as the course registered it"
)]
pub struct NoStudent(String);

impl FromStr for Student {
    type Err = NoStudent;

    fn from_str(text: &str) -> Result<Self, NoStudent> {
        // Upper and lower case are one person: a seed must not hang on the shift key.
        let id = text.trim().to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
        if (2..=64).contains(&id.len()) && id.chars().all(allowed) && !id.starts_with(['.', '-']) {
            Ok(Self(id))
        } else {
            Err(NoStudent(text.into()))
        }
    }
}

impl TryFrom<String> for Student {
    type Error = NoStudent;

    fn try_from(text: String) -> Result<Self, NoStudent> {
        text.parse()
    }
}

impl From<Student> for String {
    fn from(student: Student) -> Self {
        student.0
    }
}

impl fmt::Display for Student {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The contents of the state file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Who works in this tree.
    pub student: Option<Student>,
    /// The points of each check of each lab, the last time it ran.
    pub scores: BTreeMap<u8, BTreeMap<String, u32>>,
    /// How many hints were shown for each check.
    pub hints: BTreeMap<String, u8>,
    /// What was predicted, and what came out.
    pub predictions: BTreeMap<u8, Prediction>,
}

/// A prediction and, once it ran, the measurement.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// What was asked.
    pub question: String,
    /// What the student thought.
    pub prediction: String,
    /// What came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot understand {path}: {source}; delete it, and grade anew", path = path.display())]
    Syntax {
        path: PathBuf,
        source: serde_json::Error,
    },
}

impl State {
    fn path(tree: &Tree) -> PathBuf {
        tree.root.join(".lab/state.json")
    }

    /// The state of `tree`; empty where nothing was stored yet.
    pub fn read(tree: &Tree) -> Result<Self, StateError> {
        let path = Self::path(tree);
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|source| StateError::Syntax { path, source })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Stores the state, whole or not at all.
    pub fn write(&self, tree: &Tree) -> Result<(), StateError> {
        let path = Self::path(tree);
        let store = || -> std::io::Result<()> {
            let folder = tree.root.join(".lab");
            fs::create_dir_all(&folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.persist(&path)?;
            Ok(())
        };
        store().map_err(|source| StateError::Write {
            path: path.clone(),
            source,
        })
    }

    /// Who works in `tree`; in an instructor's tree, by default, the gate.
    pub fn student_in(&self, tree: &Tree) -> Result<Student, Trouble> {
        if let Some(student) = &self.student {
            return Ok(student.clone());
        }
        if tree.is_instructors() {
            return Ok(Student(GATE.into()));
        }
        Err(Trouble::usage(
            "who are you? Run `cargo lab id YOUR-ID` once, with the id that the course knows you \
             by: your labs get their own numbers from it",
        ))
    }

    /// Notes the points of a lab's checks that ran.
    pub fn note(&mut self, grade: &LabGrade) {
        let scores = self.scores.entry(grade.lab).or_default();
        for check in &grade.checks {
            scores.insert(check.id.clone(), check.points);
        }
        if grade.build_error.is_some() {
            scores.clear(); // code that does not build has no score
        }
    }

    /// The points so far in lab `number`, when it was ever graded.
    pub fn score(&self, number: u8) -> Option<u32> {
        Some(self.scores.get(&number)?.values().sum())
    }

    /// Notes a prediction; the first one stays.
    pub fn predict(&mut self, number: u8, question: &str, prediction: &str) {
        self.predictions
            .entry(number)
            .or_insert_with(|| Prediction {
                question: question.into(),
                prediction: prediction.into(),
                measured: None,
            });
    }

    /// Notes what came out.
    pub fn measured(&mut self, number: u8, text: &str) {
        if let Some(prediction) = self.predictions.get_mut(&number) {
            prediction.measured = Some(text.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_folded_and_checked() {
        let id = |text: &str| text.parse::<Student>().map(String::from).ok();
        assert_eq!(id(" Alice.B-2@x_y "), Some("alice.b-2@x_y".into()));
        for bad in [
            "",
            "a",
            "a b",
            "../x",
            ".ab",
            "-ab",
            "a/b",
            "ä-x",
            &"x".repeat(65),
        ] {
            assert_eq!(id(bad), None, "{bad:?}");
        }
    }
}

//! A whole class: each student's files in the same tree, the same checks, the same limits.
//!
//! Only the files that the student writes are taken from a submission; the checks are this tree's.
//! The code runs with this user's rights: grade a class in a container or a virtual machine.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::commands::Trouble;
use crate::gate::Workshop;
use crate::grade::{Grader, LabGrade};
use crate::handout::{Copier, Solutions};
use crate::state::{State, Student};
use crate::tree::{Lab, Tree};

#[derive(Debug, Serialize)]
struct Submission {
    student: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    score: u32,
    maximum: u32,
    labs: Vec<LabGrade>,
}

/// Grades each directory in `folder` and returns the table, or JSON.
///
/// # Errors
///
/// When `folder` cannot be read or the grader cannot work; not for what a student handed in.
pub fn grade(
    tree: &Tree,
    labs: &[&Lab],
    folder: &Path,
    with_reference: bool,
    as_json: bool,
) -> Result<String, Trouble> {
    let entries = fs::read_dir(folder)
        .map_err(|error| Trouble::usage(format!("cannot read {}: {error}", folder.display())))?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    let workshop = Workshop::open(tree, "lab-class")?;
    let copier = Copier {
        tree,
        labs,
        solutions: Solutions::Removed,
        target: &workshop.tree,
        version: Some(&workshop.version),
    };
    copier.copy()?;
    let mut class = Vec::new();
    for (index, name) in names.iter().enumerate() {
        eprintln!("{} of {}: {name}", index + 1, names.len());
        let mut submission = Submission {
            student: name.clone(),
            problems: Vec::new(),
            score: 0,
            maximum: 0,
            labs: Vec::new(),
        };
        match name.parse::<Student>() {
            Err(error) => submission.problems.push(error.to_string()),
            Ok(student) => {
                submission
                    .problems
                    .extend(other_id(&folder.join(name), &student));
                for lab in labs {
                    copier.copy_lab(lab)?; // the handout's own files, for what is not handed in
                    take(&copier, lab, &folder.join(name), &mut submission.problems)?;
                    let copied = Lab {
                        folder: workshop.tree.join(lab.place()),
                        ..(*lab).clone()
                    };
                    let grader = Grader {
                        tree,
                        lab: &copied,
                        student: &student,
                        with_reference,
                        only: None,
                    };
                    let graded = grader.grade_in(&workshop.place)?;
                    submission.score += graded.score;
                    submission.maximum += graded.maximum;
                    submission.labs.push(graded);
                }
            }
        }
        class.push(submission);
    }
    if as_json {
        let document = serde_json::json!({ "schema": 1, "students": class });
        return Ok(serde_json::to_string_pretty(&document)? + "\n");
    }
    Ok(table(labs, &class))
}

/// Copies what the student wrote over the handout.
fn take(
    copier: &Copier<'_>,
    lab: &Lab,
    submission: &Path,
    problems: &mut Vec<String>,
) -> Result<(), Trouble> {
    for file in &lab.student_files {
        let place = lab.place().join(file);
        match fs::read(submission.join(&place)) {
            Ok(bytes) => copier.put(&place, &bytes)?,
            Err(error) => problems.push(format!("{}: {error}", place.display())),
        }
    }
    Ok(())
}

/// A tree that was set up under another id: its seeded answers are the other's.
fn other_id(submission: &Path, student: &Student) -> Option<String> {
    let tree = Tree {
        root: submission.into(),
        labs: Vec::new(),
    };
    let other = State::read(&tree).ok()?.student?;
    (other != *student).then(|| format!("the tree was set up by {other}"))
}

fn table(labs: &[&Lab], class: &[Submission]) -> String {
    let width = class
        .iter()
        .map(|s| s.student.chars().count())
        .max()
        .unwrap_or(0)
        .max(7);
    let mut text = format!("{:width$}", "student");
    for lab in labs {
        let _ = write!(text, "  lab {:02}", lab.number);
    }
    text += "      sum\n";
    for submission in class {
        let _ = write!(text, "{:width$}", submission.student);
        for lab in labs {
            let grade = submission.labs.iter().find(|grade| grade.lab == lab.number);
            let _ = match grade {
                Some(grade) if grade.build_error.is_some() => write!(text, "  {:>6}", "build"),
                Some(grade) => write!(text, "  {:6}", grade.score),
                None => write!(text, "  {:>6}", "–"),
            };
        }
        let _ = write!(text, "  {:3} / {}", submission.score, submission.maximum);
        for problem in &submission.problems {
            let _ = write!(text, "  ({problem})");
        }
        text.push('\n');
    }
    text
}

//! Short written answers: `answers.toml` in the lab's folder.
//!
//! ```toml
//! [references]
//! question = "How many memory references …?"
//! answer = "4"
//! ```
//!
//! A question that the lab lists as a [`Question`] is graded; any other is an open one, which the
//! instructor reads in the output of `cargo lab grade --json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::check::{Context, Failure, Outcome};
use crate::seed::Seed;

/// A graded question: how a machine marks it.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The table in `answers.toml`.
    pub id: &'static str,
    /// The student's own numbers, as `cargo lab questions` prints them beside the question.
    pub given: Option<fn(Seed) -> String>,
    /// Whether an answer is right; it comes trimmed, in lower case, with single spaces.
    pub accepts: fn(Seed, &str) -> bool,
    /// Where the student finds out, printed when the answer is wrong.
    pub look: &'static str,
}

/// One table of `answers.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The question, for people.
    pub question: String,
    /// What the student wrote; empty: not answered yet.
    pub answer: String,
}

/// The contents of `answers.toml`, by the question's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Answers(pub BTreeMap<String, Answer>);

/// Why `answers.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswersError {
    /// It is missing or not readable.
    #[error("cannot read {path}: {source}; `cargo lab handout` writes it anew", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It is not TOML, or not tables of `question` and `answer`.
    #[error("cannot understand {path}: {source}; keep each answer between quotation marks", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with the line.
        source: Box<toml::de::Error>,
    },
}

impl Answers {
    /// Reads `answers.toml` in a lab's folder.
    ///
    /// # Errors
    ///
    /// When it is missing, or is not tables of `question` and `answer`.
    pub fn read(folder: &Path) -> Result<Self, AnswersError> {
        let path = folder.join("answers.toml");
        let text = fs::read_to_string(&path).map_err(|source| AnswersError::Read {
            path: path.clone(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| AnswersError::Syntax {
            path,
            source: Box::new(source),
        })
    }
}

/// The check that marks the written answers of a lab.
///
/// # Errors
///
/// [`Failure::Found`] at the first wrong answer, without the right one; [`Failure::Todo`] when
/// nothing is wrong but something is not answered.
pub fn check_answers(context: &Context) -> Outcome {
    let look = "answers.toml in the lab's folder";
    let answers = Answers::read(&context.folder).map_err(|error| {
        Failure::found(
            "reading the written answers",
            "a table for each question",
            error.to_string(),
            look,
        )
    })?;
    let mut missing = Vec::new();
    for question in context.questions {
        let given = answers
            .0
            .get(question.id)
            .map_or("", |answer| &answer.answer);
        let plain = given
            .to_lowercase()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        if plain.is_empty() {
            missing.push(question.id);
        } else if !(question.accepts)(context.seed, &plain) {
            return Err(Failure::found(
                format!("your answer to [{}]", question.id),
                "another answer (`cargo lab questions` prints the numbers that are yours)",
                format!("{given:?}"),
                question.look,
            ));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join("], [");
    Err(Failure::Todo(format!("answer [{missing}] in answers.toml")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTIONS: &[Question] = &[
        Question {
            id: "sum",
            given: Some(|seed| format!("x = {}", seed.0)),
            accepts: |seed, answer| answer == seed.0.to_string(),
            look: "the arithmetic",
        },
        Question {
            id: "word",
            given: None,
            accepts: |_, answer| answer == "trap and emulate",
            look: "the slides",
        },
    ];

    fn folder(sum: &str, word: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!(
            "ringside-answers-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "[sum]\nquestion = 'x?'\nanswer = '{sum}'\n[word]\nquestion = 'how?'\nanswer = '{word}'\n\
             [open]\nquestion = 'why?'\nanswer = 'because'\n"
        );
        fs::write(folder.join("answers.toml"), text).unwrap();
        folder
    }

    fn graded(sum: &str, word: &str) -> Outcome {
        let folder = folder(sum, word);
        let mut context = Context::example();
        context.seed = Seed(12);
        context.folder = folder.clone();
        context.questions = QUESTIONS;
        let outcome = check_answers(&context);
        drop(fs::remove_dir_all(folder));
        outcome
    }

    #[test]
    fn right_answers_pass_whatever_their_spacing_and_case() {
        assert_eq!(graded("12", "  Trap  and emulate "), Ok(()));
    }

    #[test]
    fn nothing_answered_is_todo() {
        assert_eq!(
            graded("", ""),
            Err(Failure::Todo("answer [sum], [word] in answers.toml".into()))
        );
        assert!(matches!(graded("12", ""), Err(Failure::Todo(what)) if what.contains("[word]")));
    }

    #[test]
    fn a_neighbours_answer_fails_without_giving_the_right_one_away() {
        let Err(Failure::Found(finding)) = graded("13", "") else {
            panic!("a wrong answer passed");
        };
        assert_eq!(finding.got, "\"13\"");
        assert!(!format!("{finding:?}").contains("12"));
    }

    #[test]
    fn a_broken_file_says_where() {
        let failure = graded("12", "it's");
        assert!(matches!(failure, Err(Failure::Found(f)) if f.got.contains("answers.toml")));
    }
}

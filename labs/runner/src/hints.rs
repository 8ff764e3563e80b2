//! Hints in three steps: the concept, the place, the shape.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use crate::commands::Trouble;
use crate::render::wrap;
use crate::tree::Lab;

/// `hints.toml`: the three steps of each check.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Hints(BTreeMap<String, Hint>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    concept: String,
    place: String,
    shape: String,
}

/// A hint as far as it was asked for.
#[derive(Debug)]
pub struct Shown {
    /// Up to which step.
    pub step: u8,
    /// For the terminal.
    pub text: String,
}

/// Why there are no hints.
#[derive(Debug, thiserror::Error)]
pub enum HintsError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot understand {path}: {source}", path = path.display())]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
}

impl Hints {
    /// Reads the hints of `lab`.
    ///
    /// # Errors
    ///
    /// When `hints.toml` is missing, or a hint lacks one of its three steps.
    pub fn read(lab: &Lab) -> Result<Self, HintsError> {
        let path = lab.folder.join("hints.toml");
        let text = fs::read_to_string(&path).map_err(|source| HintsError::Read {
            path: path.clone(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| HintsError::Syntax {
            path,
            source: Box::new(source),
        })
    }

    /// Whether `check` has three steps with something in each.
    pub fn has(&self, check: &str) -> bool {
        self.0.get(check).is_some_and(|hint| {
            [&hint.concept, &hint.place, &hint.shape]
                .iter()
                .all(|step| step.trim().len() > 10)
        })
    }

    /// The hint for `check`, up to `step`; there are three.
    ///
    /// # Errors
    ///
    /// When the lab has no such check.
    pub fn show(&self, check: &str, step: u8) -> Result<Shown, Trouble> {
        let Some(hint) = self.0.get(check) else {
            let mut known: Vec<_> = self.0.keys().map(String::as_str).collect();
            known.sort_by_key(|id| (id.len(), *id)); // 6.10 after 6.9
            return Err(Trouble::usage(format!(
                "there is no check {check}; there are hints for {}",
                known.join(", ")
            )));
        };
        let step = step.clamp(1, 3);
        let steps = [
            ("concept", &hint.concept),
            ("place", &hint.place),
            ("shape", &hint.shape),
        ];
        let mut text = String::new();
        for (name, hint) in steps.iter().take(step.into()) {
            let _ = writeln!(text, "{check} {name}\n{}\n", wrap(hint, 96, "  "));
        }
        if step < 3 {
            let _ = writeln!(text, "({step} of 3; ask again for more)");
        }
        Ok(Shown { step, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_grows_by_a_step_and_stops_at_three() {
        let toml = "[\"1.1\"]\nconcept = 'why it is so'\nplace = 'where it is'\nshape = 'a loop'";
        let hints: Hints = toml::from_str(toml).unwrap();
        let lines = |step| hints.show("1.1", step).unwrap().text;
        assert!(lines(1).contains("why it is so") && !lines(1).contains("where it is"));
        assert!(lines(2).contains("where it is") && !lines(2).contains("a loop"));
        assert_eq!(lines(3), lines(200));
        assert!(hints.show("1.2", 1).is_err());
        assert!(!hints.has("1.1"), "'a loop' is too short to help");
    }
}

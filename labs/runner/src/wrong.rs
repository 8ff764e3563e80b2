//! Recorded wrong solutions: `wrong/6.1.toml` in a lab's folder, at least one for each check.
//!
//! ```toml
//! why = "Takes the offset for the last index."
//! prints = "index 3"             # what the student must be shown
//! verdict = "FAIL"               # the default
//!
//! [[replace]]
//! file = "src/lib.rs"            # the default
//! old = "[39, 30, 21, 12]"       # stands exactly once in the complete file
//! new = "[36, 27, 18, 9]"
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use ringside_lab_harness::Verdict;
use serde::Deserialize;

use crate::tree::Lab;

/// One recorded mistake.
#[derive(Debug)]
pub struct Wrong {
    /// The check that must catch it: the file's name up to the first `-`, so that a check can have
    /// several (`6.4.toml`, `6.4-forgets-wp.toml`).
    pub check: String,
    /// The file that records it.
    pub path: PathBuf,
    record: Record,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    why: String,
    prints: String,
    #[serde(default = "fail")]
    verdict: Verdict,
    replace: Vec<Replacement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    #[serde(default = "student_file")]
    file: PathBuf,
    old: String,
    new: String,
}

fn fail() -> Verdict {
    Verdict::Fail
}

fn student_file() -> PathBuf {
    "src/lib.rs".into()
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WrongError {
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
    #[error("{path}: {file} holds {times} times, not once, the text {old:?}", path = path.display(), file = file.display())]
    Old {
        path: PathBuf,
        file: PathBuf,
        old: String,
        times: usize,
    },
    #[error("{path}: says nothing in `why` or `prints`", path = .0.display())]
    Empty(PathBuf),
}

impl Wrong {
    /// The recorded wrong solutions of `lab`, by check.
    ///
    /// # Errors
    ///
    /// When a record cannot be read or lacks a part.
    pub fn all(lab: &Lab) -> Result<Vec<Self>, WrongError> {
        let folder = lab.wrong();
        let read = |source| WrongError::Read {
            path: folder.clone(),
            source,
        };
        let mut all = Vec::new();
        for entry in fs::read_dir(&folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let Some(name) = name.strip_suffix(".toml") else {
                continue;
            };
            let text = fs::read_to_string(&path).map_err(|source| WrongError::Read {
                path: path.clone(),
                source,
            })?;
            let record: Record = toml::from_str(&text).map_err(|source| WrongError::Syntax {
                path: path.clone(),
                source: Box::new(source),
            })?;
            if record.why.trim().is_empty() || record.prints.trim().is_empty() {
                return Err(WrongError::Empty(path));
            }
            all.push(Self {
                check: name.split('-').next().unwrap_or_default().into(),
                path,
                record,
            });
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// The verdict that it must get.
    pub fn verdict(&self) -> Verdict {
        self.record.verdict
    }

    /// The text that the student must be shown.
    pub fn prints(&self) -> &str {
        self.record.prints.trim()
    }

    /// The lab's files with the mistake in them; `folder` holds the complete ones.
    ///
    /// # Errors
    ///
    /// When an old text does not stand exactly once in its file.
    pub fn apply(&self, folder: &Path) -> Result<Vec<(PathBuf, String)>, WrongError> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for Replacement { file, old, new } in &self.record.replace {
            let index = match files.iter().position(|(name, _)| name == file) {
                Some(index) => index,
                None => {
                    let path = folder.join(file);
                    let text = fs::read_to_string(&path)
                        .map_err(|source| WrongError::Read { path, source })?;
                    files.push((file.clone(), text));
                    files.len() - 1
                }
            };
            let text = &mut files[index].1;
            let times = text.matches(old.as_str()).count();
            if times != 1 {
                return Err(WrongError::Old {
                    path: self.path.clone(),
                    file: file.clone(),
                    old: old.clone(),
                    times,
                });
            }
            *text = text.replacen(old.as_str(), new, 1);
        }
        Ok(files)
    }
}

//! A tree with labs in it: the repository, or what a student was handed out.

use std::fs;
use std::path::{Path, PathBuf};

use ringside_lab_harness::Need;
use serde::Deserialize;

use crate::commands::Trouble;

/// A workspace with `labs/harness` in it, and its labs in the order of their numbers.
#[derive(Debug)]
pub struct Tree {
    /// The workspace's directory.
    pub root: PathBuf,
    /// What is in `labs/`.
    pub labs: Vec<Lab>,
}

/// One lab's folder, as its `Cargo.toml` describes it.
#[derive(Clone, Debug)]
pub struct Lab {
    /// `[package.metadata.lab]`: its number.
    pub number: u8,
    /// … and its title.
    pub title: String,
    /// … and the letters of what its checks need, `P` among them.
    pub needs: String,
    /// … and the files that the student writes.
    pub student_files: Vec<PathBuf>,
    /// The package, which is also the folder's name.
    pub package: String,
    /// The check binary.
    pub binary: String,
    /// The folder.
    pub folder: PathBuf,
}

/// Why there is no tree, or no such lab in it.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("no labs at or above {}: go to the directory that you were handed, or name it with --tree", .0.display())]
    NoTree(PathBuf),
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot understand {path}: {source}", path = path.display())]
    Manifest {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{first} and {second} are both lab {number}", first = first.display(), second = second.display())]
    Twice {
        number: u8,
        first: PathBuf,
        second: PathBuf,
    },
    #[error("the needs {needs:?} in {path}: only the letters P, K, N, C and O, with spaces between", path = path.display())]
    Needs { path: PathBuf, needs: String },
}

#[derive(Deserialize)]
struct Manifest {
    package: Package,
    #[serde(default)]
    bin: Vec<Binary>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    lab: Option<LabMetadata>,
}

#[derive(Deserialize)]
struct LabMetadata {
    number: u8,
    title: String,
    needs: String,
    #[serde(default = "student_files")]
    student_files: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Binary {
    name: String,
}

fn student_files() -> Vec<PathBuf> {
    vec!["src/lib.rs".into(), "answers.toml".into()]
}

impl Tree {
    /// The tree at `directory` or the nearest one above it.
    pub fn around(directory: &Path) -> Result<Self, TreeError> {
        let is_tree = |directory: &&Path| directory.join("labs/harness/Cargo.toml").is_file();
        match directory.ancestors().find(is_tree) {
            Some(root) => Self::at(root),
            None => Err(TreeError::NoTree(directory.into())),
        }
    }

    /// The tree whose workspace is in `root`.
    pub fn at(root: &Path) -> Result<Self, TreeError> {
        let root = fs::canonicalize(root).map_err(|_| TreeError::NoTree(root.into()))?;
        let folder = root.join("labs");
        let entries = fs::read_dir(&folder).map_err(|_| TreeError::NoTree(root.clone()))?;
        let mut labs: Vec<Lab> = Vec::new();
        for entry in entries {
            let folder = match entry {
                Ok(entry) => entry.path(),
                Err(source) => {
                    return Err(TreeError::Read {
                        path: folder,
                        source,
                    });
                }
            };
            labs.extend(Lab::read(&folder)?);
        }
        labs.sort_by_key(|lab| lab.number);
        for pair in labs.windows(2) {
            if pair[0].number == pair[1].number {
                return Err(TreeError::Twice {
                    number: pair[0].number,
                    first: pair[0].folder.clone(),
                    second: pair[1].folder.clone(),
                });
            }
        }
        Ok(Self { root, labs })
    }

    /// Whether the solutions are in this tree.
    pub fn is_instructors(&self) -> bool {
        self.labs.iter().any(|lab| lab.wrong().is_dir())
    }

    /// The lab with `number`.
    pub fn lab(&self, number: u8) -> Result<&Lab, Trouble> {
        let found = self.labs.iter().find(|lab| lab.number == number);
        found.ok_or_else(|| {
            let numbers: Vec<_> = self.labs.iter().map(|lab| lab.number.to_string()).collect();
            Trouble::usage(format!(
                "there is no lab {number} in {}; there are: {}",
                self.root.display(),
                numbers.join(", ")
            ))
        })
    }

    /// The labs with these `numbers`; all when there is none.
    pub fn labs_by_number(&self, numbers: &[u8]) -> Result<Vec<&Lab>, Trouble> {
        if numbers.is_empty() {
            return Ok(self.labs.iter().collect());
        }
        numbers.iter().map(|&number| self.lab(number)).collect()
    }

    /// The lab that a check such as `6.1` belongs to.
    pub fn lab_of_check(&self, check: &str) -> Result<&Lab, Trouble> {
        let number = check.split_once('.').and_then(|(lab, _)| lab.parse().ok());
        let Some(number) = number else {
            return Err(Trouble::usage(format!(
                "{check:?} is not a check; one looks like 6.1: the lab, a dot, a number"
            )));
        };
        self.lab(number)
    }
}

impl Lab {
    fn read(folder: &Path) -> Result<Option<Self>, TreeError> {
        let path = folder.join("Cargo.toml");
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|source| TreeError::Read {
            path: path.clone(),
            source,
        })?;
        let manifest: Manifest = toml::from_str(&text).map_err(|source| TreeError::Manifest {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let Some(lab) = manifest.package.metadata.and_then(|metadata| metadata.lab) else {
            return Ok(None);
        };
        let known = |letter: &str| letter == "P" || Need::from_letter(letter).is_some();
        if !lab.needs.split(' ').all(known) {
            return Err(TreeError::Needs {
                path,
                needs: lab.needs,
            });
        }
        let binary = manifest.bin.into_iter().next().map(|binary| binary.name);
        Ok(Some(Self {
            number: lab.number,
            title: lab.title,
            needs: lab.needs,
            student_files: lab.student_files,
            binary: binary.unwrap_or_else(|| manifest.package.name.clone()),
            package: manifest.package.name,
            folder: folder.into(),
        }))
    }

    /// Where the recorded wrong solutions are, in an instructor's tree.
    pub fn wrong(&self) -> PathBuf {
        self.folder.join("wrong")
    }

    /// The folder relative to the tree: `labs/lab06-…`.
    pub fn place(&self) -> PathBuf {
        let name = self.folder.file_name().unwrap_or_default();
        Path::new("labs").join(name)
    }
}

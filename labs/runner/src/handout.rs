//! The student's tree: the labs without their solutions, and every crate that they stand on.
//!
//! ```text
//!   DIR/Cargo.toml     a workspace of the runner, the harness, the labs, and the crates below them
//!   DIR/labs/…         solutions replaced, the instructor's files left out
//!   DIR/vmm, …         copied as they are: the system that the student's part plugs into
//! ```
//!
//! The tree builds on its own: what the labs depend on by path is copied, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::strip::{StripError, strip};
use crate::tree::{Lab, Tree};

/// Folders that every tree needs beside its labs.
const ALWAYS: [&str; 2] = ["labs/harness", "labs/runner"];
/// Files of the root that go along when they are there.
const ROOT_FILES: [&str; 8] = [
    ".cargo/config.toml",
    ".gitignore",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "clippy.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
];
/// The instructor's own folders below `labs`: wrong solutions and proofs.
const INSTRUCTORS: [&str; 2] = ["wrong", "tests"];

/// Why there is no handout.
#[derive(Debug, thiserror::Error)]
pub enum HandoutError {
    #[error("{} is not empty; name a directory that does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    #[error("{directory} is inside {root}: cargo would take the two for one workspace", directory = directory.display(), root = root.display())]
    Inside { directory: PathBuf, root: PathBuf },
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
    #[error("cannot understand {path}: {source}", path = path.display())]
    Manifest {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{}: a crate that a lab stands on needs `version.workspace = true`", .0.display())]
    Version(PathBuf),
    #[error("cannot write the workspace's manifest: {0}")]
    Serialize(#[from] toml::ser::Error),
    #[error(transparent)]
    Strip(#[from] StripError),
}

/// Whether the solutions stay in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solutions {
    /// What the student gets.
    Removed,
    /// For the gate and for grading a class.
    Kept,
}

/// Writes the handout of `labs` into `directory` and says so, for people.
///
/// # Errors
///
/// When `directory` has something in it, a file cannot be copied, or a marker is wrong.
pub fn write(tree: &Tree, labs: &[&Lab], directory: &Path) -> Result<String, HandoutError> {
    let absolute = std::path::absolute(directory).map_err(|source| HandoutError::Write {
        path: directory.into(),
        source,
    })?;
    if absolute.starts_with(&tree.root) && !absolute.starts_with(tree.root.join("target")) {
        return Err(HandoutError::Inside {
            directory: absolute,
            root: tree.root.clone(),
        });
    }
    if fs::read_dir(&absolute).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(HandoutError::NotEmpty(absolute));
    }
    Copier {
        tree,
        labs,
        solutions: Solutions::Removed,
        target: &absolute,
        version: None,
    }
    .copy()?;
    let titles: Vec<_> = labs
        .iter()
        .map(|lab| format!("  {:02} {}", lab.number, lab.title))
        .collect();
    Ok(format!(
        "wrote {} with the labs\n{}\n\nA student starts there with `cargo lab id THEIR-ID`.\n",
        absolute.display(),
        titles.join("\n")
    ))
}

/// Copies a tree.
#[derive(Clone, Copy, Debug)]
pub struct Copier<'a> {
    /// From here.
    pub tree: &'a Tree,
    /// These labs.
    pub labs: &'a [&'a Lab],
    /// With or without the solutions.
    pub solutions: Solutions,
    /// To here.
    pub target: &'a Path,
    /// Another version for the workspace's own crates. Cargo tells packages apart by name, version
    /// and their place in the workspace: without this, a copy that shares a build directory with
    /// the original would pass for it, and its binaries for the original's.
    pub version: Option<&'a str>,
}

impl Copier<'_> {
    /// Copies the labs, what they depend on, and a workspace manifest for both.
    ///
    /// # Errors
    ///
    /// See [`write()`].
    pub fn copy(&self) -> Result<(), HandoutError> {
        let root = read_manifest(&self.tree.root)?;
        let local = local_crates(&root);
        let members = self.members(&local)?;
        for member in &members {
            self.copy_folder(member)?;
        }
        for file in ROOT_FILES {
            if self.tree.root.join(file).is_file() {
                self.copy_file(Path::new(file))?;
            }
        }
        let text = fs::read_to_string(self.tree.root.join("labs/STUDENTS.md"));
        if let Ok(text) = text {
            self.put(Path::new("README.md"), text.as_bytes())?;
        }
        let manifest = self.manifest(root, &members)?;
        self.put(Path::new("Cargo.toml"), manifest.as_bytes())
    }

    /// Copies the folder of one lab.
    ///
    /// # Errors
    ///
    /// See [`write()`].
    pub fn copy_lab(&self, lab: &Lab) -> Result<(), HandoutError> {
        self.copy_folder(&lab.place())
    }

    /// The folders to copy: the labs, and what is reachable from them by path dependencies.
    fn members(&self, local: &[(String, PathBuf)]) -> Result<BTreeSet<PathBuf>, HandoutError> {
        let mut members = BTreeSet::new();
        let mut waiting: Vec<PathBuf> = ALWAYS.iter().map(PathBuf::from).collect();
        waiting.extend(self.labs.iter().map(|lab| lab.place()));
        while let Some(folder) = waiting.pop() {
            if members.contains(&folder) {
                continue;
            }
            let mut manifests = vec![read_manifest(&self.tree.root.join(&folder))?];
            // A workspace of its own inside the folder, such as the guest's, goes along with it.
            manifests.extend(nested_workspaces(&self.tree.root.join(&folder)));
            let names: BTreeSet<_> = manifests.iter().flat_map(dependencies).collect();
            let needed = local.iter().filter(|(name, _)| names.contains(name));
            waiting.extend(needed.map(|(_, folder)| folder.clone()));
            members.insert(folder);
        }
        Ok(members)
    }

    fn copy_folder(&self, folder: &Path) -> Result<(), HandoutError> {
        let path = self.tree.root.join(folder);
        let entries = fs::read_dir(&path).map_err(|source| HandoutError::Read {
            path: path.clone(),
            source,
        })?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let place = folder.join(&*name);
            // Another package in this one's folder comes by itself, when it is needed.
            let package = read_manifest(&entry.path());
            let other = package.is_ok_and(|manifest| !manifest.contains_key("workspace"));
            let instructors = folder.starts_with("labs") && INSTRUCTORS.contains(&&*name);
            if is_left_out(&name) || instructors || other {
                continue;
            }
            if entry.path().is_dir() {
                self.copy_folder(&place)?;
            } else {
                self.copy_file(&place)?;
            }
        }
        Ok(())
    }

    fn copy_file(&self, place: &Path) -> Result<(), HandoutError> {
        let path = self.tree.root.join(place);
        let bytes = fs::read(&path).map_err(|source| HandoutError::Read {
            path: path.clone(),
            source,
        })?;
        let in_lab = self.labs.iter().any(|lab| place.starts_with(lab.place()));
        if self.solutions == Solutions::Removed
            && in_lab
            && let Ok(text) = std::str::from_utf8(&bytes)
            && let Some(text) = strip(place, text)?
        {
            return self.put(place, text.as_bytes());
        }
        self.put(place, &bytes)
    }

    /// Writes a file of the copy.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn put(&self, place: &Path, bytes: &[u8]) -> Result<(), HandoutError> {
        let path = self.target.join(place);
        let write = || -> std::io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, bytes)
        };
        write().map_err(|source| HandoutError::Write {
            path: path.clone(),
            source,
        })
    }

    /// The root manifest without the packages that stay behind.
    fn manifest(
        &self,
        mut root: Table,
        members: &BTreeSet<PathBuf>,
    ) -> Result<String, HandoutError> {
        let mut out = Table::new();
        let mut used = BTreeSet::new();
        let mut names = BTreeSet::new();
        for member in members {
            let manifest = read_manifest(&self.tree.root.join(member))?;
            if self.version.is_some() && !inherits_version(&manifest) {
                return Err(HandoutError::Version(member.clone()));
            }
            used.extend(dependencies(&manifest));
            let name = manifest
                .get("package")
                .and_then(|package| package.get("name"));
            names.extend(name.and_then(Value::as_str).map(String::from));
        }
        if let Some(Value::Table(mut workspace)) = root.remove("workspace") {
            let text = |path: &PathBuf| Value::String(path.to_string_lossy().into_owned());
            let labs = members.iter().filter(|member| member.starts_with("labs"));
            let labs = Value::Array(labs.map(text).collect());
            workspace.insert("default-members".into(), labs);
            let members = Value::Array(members.iter().map(text).collect());
            workspace.insert("members".into(), members);
            if let (Some(version), Some(Value::Table(package))) =
                (self.version, workspace.get_mut("package"))
            {
                package.insert("version".into(), version.into());
            }
            if let Some(Value::Table(all)) = workspace.get_mut("dependencies") {
                all.retain(|name, _| used.contains(name));
            }
            out.insert("workspace".into(), workspace.into());
        }
        if let Some(Value::Table(mut profiles)) = root.remove("profile") {
            for (_, profile) in profiles.iter_mut() {
                if let Some(Value::Table(packages)) = profile.get_mut("package") {
                    packages.retain(|name, _| names.contains(name));
                }
            }
            out.insert("profile".into(), profiles.into());
        }
        Ok(toml::to_string_pretty(&out)?)
    }
}

/// The manifest in `folder`.
fn read_manifest(folder: &Path) -> Result<Table, HandoutError> {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|source| HandoutError::Read {
        path: path.clone(),
        source,
    })?;
    text.parse().map_err(|source| HandoutError::Manifest {
        path,
        source: Box::new(source),
    })
}

/// The manifests of workspaces below `folder`.
fn nested_workspaces(folder: &Path) -> Vec<Table> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.filter(|entry| {
        entry.path().is_dir() && !is_left_out(&entry.file_name().to_string_lossy())
    });
    let found = below.flat_map(|entry| {
        let mut found = nested_workspaces(&entry.path());
        let manifest = read_manifest(&entry.path()).ok();
        found.extend(manifest.filter(|manifest| manifest.contains_key("workspace")));
        found
    });
    found.collect()
}

/// Folders and files that no copy needs: what is built, what is hidden, what only fuzzes.
fn is_left_out(name: &str) -> bool {
    name.starts_with('.') && name != ".cargo" || ["target", "fuzz"].contains(&name)
}

/// The workspace's own crates: name and folder.
fn local_crates(root: &Table) -> Vec<(String, PathBuf)> {
    let all = root
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    let all = all.and_then(Value::as_table).into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), value.get("path")?.as_str()?.into())))
        .collect()
}

fn inherits_version(manifest: &Table) -> bool {
    let version = manifest
        .get("package")
        .and_then(|package| package.get("version"));
    version.and_then(|version| version.get("workspace")) == Some(&Value::Boolean(true))
}

/// The names of everything that a manifest depends on, for building, running or testing.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in manifest {
        match value {
            Value::Table(table) if key.ends_with("dependencies") => {
                names.extend(table.keys().cloned());
            }
            Value::Table(targets) if key == "target" => {
                let tables = targets.values().filter_map(Value::as_table);
                names.extend(tables.flat_map(dependencies));
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_dependency_counts() {
        let manifest = "[dependencies]\na = '1'\n[dev-dependencies]\nb.workspace = true\n\
                        [build-dependencies]\nc = '1'\n[target.'cfg(unix)'.dependencies]\nd = '1'\n";
        let names = dependencies(&manifest.parse().unwrap());
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn local_crates_are_those_with_a_path() {
        let root = "[workspace.dependencies]\nx = { path = 'x' }\ny = '1'\n";
        let local = local_crates(&root.parse().unwrap());
        assert_eq!(local, [("x".to_string(), PathBuf::from("x"))]);
    }
}

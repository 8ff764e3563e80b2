//! A tree with two made-up labs in it: the real harness and the real runner, two small crates, and the
//! build directory of this workspace, so that little has to be compiled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ringside_lab_harness::Seed;
use serde_json::Value;
use tempfile::TempDir;

/// A test that compiles has no place on a host that is a tenth as fast.
macro_rules! wants_compiler {
    () => {
        if std::env::var_os("RINGSIDE_SLOW_HOST").is_some() {
            eprintln!("skipped: this host is too slow to compile labs");
            return;
        }
    };
}

pub(crate) use wants_compiler;

/// The tree, gone when dropped.
pub struct Fixture {
    directory: TempDir,
    name: &'static str,
}

/// This repository.
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the workspace's root")
}

impl Fixture {
    /// A tree of its own for the test `name`, which also keeps its crates apart from other trees'.
    pub fn new(name: &'static str) -> Self {
        let directory = TempDir::with_prefix("ringside-fixture-").expect("a directory");
        let root = directory.path();
        let repository = repository();
        for folder in ["harness", "runner"] {
            let from = repository.join("labs").join(folder);
            copy(&from, &root.join("labs").join(folder));
        }
        let labs = repository.join("labs/runner/tests/fixture");
        copy(&labs, &root.join("labs"));
        // It was copied with the runner as well, and a manifest in there is nobody's member.
        fs::remove_dir_all(root.join("labs/runner/tests")).expect("the runner's tests");
        for file in [".gitignore", "Cargo.lock", "LICENSE-MIT"] {
            fs::copy(repository.join(file), root.join(file)).expect(file);
        }
        let manifest = fs::read_to_string(repository.join("Cargo.toml")).expect("Cargo.toml");
        let mut manifest: toml::Table = manifest.parse().expect("a manifest");
        let mut workspace = manifest.remove("workspace").expect("a workspace");
        let table = workspace.as_table_mut().expect("a table");
        table.insert("members".into(), toml::Value::Array(vec!["labs/*".into()]));
        let version = format!("0.0.0-fixture-{name}");
        table["package"]["version"] = version.into();
        let mut manifest = toml::Table::new();
        manifest.insert("workspace".into(), workspace);
        fs::write(root.join("Cargo.toml"), manifest.to_string()).expect("Cargo.toml");
        let fixture = Self { directory, name };
        let answer = (Seed::new("gate", 98).0 % 1000 * 2).to_string();
        for file in ["answers.toml", "wrong/98.4.toml"] {
            fixture.edit(&format!("labs/lab98-doubling/{file}"), "ANSWER", &answer);
        }
        fixture
    }

    /// The tree's root.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces a text in a file of the tree.
    pub fn edit(&self, file: &str, old: &str, new: &str) {
        edit(&self.root().join(file), old, new);
    }

    /// `cargo lab ARGUMENTS` in this tree.
    pub fn lab(&self, arguments: &[&str]) -> Output {
        self.command(self.root(), arguments)
            .output()
            .expect("the runner")
    }

    /// The same, in another tree that was made from this one.
    pub fn lab_in(&self, tree: &Path, arguments: &[&str]) -> Output {
        self.command(tree, arguments).output().expect("the runner")
    }

    /// The runner, not started.
    pub fn command(&self, tree: &Path, arguments: &[&str]) -> Command {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("target");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command
            .args(arguments)
            .current_dir(tree)
            .env(
                "CARGO_TARGET_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.name),
            )
            .env("CARGO_BUILD_BUILD_DIR", target)
            .env("CARGO_NET_OFFLINE", "true");
        command
    }

    /// `grade --json`, read; the verdict of each check of the first lab, by its id.
    pub fn grade(&self, tree: &Path, arguments: &[&str]) -> Value {
        let mut all = vec!["grade", "--json"];
        all.extend(arguments);
        let output = self.lab_in(tree, &all);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "no JSON ({error}): {}{}",
                text(&output),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

/// Replaces a text in a file.
pub fn edit(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).expect("a file of the fixture");
    assert!(text.contains(old), "{} has no {old:?}", path.display());
    fs::write(path, text.replace(old, new)).expect("a file of the fixture");
}

/// What was written to standard output.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One check of the first lab in `grade`.
pub fn check<'a>(grade: &'a Value, id: &str) -> &'a Value {
    let checks = grade["labs"][0]["checks"].as_array().expect("checks");
    let found = checks.iter().find(|check| check["id"] == id);
    found.unwrap_or_else(|| panic!("no check {id} in {grade:#}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file");
        }
    }
}

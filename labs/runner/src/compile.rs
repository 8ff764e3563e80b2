//! Building one lab's check binary with cargo.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde::Deserialize;

use crate::tree::Lab;

/// Where and how to build.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The workspace.
    pub root: PathBuf,
    /// A target directory of its own; cargo's default when there is none.
    pub target: Option<PathBuf>,
    /// Where dependencies that were built already may be found (cargo 1.91 and newer).
    pub shared: Option<PathBuf>,
    /// No network.
    pub offline: bool,
}

/// Why there is no binary.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The code does not build: what the compiler said, for the student.
    #[error("the code does not build:\n{0}")]
    Code(String),
    /// Cargo cannot be started.
    #[error("cannot run cargo: {0}; is it in the PATH?")]
    Cargo(#[from] std::io::Error),
}

/// One line of cargo's JSON: a finished target, or what the compiler says.
#[derive(Deserialize)]
struct Line {
    target: Option<Target>,
    executable: Option<PathBuf>,
    message: Option<Diagnostic>,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

impl Place {
    /// The tree's own workspace and target directory.
    pub fn of(root: PathBuf) -> Self {
        Self {
            root,
            ..Self::default()
        }
    }

    /// Builds `lab` and answers with its binary. Warnings are not shown: half-written code has many.
    ///
    /// # Errors
    ///
    /// When the code does not build, with the compiler's own words.
    pub fn build(&self, lab: &Lab) -> Result<PathBuf, CompileError> {
        // `cargo run` names the cargo that runs us; a plain call finds it in the PATH.
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command
            .current_dir(&self.root)
            .args(["build", "--package", &lab.package, "--bin", &lab.binary])
            .arg("--message-format=json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.offline {
            command.arg("--offline");
        }
        if let Some(target) = &self.target {
            command.env("CARGO_TARGET_DIR", target);
        }
        if let Some(shared) = &self.shared {
            command.env("CARGO_BUILD_BUILD_DIR", shared);
        }
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let errors = thread::spawn(move || stderr.map(follow).unwrap_or_default());
        let mut found = None;
        let mut said = String::new();
        for line in stdout
            .into_iter()
            .flat_map(|out| BufReader::new(out).lines())
        {
            let Ok(line) = serde_json::from_str::<Line>(&line?) else {
                continue;
            };
            match line {
                Line {
                    target: Some(target),
                    executable: Some(binary),
                    ..
                } if target.name == lab.binary => found = Some(binary),
                Line {
                    message: Some(Diagnostic { level, rendered }),
                    ..
                } if level == "error" => said += &rendered.unwrap_or_default(),
                _ => {}
            }
        }
        let status = child.wait()?;
        let errors = errors.join().unwrap_or_default();
        match found {
            Some(binary) if status.success() => Ok(binary),
            _ => Err(CompileError::Code(said + &errors)),
        }
    }
}

/// Reads what cargo says; on a terminal, shows which crate it is at, because the first build of a
/// tree takes a while.
fn follow(stderr: impl Read) -> String {
    let show = std::io::stderr().is_terminal();
    let mut all = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let word = line.trim_start();
        let progress = [
            "Compiling ",
            "Downloading ",
            "Downloaded ",
            "Finished ",
            "Blocking ",
        ];
        if progress.iter().any(|start| word.starts_with(start)) {
            if show {
                eprint!("\r\x1b[K  {word}");
            }
        } else {
            all.push_str(&line);
            all.push('\n');
        }
    }
    if show {
        eprint!("\r\x1b[K");
    }
    all
}

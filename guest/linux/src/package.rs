//! Debian's packages, from its own archive, unpacked without installing: what `apt-get download` gives
//! needs no root, and apt checks what it fetches.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

/// Why there is no package.
#[derive(Debug, Error)]
pub enum PackageError {
    /// A program is not here.
    #[error(
        "cannot run {program}: {source}; it is part of Debian and Ubuntu; elsewhere, name a kernel of yours with --kernel FILE"
    )]
    Program {
        /// Which.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// apt knows none.
    #[error(
        "apt knows no package {pattern}; run `apt-get update` as root first, or name a kernel of yours with --kernel FILE"
    )]
    None {
        /// As it was looked for.
        pattern: &'static str,
    },
    /// A program failed.
    #[error("{program} failed: {message}")]
    Failed {
        /// Which.
        program: &'static str,
        /// The last line that it printed.
        message: String,
    },
    /// A file operation.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The newest package that apt knows whose name `matches`, as a name.
///
/// # Errors
/// [`PackageError`].
pub fn newest(
    prefix: &str,
    pattern: &'static str,
    matches: impl Fn(&str) -> bool,
) -> Result<String, PackageError> {
    let names = output("apt-cache", &["pkgnames", prefix], Path::new("."))?;
    names
        .lines()
        .filter(|name| matches(name))
        .max_by_key(|name| crate::cache::version_key(name))
        .map(str::to_owned)
        .ok_or(PackageError::None { pattern })
}

/// The version that `apt-get download` would give of a package.
///
/// # Errors
/// [`PackageError`].
pub fn version(package: &str) -> Result<String, PackageError> {
    let text = output(
        "apt-cache",
        &["show", "--no-all-versions", package],
        Path::new("."),
    )?;
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    version
        .map(|version| version.trim().to_owned())
        .ok_or(PackageError::Failed {
            program: "apt-cache",
            message: format!("it shows no version of {package}"),
        })
}

/// Downloads a package and unpacks it into a new folder below `work`, which it gives.
///
/// # Errors
/// [`PackageError`].
pub fn unpack(package: &str, work: &Path) -> Result<PathBuf, PackageError> {
    output("apt-get", &["download", "-qq", package], work)?;
    let read = |source| PackageError::Read {
        path: work.into(),
        source,
    };
    let mut entries = fs::read_dir(work)
        .map_err(read)?
        .flatten()
        .map(|entry| entry.path());
    let file = entries.find(|path| path.extension().is_some_and(|end| end == "deb"));
    let file = file.ok_or_else(|| PackageError::Failed {
        program: "apt-get",
        message: format!("it downloaded no file for {package}"),
    })?;
    let folder = work.join("package");
    let (from, to) = (file.to_string_lossy(), folder.to_string_lossy());
    output("dpkg-deb", &["--extract", &from, &to], work)?;
    // Three times the room of what is needed from here on.
    fs::remove_file(&file).map_err(read)?;
    Ok(folder)
}

/// What a program prints.
fn output(
    program: &'static str,
    arguments: &[&str],
    folder: &Path,
) -> Result<String, PackageError> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PackageError::Program { program, source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = said
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing");
        return Err(PackageError::Failed {
            program,
            message: message.into(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! What a checkpoint or its restoration can run into.

use std::fmt;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::wire;

/// A checkpoint that was not taken, or not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no criu.
    #[error("cannot run {}: it is not there; apt-get install criu, or name it with --criu", program.display())]
    Missing {
        /// Where it was looked for.
        program: PathBuf,
    },
    /// It cannot be run.
    #[error("cannot run {}: {}; name another criu with --criu", program.display(), crate::spec::named(source))]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not know what is needed.
    #[error("criu {} is too old for {what}: that takes {}; install a newer one, or name one with --criu", Version(*.version), Version(*.needed))]
    Old {
        /// What is there.
        version: [i32; 3],
        /// What is needed for it.
        what: &'static str,
        /// Since when there is that.
        needed: [i32; 3],
    },
    /// This kernel, or criu, cannot do what an option asks for.
    #[error(
        "{option}: criu finds no {feature} in this kernel; leave it out, or boot a kernel with {config}"
    )]
    Lacks {
        /// The option.
        option: &'static str,
        /// What it needs.
        feature: &'static str,
        /// What has it.
        config: &'static str,
    },
    /// It does not speak as it should.
    #[error("criu's answer is not understood: {0}; install another version of it")]
    Answer(#[from] wire::Error),
    /// It says something that nobody asked for.
    #[error("criu answers {0}, which nobody asked for; install another version of it")]
    Unexpected(i32),
    /// It is gone.
    #[error("criu ended before it was done ({status}){log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it wrote.
        log: Log,
    },
    /// It could not do it. In runc's words.
    #[error("criu failed: type {what} errno {errno}{log}")]
    Failed {
        /// What it could not.
        what: &'static str,
        /// Its reason, as `man 3 errno` counts.
        errno: i32,
        /// What it wrote.
        log: Log,
    },
    /// The container does not run. In runc's words.
    #[error(
        "Container cannot be checkpointed in {0} state; only one that runs has processes to dump"
    )]
    State(&'static str),
    /// A directory of images that is none.
    #[error("{}: no checkpoint is there; name what `checkpoint --image-path` made", path.display())]
    NoCheckpoint {
        /// What was looked for.
        path: PathBuf,
    },
    /// A value that an option does not take.
    #[error("{option} {value:?}: {why}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// A namespace that criu cannot put processes into.
    #[error(
        "`linux.namespaces[{index}].path`: criu restores into no existing {kind} namespace; give the container one of its own"
    )]
    Namespace {
        /// Its place.
        index: usize,
        /// Its kind.
        kind: &'static str,
    },
    /// A terminal that nobody would have.
    #[error("the checkpoint has a terminal, and nobody is there to have it; give --console-socket")]
    NoConsole,
}

struct Version([i32; 3]);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, below] = self.0;
        write!(f, "{major}.{minor}")?;
        if below == 0 {
            return Ok(());
        }
        write!(f, ".{below}")
    }
}

/// What criu wrote about a failure.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Log {
    /// In its own words, beside the log.
    message: String,
    /// The log and its last error, if there is one.
    found: Option<(PathBuf, String)>,
}

impl Log {
    /// Reads the log at `path`.
    pub fn read(path: &Path, message: String) -> Self {
        let lines = std::fs::File::open(path).map(|file| io::BufReader::new(file).split(b'\n'));
        let lines = lines.into_iter().flatten().map_while(Result::ok);
        let found = last_error(lines.map(|it| String::from_utf8_lossy(&it).into_owned()));
        Self {
            message: message.trim_end().to_owned(),
            found: found.map(|line| (path.to_owned(), line)),
        }
    }
}

/// The last error that tells more than that there was one.
fn last_error(lines: impl Iterator<Item = String>) -> Option<String> {
    let errors = lines.filter(|it| it.contains("Error (") && !it.trim_end().ends_with("FAILED."));
    let last = errors.last()?;
    // Without the time, which is in parentheses.
    let at = last.find("Error (").unwrap_or(0);
    Some(last[at..].trim_end().to_owned())
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.found.as_ref().map_or("", |it| it.1.as_str());
        // criu's first error, and its last.
        let first = Some(self.message.as_str()).filter(|it| *it != line);
        for part in first.into_iter().chain([line]).filter(|it| !it.is_empty()) {
            write!(f, ": {part}")?;
        }
        f.write_str(remedy(&self.message, line))?;
        match &self.found {
            Some((path, _)) => write!(f, "; see {}", path.display()),
            None => f.write_str("; see what `criu check -v4` says"),
        }
    }
}

/// What the reader can do about a line of criu's.
fn remedy(first: &str, last: &str) -> &'static str {
    const KNOWN: [(&str, &str); 8] = [
        (
            "vdso",
            "; this criu does not know this kernel: install CRIU 4.1 or newer, or boot an older kernel",
        ),
        (
            "kerndat",
            "; this criu does not know this kernel: install CRIU 4.1 or newer, or boot an older kernel",
        ),
        (
            "has bad size",
            "; give it the file that the container wrote to, as it was then",
        ),
        ("TCP", "; it is connected: give --tcp-established"),
        ("tcp-established", "; give --tcp-established"),
        (
            "unix",
            "; if a socket leads out of the container, give --ext-unix-sk",
        ),
        ("lock", "; if files are locked, give --file-locks"),
        ("tty", "; if its terminal is the caller's, give --shell-job"),
    ];
    let says = |(part, _): &&(&str, &str)| first.contains(part) || last.contains(part);
    let known = KNOWN.iter().find(says);
    known.map_or("", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_that_says_something_is_told() {
        let log = "(00.1) Error (criu/a.c:1): first\n(00.2) Error (criu/tty.c:2): tty: dangling\n\
                   (00.3) bye\n(00.4) Error (criu/cr-dump.c:9): Dumping FAILED.\n";
        let line = last_error(log.lines().map(str::to_owned)).unwrap();
        assert_eq!(line, "Error (criu/tty.c:2): tty: dangling");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), log).unwrap();
        let told = Log::read(file.path(), String::new()).to_string();
        assert!(told.contains("tty: dangling; if its terminal"), "{told}");
        assert!(told.contains("--shell-job; see /"), "{told}");
        let none = Log::read("/nowhere/dump.log".as_ref(), String::new());
        assert_eq!(none, Log::default());
    }

    #[test]
    fn a_version_is_told_as_criu_tells_it() {
        let old = Error::Old {
            version: [3, 11, 0],
            what: "checkpoints",
            needed: [3, 15, 1],
        };
        assert!(
            old.to_string()
                .starts_with("criu 3.11 is too old for checkpoints: that takes 3.15.1;")
        );
    }
}

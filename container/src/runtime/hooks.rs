//! Running hooks: programs of the configuration's, with the container's state on standard input
//! (`config.md`, "POSIX-platform Hooks").

use std::ffi::{CString, OsStr};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::spec::Hook;
use crate::sys;

/// A hook that failed, in the words that callers look for.
#[derive(Debug, thiserror::Error)]
#[error("error running {kind} hook #{number}: {why}")]
pub struct Error {
    /// Its kind, as the configuration names it.
    pub kind: &'static str,
    /// Its place among those of its kind, from 0.
    pub number: usize,
    /// How it failed.
    #[source]
    pub why: Why,
}

/// How a hook failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It could not be run.
    #[error("hook {path}: {source}")]
    Run {
        /// Its program.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It did not succeed.
    #[error("hook {path} failed: {}{output}", ended(*.status))]
    Failed {
        /// Its program.
        path: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote on standard error, after `; `.
        output: String,
    },
    /// It took too long and was killed.
    #[error("hook {path} did not end within {seconds} s")]
    TimedOut {
        /// Its program.
        path: String,
        /// Its limit.
        seconds: i64,
    },
}

/// Runs hooks, one after the other, up to the first that fails. One without an environment of its own
/// has the inherited one, or else the caller's.
///
/// # Errors
/// That hook, and why.
pub fn run(
    kind: &'static str,
    hooks: &[Hook],
    state: &[u8],
    inherited: Option<&[CString]>,
) -> Result<(), Error> {
    hooks.iter().enumerate().try_for_each(|(number, hook)| {
        run_one(hook, state, inherited).map_err(|why| Error { kind, number, why })
    })
}

/// Runs every hook, whichever fail, as the hooks of a start and an end that have been (`runtime.md`,
/// "Lifecycle": "the remaining hooks and lifecycle continue as if the hook had succeeded").
pub fn run_all(kind: &'static str, hooks: &[Hook], state: &[u8]) -> Vec<Error> {
    let failure = |(number, hook)| {
        let why = run_one(hook, state, None).err()?;
        Some(Error { kind, number, why })
    };
    hooks.iter().enumerate().filter_map(failure).collect()
}

fn run_one(hook: &Hook, state: &[u8], inherited: Option<&[CString]>) -> Result<(), Why> {
    let failed = |source| Why::Run {
        path: hook.path.clone(),
        source,
    };
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    match (&hook.env, inherited) {
        (Some(env), _) => {
            command.env_clear();
            command.envs(env.iter().filter_map(|entry| entry.split_once('=')));
        }
        (None, Some(inherited)) => {
            command.env_clear();
            let entries = inherited.iter().map(|entry| entry.to_bytes());
            command.envs(entries.filter_map(|entry| {
                let at = entry.iter().position(|&byte| byte == b'=')?;
                let text = OsStr::from_bytes;
                Some((text(&entry[..at]), text(&entry[at + 1..])))
            }));
        }
        (None, None) => {}
    }
    let error = tempfile_like().map_err(failed)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(error.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A hook that does not read its state is none the worse for it.
        let _ = input.write_all(state);
    }
    if let Some(seconds) = hook.timeout
        && !ends_within(&child, seconds)
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(Why::TimedOut {
            path: hook.path.clone(),
            seconds,
        });
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(Why::Failed {
        path: hook.path.clone(),
        status,
        output: written(error),
    })
}

/// How a program ended, in the words that callers know: `exit status: 1`, `signal: bad system call`.
fn ended(status: std::process::ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return status.to_string();
    };
    let dumped = if status.core_dumped() {
        " (core dumped)"
    } else {
        ""
    };
    format!("signal: {}{dumped}", sys::describe_signal(signal))
}

/// A file without a name, for what a hook says.
fn tempfile_like() -> std::io::Result<std::fs::File> {
    let fd = nix::sys::memfd::memfd_create(c"hook", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    Ok(fd.into())
}

fn written(mut file: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut text = String::new();
    let _ = file.rewind();
    let _ = file.take(4096).read_to_string(&mut text);
    let text = text.trim();
    if text.is_empty() {
        String::new()
    } else {
        format!("; {text}")
    }
}

fn ends_within(child: &std::process::Child, seconds: i64) -> bool {
    let Ok(pidfd) = sys::pidfd_open(Pid::from_raw(child.id() as i32)) else {
        return true;
    };
    let end = Instant::now() + Duration::from_secs(seconds.unsigned_abs());
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let milliseconds = left.as_millis().min(60_000) as u16;
        let mut ready = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(milliseconds)) {
            Ok(count) if count > 0 => return true,
            _ if left.is_zero() => return false,
            _ => {}
        }
    }
}

//! Running hooks: programs of the configuration's, with the container's state on standard input
//! (`config.md`, "POSIX-platform Hooks").

use std::ffi::{CString, OsStr};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::spec::Hook;
use crate::sys;

/// A hook that failed, in the words that callers look for.
#[derive(Debug, thiserror::Error)]
#[error("error running {kind} hook #{number}: hook {path} (`hooks.{kind}[{number}]`) {why}")]
pub struct Error {
    /// Its kind, as the configuration names it.
    pub kind: &'static str,
    /// Its place among those of its kind, from 0.
    pub number: usize,
    /// Its program.
    pub path: String,
    /// How it failed.
    #[source]
    pub why: Why,
}

/// How a hook failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It could not be run.
    #[error("cannot be run: {errno}{}", remedy(*errno))]
    Run {
        /// The kernel's reason.
        errno: Errno,
    },
    /// It did not succeed.
    #[error("failed: {}{output}", ended(*.status))]
    Failed {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote on standard error, after `; `.
        output: String,
    },
    /// It took too long and was killed.
    #[error("did not end within {seconds} s; give it more `timeout`, or look what it waits for")]
    TimedOut {
        /// Its limit.
        seconds: i64,
    },
}

/// What the reader can do about a hook that cannot be run.
fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "; it or its interpreter is not there: mend its path, or install it",
        Errno::EACCES => "; it may not be executed: `chmod +x` it, or name a program",
        Errno::ENOEXEC => "; begin it with a line such as `#!/bin/sh`",
        _ => "",
    }
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
        run_one(hook, state, inherited).map_err(|why| failure(kind, number, hook, why))
    })
}

/// Runs every hook, whichever fail, as the hooks of a start and an end that have been (`runtime.md`,
/// "Lifecycle": "the remaining hooks and lifecycle continue as if the hook had succeeded").
pub fn run_all(kind: &'static str, hooks: &[Hook], state: &[u8]) -> Vec<Error> {
    let failed = |(number, hook)| {
        let why = run_one(hook, state, None).err()?;
        Some(failure(kind, number, hook, why))
    };
    hooks.iter().enumerate().filter_map(failed).collect()
}

fn failure(kind: &'static str, number: usize, hook: &Hook, why: Why) -> Error {
    let path = hook.path.clone();
    Error {
        kind,
        number,
        path,
        why,
    }
}

fn run_one(hook: &Hook, state: &[u8], inherited: Option<&[CString]>) -> Result<(), Why> {
    let failed = |error: std::io::Error| Why::Run {
        errno: super::executor::errno_of(&error),
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
    // No pipe: a hook that does not read it would keep us waiting, however long it may take.
    let mut input = tempfile_like().map_err(failed)?;
    input.write_all(state).map_err(failed)?;
    input.rewind().map_err(failed)?;
    command
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(error.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    if let Some(seconds) = hook.timeout
        && !ends_within(&child, seconds)
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(Why::TimedOut { seconds });
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(Why::Failed {
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

/// A file without a name, for what a hook is told and says.
fn tempfile_like() -> std::io::Result<std::fs::File> {
    let fd = nix::sys::memfd::memfd_create(c"hook", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    Ok(fd.into())
}

fn written(mut file: std::fs::File) -> String {
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

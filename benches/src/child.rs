//! A child process with a deadline: started, listened to, and never left behind.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::clock::monotonic_ns;
use crate::interrupt::Interrupt;

/// More output than any workload of ours writes, in bytes.
const OUTPUT_LIMIT: usize = 1 << 20;

/// Longest message of a child that is passed on, in characters.
const MESSAGE_LIMIT: usize = 500;

/// How long a child that was asked to end may take before it is made to.
const GRACE: Duration = Duration::from_secs(2);

/// How long to wait between two looks at whether a child that closed its output has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Why a child's run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It did not start.
    #[error("cannot run {program:?}: {source}")]
    Spawn {
        /// The program's file.
        program: OsString,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its output could not be read, or it could not be waited for.
    #[error("cannot follow the child process: {0}")]
    Follow(#[from] io::Error),
    /// It ran longer than it may.
    #[error("ended after {} s without a result", .0.as_secs())]
    Timeout(Duration),
    /// It wrote more than it may.
    #[error("wrote more than {OUTPUT_LIMIT} bytes")]
    TooMuchOutput,
    /// It failed, as its status says; the message is the last line that it wrote to standard error.
    #[error("{}", failure(status, message))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        message: String,
    },
    /// This process was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

fn failure(status: &ExitStatus, message: &str) -> String {
    if message.is_empty() {
        status.to_string()
    } else {
        message.to_owned()
    }
}

impl ChildError {
    /// The message; the child's own without the name that the command line puts before it.
    pub fn message(&self) -> String {
        let text = self.to_string();
        text.strip_prefix("ringside: ").unwrap_or(&text).to_owned()
    }
}

/// A running child, alone in its process group. Dropped early, it is asked to end, then made to.
#[derive(Debug)]
pub struct Child<'i> {
    child: process::Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    output: Vec<u8>,
    errors: Vec<u8>,
    spawned_ns: u64,
    limit: Duration,
    deadline: Instant,
    interrupt: &'i Interrupt,
    reaped: bool,
}

impl<'i> Child<'i> {
    /// Starts `command` with its three standard streams connected to this process. It has `limit`
    /// until it must have ended, and ends early when `interrupt` comes.
    ///
    /// # Errors
    ///
    /// [`ChildError::Spawn`].
    pub fn spawn(
        mut command: Command,
        limit: Duration,
        interrupt: &'i Interrupt,
    ) -> Result<Self, ChildError> {
        // A group of its own, so that all of it can be ended at once, and so that Ctrl-C reaches this
        // process only, which then decides. Nothing here keeps the standard library from using
        // posix_spawn, which does not copy our page tables as fork would.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let (spawned_ns, mut child) = spawn_when_not_busy(&mut command)?;
        Ok(Child {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            output: Vec::new(),
            errors: Vec::new(),
            spawned_ns,
            limit,
            deadline: Instant::now() + limit,
            interrupt,
            reaped: false,
        })
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `CLOCK_MONOTONIC` just before the child was started.
    pub fn spawned_ns(&self) -> u64 {
        self.spawned_ns
    }

    /// Reads what the child writes until `enough` of standard output is there, or both of its
    /// streams have ended; returns standard output so far.
    ///
    /// # Errors
    ///
    /// All but `Spawn` and `Failed`.
    pub fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> Result<&[u8], ChildError> {
        while !enough(&self.output) && (self.stdout.is_some() || self.stderr.is_some()) {
            self.wait_for_input()?;
        }
        Ok(&self.output)
    }

    /// Closes the child's standard input, reads to the end of its output and waits for its end;
    /// returns standard output.
    ///
    /// # Errors
    ///
    /// All but `Spawn`.
    pub fn finish(mut self) -> Result<Vec<u8>, ChildError> {
        drop(self.stdin.take());
        self.read_until(|_| false)?;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            self.check()?;
            thread::sleep(LOOK_AGAIN);
        };
        self.reaped = true;
        if !status.success() {
            let message = last_line(&self.errors);
            return Err(ChildError::Failed { status, message });
        }
        Ok(std::mem::take(&mut self.output))
    }

    /// Fails if the child may not go on.
    fn check(&self) -> Result<(), ChildError> {
        if self.interrupt.signal().is_some() {
            return Err(ChildError::Interrupted);
        }
        if Instant::now() >= self.deadline {
            return Err(ChildError::Timeout(self.limit));
        }
        Ok(())
    }

    /// Blocks until there is something to read (and reads it), or a reason to stop.
    fn wait_for_input(&mut self) -> Result<(), ChildError> {
        self.check()?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the deadline has passed when poll times out.
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let wanted = PollFlags::POLLIN;
        let mut sources = vec![PollFd::new(self.interrupt.as_fd(), wanted)];
        sources.extend(
            self.stdout
                .iter()
                .map(|out| PollFd::new(out.as_fd(), wanted)),
        );
        sources.extend(
            self.stderr
                .iter()
                .map(|err| PollFd::new(err.as_fd(), wanted)),
        );
        match poll(&mut sources, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        // An end of stream is POLLHUP without POLLIN.
        let mut ready = sources[1..]
            .iter()
            .map(|source| source.any().unwrap_or(false))
            .collect::<Vec<_>>()
            .into_iter();
        if self.stdout.is_some() && ready.next() == Some(true) {
            read_some(&mut self.stdout, &mut self.output)?;
        }
        if self.stderr.is_some() && ready.next() == Some(true) {
            read_some(&mut self.stderr, &mut self.errors)?;
        }
        self.check()
    }

    /// Waits for the child's end, but no longer than [`GRACE`], and leaves it to be reaped.
    fn wait_in_grace(&self) {
        let how = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let state = || waitid(Id::Pid(self.group()), how);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && state() == Ok(WaitStatus::StillAlive) {
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// The child's process group: it leads one.
    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        // Closed streams end whatever only waits for us. What runs behind a supervisor is the
        // supervisor's to clean up, so it gets the chance before SIGKILL takes it away, and with it
        // what it left in its group. Until the child is reaped, the group is surely its own.
        drop((self.stdin.take(), self.stdout.take(), self.stderr.take()));
        let _ = killpg(self.group(), Signal::SIGTERM);
        self.wait_in_grace();
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Starts `command`; returns the time just before.
///
/// A program that was just written is busy while another thread's child still holds the descriptor
/// that it was written through, between fork and exec. That passes.
fn spawn_when_not_busy(command: &mut Command) -> Result<(u64, process::Child), ChildError> {
    for _ in 0..1000 {
        let spawned_ns = monotonic_ns();
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(LOOK_AGAIN);
            }
            Err(source) => {
                let program = command.get_program().to_owned();
                return Err(ChildError::Spawn { program, source });
            }
            Ok(child) => return Ok((spawned_ns, child)),
        }
    }
    Err(ChildError::Spawn {
        program: command.get_program().to_owned(),
        source: io::ErrorKind::ExecutableFileBusy.into(),
    })
}

/// Reads once from `stream` into `all`; forgets the stream at its end.
fn read_some(stream: &mut Option<impl Read>, all: &mut Vec<u8>) -> Result<(), ChildError> {
    let mut buffer = [0; 4096];
    let count = match stream.as_mut().map(|stream| stream.read(&mut buffer)) {
        Some(Ok(count)) => count,
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
        Some(Err(error)) => return Err(error.into()),
        None => 0,
    };
    if count == 0 {
        *stream = None;
    }
    if all.len() + count > OUTPUT_LIMIT {
        return Err(ChildError::TooMuchOutput);
    }
    all.extend_from_slice(&buffer[..count]);
    Ok(())
}

/// The last line that says something: that is where programs put the cause. Without control
/// characters, since it ends up on a terminal.
fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().rev().map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let printable = line.chars().filter(|c| !c.is_control());
    printable.take(MESSAGE_LIMIT).collect()
}

#[cfg(test)]
mod tests;

//! How a command fails: with a message for people and a status for scripts.

use std::error::Error;
use std::fmt;

/// What went wrong, and which exit status says so.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error>,
    status: u8,
}

/// The status that a command ends with. (The standard library's own does not tell its number.)
#[derive(Clone, Copy, Debug)]
pub struct ExitCode(u8);

impl ExitCode {
    /// Done.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// Failed.
    pub const FAILURE: ExitCode = ExitCode(1);

    /// As the parent process sees it.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl From<u8> for ExitCode {
    fn from(number: u8) -> ExitCode {
        ExitCode(number)
    }
}

/// The command failed.
const FAILED: u8 = 1;
/// The command line makes no sense.
const BAD_USAGE: u8 = 2;
/// `ringside run` itself failed, as opposed to the command that it ran (as `env` and `chroot` do).
const RUN_FAILED: u8 = 125;

impl Failure {
    /// The command cannot be executed (as shells say it).
    pub const NOT_EXECUTABLE: u8 = 126;
    /// There is no such command.
    pub const NOT_FOUND: u8 = 127;

    /// A wrong value on the command line.
    pub fn usage(error: impl Into<Box<dyn Error>>) -> Failure {
        Failure {
            error: error.into(),
            status: BAD_USAGE,
        }
    }

    /// A failure before a command of the user's began.
    pub fn of_run(error: impl Into<Box<dyn Error>>) -> Failure {
        Failure {
            error: error.into(),
            status: RUN_FAILED,
        }
    }

    /// A failure with a status of its own.
    pub fn with_status(error: impl Into<Box<dyn Error>>, status: u8) -> Failure {
        Failure {
            error: error.into(),
            status,
        }
    }

    /// The same, of a command that runs something.
    pub fn in_run(self) -> Failure {
        Failure {
            status: RUN_FAILED,
            ..self
        }
    }

    /// A container that did not come to be, or whose command did not start.
    pub fn of_container(error: ringside_container::Error) -> Failure {
        let status = error.exit_code();
        Failure::with_status(error, status)
    }

    /// The same for a container that lives on.
    pub fn of_runtime(error: ringside_container::runtime::Error) -> Failure {
        let status = match &error {
            ringside_container::runtime::Error::NotExecuted { source, .. } => source.exit_code(),
            _ => RUN_FAILED,
        };
        Failure::with_status(error, status)
    }

    /// The status to exit with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure {
            error: error.into(),
            status: FAILED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut shown = self.error.to_string();
        let mut source = self.error.source();
        // Most messages tell their cause already.
        while let Some(error) = source {
            let text = error.to_string();
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
                shown.push_str(&text);
            }
            source = error.source();
        }
        Ok(())
    }
}

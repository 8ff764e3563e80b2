//! How a command ended (`man 2 wait`).

use std::fmt;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this status, 0 to 255.
    Exited(u8),
    /// A signal ended it.
    Signaled(u8),
}

impl ExitStatus {
    /// From what `waitpid` writes: signal in the low seven bits, status in the next byte.
    pub const fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Exited((status >> 8) as u8),
            signal => Self::Signaled(signal as u8),
        }
    }

    /// Whether it exited with 0.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// As shells have it: the status, or 128 plus the signal.
    pub const fn code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Signaled(signal) => {
                match nix::sys::signal::Signal::try_from(i32::from(*signal)) {
                    Ok(name) => write!(f, "killed by {name}"),
                    Err(_) => write!(f, "killed by signal {signal}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_told_apart() {
        assert_eq!(ExitStatus::from_wait_status(0x0300), ExitStatus::Exited(3));
        assert_eq!(
            ExitStatus::from_wait_status(libc::SIGKILL),
            ExitStatus::Signaled(9)
        );
        // With a core dump.
        assert_eq!(
            ExitStatus::from_wait_status(0x80 | libc::SIGSEGV),
            ExitStatus::Signaled(11)
        );
        assert_eq!(ExitStatus::Signaled(9).code(), 137);
        assert_eq!(ExitStatus::Signaled(64).code(), 192);
        assert!(!ExitStatus::Signaled(9).is_success() && ExitStatus::Exited(0).is_success());
        assert_eq!(ExitStatus::Signaled(15).to_string(), "killed by SIGTERM");
        assert_eq!(ExitStatus::Signaled(40).to_string(), "killed by signal 40");
    }
}

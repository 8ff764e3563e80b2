//! What the child tells the runtime, over a socket that keeps messages apart:
//!
//! ```text
//! 0     1      2      4     6       8        12      16            24        24 + length
//! ┌─────┬──────┬──────┬─────┬───────┬────────┬───────┬─────────────┬───────────┐
//! │ tag │ kind │ step │ call│ length│ errno  │ status│ nanoseconds │ detail …  │
//! └─────┴──────┴──────┴─────┴───────┴────────┴───────┴─────────────┴───────────┘
//! ```
//!
//! Numbers are in native order: both ends are the same program. The child writes from a fixed buffer,
//! because it must not allocate.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::diagnose::{Cause, Diagnosis};

/// Bytes before the detail.
const HEADER_BYTES: usize = 24;
/// The longest detail: an interpreter's path, cut if need be (`BINPRM_BUF_SIZE` is 256).
pub const DETAIL_MAX_BYTES: usize = 256;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation in the child"
)]
pub enum Report {
    /// A step has been taken.
    Step {
        /// Its index among init's steps of the plan.
        step: u16,
        /// How it went.
        outcome: StepOutcome,
        /// How long it took.
        nanoseconds: u64,
    },
    /// A step failed and the child is about to exit.
    Failed {
        /// Its index among init's steps of the plan.
        step: u16,
        /// Which of its calls, the alternative's ones after the others.
        call: u16,
        /// Why.
        errno: Errno,
    },
    /// The command could not be executed and the child is about to exit.
    NotExecuted {
        /// Which candidate decides.
        candidate: u16,
        /// What `execve` said.
        errno: Errno,
        /// What is behind it.
        diagnosis: Diagnosis,
    },
    /// The command runs, or nothing is left but to start it.
    Started,
    /// The runtime's hooks are to run now.
    AwaitsHooks,
    /// The command has ended, with this wait status (`man 2 wait`).
    Ended {
        /// As `waitpid` gives it.
        wait_status: i32,
    },
    /// The reason for the failure that follows, in words; cut if need be.
    Said {
        /// The words.
        text: String,
    },
    /// The filter of system calls has a listener, which is to be passed on.
    Listener {
        /// The descriptor, as the child numbers it.
        descriptor: i32,
    },
    /// A tree that is to be mounted, and that the runtime is to give its owners.
    Tree {
        /// The descriptor, as the child numbers it.
        descriptor: i32,
        /// Its place among the mounts that the plan has taken.
        mount: u16,
    },
    /// Another child has taken the place of this one, which is about to exit.
    Born {
        /// Its number.
        pid: i32,
    },
}

/// How a step went, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// As planned.
    Done,
    /// What it was about is not on this host.
    Absent,
    /// The kernel refused, and the alternative was taken.
    Alternative(Errno),
}

/// A message on its way.
#[derive(Debug)]
pub struct Frame {
    bytes: [u8; HEADER_BYTES + DETAIL_MAX_BYTES],
    length: usize,
}

impl Report {
    /// The message as bytes, without allocating.
    pub fn frame(&self) -> Frame {
        let mut frame = Frame {
            bytes: [0; HEADER_BYTES + DETAIL_MAX_BYTES],
            length: HEADER_BYTES,
        };
        match self {
            Self::Step {
                step,
                outcome,
                nanoseconds,
            } => {
                let (kind, errno) = match outcome {
                    StepOutcome::Done => (0, 0),
                    StepOutcome::Absent => (1, 0),
                    StepOutcome::Alternative(errno) => (2, *errno as i32),
                };
                frame.put(0, &[1, kind]);
                frame.put(2, &step.to_ne_bytes());
                frame.put(8, &errno.to_ne_bytes());
                frame.put(16, &nanoseconds.to_ne_bytes());
            }
            Self::Failed { step, call, errno } => {
                frame.put(0, &[2, 0]);
                frame.put(2, &step.to_ne_bytes());
                frame.put(4, &call.to_ne_bytes());
                frame.put(8, &(*errno as i32).to_ne_bytes());
            }
            Self::NotExecuted {
                candidate,
                errno,
                diagnosis,
            } => {
                frame.put(0, &[3, diagnosis.cause as u8]);
                frame.put(2, &candidate.to_ne_bytes());
                frame.put(8, &(*errno as i32).to_ne_bytes());
                let detail = diagnosis.interpreter();
                frame.put(6, &(detail.len() as u16).to_ne_bytes());
                frame.put(HEADER_BYTES, detail);
                frame.length += detail.len();
            }
            Self::Started => frame.put(0, &[4]),
            Self::AwaitsHooks => frame.put(0, &[7]),
            Self::Ended { wait_status } => {
                frame.put(0, &[5]);
                frame.put(12, &wait_status.to_ne_bytes());
            }
            Self::Born { pid } => {
                frame.put(0, &[8]);
                frame.put(12, &pid.to_ne_bytes());
            }
            Self::Said { text } => {
                frame.put(0, &[9]);
                let text = text.as_bytes();
                let text = &text[..text.len().min(DETAIL_MAX_BYTES)];
                frame.put(6, &(text.len() as u16).to_ne_bytes());
                frame.put(HEADER_BYTES, text);
                frame.length += text.len();
            }
            Self::Listener { descriptor } => {
                frame.put(0, &[6]);
                frame.put(12, &descriptor.to_ne_bytes());
            }
            Self::Tree { descriptor, mount } => {
                frame.put(0, &[10]);
                frame.put(2, &mount.to_ne_bytes());
                frame.put(12, &descriptor.to_ne_bytes());
            }
        }
        frame
    }

    /// The message in `bytes`; none if it is not one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, detail) = bytes.split_at_checked(HEADER_BYTES)?;
        let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let i32_at = |at: usize| {
            i32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let errno = Errno::from_raw(i32_at(8));
        Some(match header[0] {
            1 => Self::Step {
                step: u16_at(2),
                outcome: match header[1] {
                    0 => StepOutcome::Done,
                    1 => StepOutcome::Absent,
                    2 => StepOutcome::Alternative(errno),
                    _ => return None,
                },
                nanoseconds: u64::from_ne_bytes(header[16..24].try_into().ok()?),
            },
            2 => Self::Failed {
                step: u16_at(2),
                call: u16_at(4),
                errno,
            },
            3 => Self::NotExecuted {
                candidate: u16_at(2),
                errno,
                diagnosis: Diagnosis::new(
                    Cause::from_number(header[1])?,
                    detail.get(..u16_at(6).into())?,
                ),
            },
            4 => Self::Started,
            5 => Self::Ended {
                wait_status: i32_at(12),
            },
            9 => Self::Said {
                text: String::from_utf8_lossy(detail.get(..u16_at(6).into())?).into_owned(),
            },
            6 => Self::Listener {
                descriptor: i32_at(12),
            },
            7 => Self::AwaitsHooks,
            10 => Self::Tree {
                descriptor: i32_at(12),
                mount: u16_at(2),
            },
            8 => Self::Born { pid: i32_at(12) },
            _ => return None,
        })
    }

    /// Sends the message. A runtime that no longer listens is none of the child's business: it will be
    /// told by other means.
    pub fn send(&self, socket: BorrowedFd<'_>) {
        let frame = self.frame();
        let _ = nix::unistd::write(socket, frame.as_bytes());
    }

    /// Receives the next message; none when the other end is closed.
    ///
    /// # Errors
    /// `EBADMSG` for something that is no message, or what `read` gives.
    pub fn receive(socket: impl AsFd) -> Result<Option<Self>, Errno> {
        let mut bytes = [0; HEADER_BYTES + DETAIL_MAX_BYTES];
        loop {
            match nix::unistd::read(socket.as_fd(), &mut bytes) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
                Ok(length) => {
                    return Self::parse(&bytes[..length])
                        .map(Some)
                        .ok_or(Errno::EBADMSG);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Frame {
    fn put(&mut self, at: usize, field: &[u8]) {
        self.bytes[at..at + field.len()].copy_from_slice(field);
    }

    /// What goes over the socket.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Report> {
        vec![
            Report::Step {
                step: 7,
                outcome: StepOutcome::Done,
                nanoseconds: u64::MAX,
            },
            Report::Step {
                step: 8,
                outcome: StepOutcome::Absent,
                nanoseconds: 0,
            },
            Report::Step {
                step: 9,
                outcome: StepOutcome::Alternative(Errno::EINVAL),
                nanoseconds: 1,
            },
            Report::Failed {
                step: 300,
                call: 12,
                errno: Errno::EPERM,
            },
            Report::NotExecuted {
                candidate: 2,
                errno: Errno::ENOENT,
                diagnosis: Diagnosis::new(Cause::MissingInterpreter, b"/usr/bin/perl7"),
            },
            Report::Started,
            Report::AwaitsHooks,
            Report::Tree {
                descriptor: 9,
                mount: 3,
            },
            Report::Ended {
                wait_status: 0x7f00,
            },
        ]
    }

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let (ours, theirs) = crate::sys::socket_pair().unwrap();
        for report in all() {
            report.send(theirs.as_fd());
            assert_eq!(Report::receive(&ours), Ok(Some(report)));
        }
        drop(theirs);
        assert_eq!(Report::receive(&ours), Ok(None));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(Report::parse(&[]), None);
        assert_eq!(Report::parse(&[9; HEADER_BYTES]), None);
        for report in all() {
            let frame = report.frame();
            for length in 0..HEADER_BYTES {
                assert_eq!(Report::parse(&frame.as_bytes()[..length]), None);
            }
        }
        // A detail longer than the message.
        let mut bytes = all()[4].frame().as_bytes().to_vec();
        bytes[6..8].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(Report::parse(&bytes), None);
    }
}

//! Hearing that a group ran out of memory.
//!
//! Version 1 signals an eventfd that was registered by `EVENTFD CONTROLFD` in `cgroup.event_control`,
//! when the group runs out and once more when it is removed. Version 2 makes `memory.events` readable
//! by POLLPRI, and `cgroup.events` when the last process has gone.
//!
//! Sources: `cgroup-v1/memory.rst` (10, "OOM Control"), `cgroup-v2.rst` ("memory.events").

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::directory::reread;
use super::{Controller, Error, Group, Result, Version, freezer, memory, value};

/// Version 1: registers an eventfd for a control file.
const V1_EVENT_CONTROL: &str = "cgroup.event_control";
/// Version 1: the control file whose events are running out and being removed.
const V1_OOM_CONTROL: &str = "memory.oom_control";

/// What [`OomEvents::wait`] heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomEvent {
    /// The group ran out of memory. In version 1 this comes before the kernel has chosen whom to
    /// kill, so that the statistics may not show it yet.
    OutOfMemory,
    /// There will be no more events: the group was removed, or (version 2) its last process ended.
    Ended,
    /// The time was up.
    Nothing,
}

/// Events of one group.
#[derive(Debug)]
pub struct OomEvents {
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The eventfd, and the control file that tells whether the group is still there.
    V1 { event: EventFd, control: OwnedFd },
    /// `memory.events` and `cgroup.events`, and what they said last.
    V2 {
        memory: OwnedFd,
        group: OwnedFd,
        kills: u64,
        populated: bool,
    },
}

impl Group {
    /// Starts listening for the group's running out of memory.
    ///
    /// # Errors
    /// [`Error::NotJoined`] without the controller `memory`, or the kernel's refusal.
    pub fn oom_events(&self) -> Result<OomEvents> {
        let dir = self.joined(Controller::Memory)?;
        let open = |name: &str| {
            dir.open_file(name, OFlag::O_RDONLY)
                .map_err(|source| Error::Read {
                    path: dir.file(name),
                    source,
                })
        };
        let source = match dir.version() {
            Version::V1 => {
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let event = EventFd::from_flags(flags).map_err(|source| Error::System {
                    what: "make an eventfd",
                    source,
                })?;
                let control = open(V1_OOM_CONTROL)?;
                let registration = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
                dir.write(V1_EVENT_CONTROL, &registration)?;
                Source::V1 { event, control }
            }
            Version::V2 => {
                let mut source = Source::V2 {
                    memory: open(memory::V2_EVENTS)?,
                    group: open(freezer::V2_EVENTS)?,
                    kills: 0,
                    populated: false,
                };
                // Reading arms the notification; what happened before is not an event.
                source.news()?;
                source
            }
        };
        Ok(OomEvents { source })
    }
}

impl OomEvents {
    /// Waits for the next event, for ever without a `timeout`.
    ///
    /// # Errors
    /// [`Error::System`] when waiting fails.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<OomEvent> {
        let failed = |source| Error::System {
            what: "wait for memory events",
            source,
        };
        loop {
            let event = self.source.news()?;
            if event != OomEvent::Nothing {
                return Ok(event);
            }
            let limit = match timeout {
                None => PollTimeout::NONE,
                Some(t) => PollTimeout::try_from(t).unwrap_or(PollTimeout::MAX),
            };
            let interest = self.source.descriptors().into_iter().flatten();
            let mut fds: Vec<_> = interest.map(|(fd, flags)| PollFd::new(fd, flags)).collect();
            match poll(&mut fds, limit) {
                Ok(0) => return self.source.news(),
                Ok(_) => {}
                Err(Errno::EINTR) if timeout.is_none() => {}
                Err(Errno::EINTR) => return Ok(OomEvent::Nothing),
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// The descriptors to poll, each with the condition, for callers with an event loop of their
    /// own; then [`wait`](OomEvents::wait) with no time tells what it was.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.source.descriptors().into_iter().flatten()
    }
}

impl Source {
    fn descriptors(&self) -> [Option<(BorrowedFd<'_>, PollFlags)>; 2] {
        match self {
            Source::V1 { event, .. } => [Some((event.as_fd(), PollFlags::POLLIN)), None],
            Source::V2 { memory, group, .. } => {
                [memory, group].map(|fd| Some((fd.as_fd(), PollFlags::POLLPRI)))
            }
        }
    }

    /// What has happened since the last call.
    fn news(&mut self) -> Result<OomEvent> {
        let failed = |source| Error::System {
            what: "read memory events",
            source,
        };
        match self {
            Source::V1 { event, control } => match event.read() {
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(OomEvent::Nothing),
                Err(errno) => Err(failed(errno)),
                Ok(_) => match reread(control.as_fd()) {
                    Err(Errno::ENODEV) => Ok(OomEvent::Ended),
                    _ => Ok(OomEvent::OutOfMemory),
                },
            },
            Source::V2 {
                memory,
                group,
                kills,
                populated,
            } => {
                let read = |fd: &OwnedFd, key: &str| match reread(fd.as_fd()) {
                    Ok(text) => {
                        let text = value::keyed(&String::from_utf8_lossy(&text));
                        Ok(text.get(key).copied())
                    }
                    Err(Errno::ENODEV) => Ok(None),
                    Err(errno) => Err(failed(errno)),
                };
                let killed = read(memory, "oom_kill")?;
                if killed.is_some_and(|killed| killed > *kills) {
                    *kills = killed.unwrap_or(*kills);
                    return Ok(OomEvent::OutOfMemory);
                }
                let now = read(group, "populated")?;
                let ended = now.is_none() || (*populated && now == Some(0));
                *populated |= now == Some(1);
                Ok(if ended {
                    OomEvent::Ended
                } else {
                    OomEvent::Nothing
                })
            }
        }
    }
}

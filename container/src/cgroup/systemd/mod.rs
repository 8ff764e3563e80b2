//! The systemd driver: the group is a *scope*, a unit of systemd's for processes that it did not start.
//!
//! On a host with systemd every group belongs to it, and a group behind its back may lose its controllers
//! or its processes at the next `daemon-reload`. So systemd is asked for a scope of which it leaves the
//! inside alone (`Delegate`), and the rest is done in there as everywhere else: limits are files, and a
//! child enters at birth.
//!
//! ```text
//! runtime ── StartTransientUnit(machine.slice, PIDs = holder) ──▶ systemd: mkdir machine.slice/NAME.scope
//!         ── CLONE_INTO_CGROUP ──▶ init                           holder ──▶ that group
//!         ── kill holder                                          empty at the end: the scope goes by itself
//! ```
//!
//! A scope cannot begin empty, and a child cannot be born into a group that is not there yet: hence a
//! *holder*, a process that does nothing but be the first one in, until init is.
//!
//! The few messages that this takes are written here (`message`): a client library for D-Bus brings sixty
//! crates, an executor with threads, and nothing that six calls to one service need.
//!
//! Sources: systemd's "Control Group APIs and Delegation" and `org.freedesktop.systemd1(5)`; the names of
//! units are those that runc gives.

mod bus;
mod message;
mod properties;

use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use self::bus::Bus;
use self::message::{Body, Property, Target, Value};
use super::{Controllers, Group, Layout, Limits, Version, Wanted};
use crate::sys::{Clone3, Cloned, clone3, pidfd_send_signal};
use std::os::fd::AsFd;

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody answers.
    #[error(
        "cannot reach systemd at {}: {source}; is it running here? without it, leave out --systemd-cgroup",
        socket.display()
    )]
    NotReached {
        /// The socket that was tried last.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke in the middle.
    #[error("lost the connection to systemd: {0}; try again")]
    Broken(#[source] io::Error),
    /// systemd said no.
    #[error("systemd refuses {member}: {text} ({name})")]
    Refused {
        /// What it was asked.
        member: Box<str>,
        /// The error's name.
        name: String,
        /// Its words.
        text: String,
    },
    /// The unit is not what it was asked to become.
    #[error("the unit {unit} did not start, it is `{state}`; see `systemctl status {unit}`")]
    NotStarted {
        /// The unit.
        unit: Box<str>,
        /// Its state.
        state: String,
    },
    /// The configuration's `cgroupsPath` is not in three parts.
    #[error(
        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {0:?} instead"
    )]
    Path(String),
    /// A process could not be made to hold the scope.
    #[error("cannot make a process that holds the scope: {0}")]
    Holder(Errno),
}

/// Which unit, in which slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    slice: String,
    name: String,
    /// The container's part of the name.
    id: String,
}

impl Unit {
    /// From `slice:prefix:name`; each part but the name may be empty, and all of it, for `id` in the
    /// default slice.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn parse(cgroups_path: &str, id: &str, is_user: bool) -> Result<Self, Error> {
        let refuse = || Error::Path(cgroups_path.into());
        let (slice, prefix, name) = match *cgroups_path.split(':').collect::<Vec<_>>() {
            [""] => ("", "ringside", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => return Err(refuse()),
        };
        let is_name = |it: &str| !it.contains(['/', '\0']);
        if name.is_empty() || ![slice, prefix, name].iter().all(|it| is_name(it)) {
            return Err(refuse());
        }
        let default = if is_user {
            "user.slice"
        } else {
            "system.slice"
        };
        Ok(Self {
            slice: if slice.is_empty() { default } else { slice }.into(),
            name: match prefix {
                "" => format!("{name}.scope"),
                prefix => format!("{prefix}-{name}.scope"),
            },
            id: name.into(),
        })
    }

    /// The unit's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Whether the caller's own manager is the one to ask: for everybody but root, and root of a user
/// namespace.
pub fn is_user() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_whole = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    !nix::unistd::geteuid().is_root() || !(is_whole || map.is_empty())
}

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// How long a scope may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a manager of units.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
}

impl Manager {
    /// Connects to the system's manager, or to the caller's own.
    ///
    /// # Errors
    /// [`Error::NotReached`].
    pub fn connect(is_user: bool) -> Result<Self, Error> {
        let bus = Bus::connect(is_user)?;
        Ok(Self { bus })
    }

    fn call(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        body: &Body,
    ) -> Result<Vec<u8>, Error> {
        let destination = "org.freedesktop.systemd1";
        self.bus.call(
            &Target {
                destination,
                path,
                interface,
                member,
            },
            body,
        )
    }

    fn manage(&mut self, member: &str, body: &Body) -> Result<Vec<u8>, Error> {
        self.call("/org/freedesktop/systemd1", MANAGER, member, body)
    }

    /// Starts the scope with one process in it, and gives its group as systemd names it.
    fn start(
        &mut self,
        unit: &Unit,
        limits: &Limits,
        version: Version,
        pid: i32,
    ) -> Result<PathBuf, Error> {
        let text = |text: &str| Value::Text(text.into());
        let mut list: Vec<Property> = vec![
            (
                "Description",
                text(&format!("ringside container {}", unit.id)),
            ),
            ("Slice", text(&unit.slice)),
            ("Delegate", Value::Flag(true)),
            ("DefaultDependencies", Value::Flag(false)),
            // A scope that failed does not stay to be looked at.
            ("CollectMode", text("inactive-or-failed")),
            ("PIDs", Value::Numbers(vec![pid as u32])),
        ];
        list.extend(properties::accounting(version));
        list.extend(properties::of(limits, version));
        let body = Body::default()
            .text(&unit.name)
            .text("fail")
            .properties(&list)
            .no_units();
        self.manage("StartTransientUnit", &body)?;
        let unit_name = || Box::from(unit.name.as_str());
        let begun = Instant::now();
        loop {
            let state = self.property(&unit.name, "Unit", "ActiveState")?;
            match state.as_str() {
                "active" => break,
                "failed" => {
                    return Err(Error::NotStarted {
                        unit: unit_name(),
                        state,
                    });
                }
                _ if begun.elapsed() > PATIENCE => {
                    return Err(Error::NotStarted {
                        unit: unit_name(),
                        state,
                    });
                }
                _ => sleep(Duration::from_millis(1)),
            }
        }
        Ok(self.property(&unit.name, "Scope", "ControlGroup")?.into())
    }

    fn property(&mut self, unit: &str, kind: &str, name: &str) -> Result<String, Error> {
        let path = self.manage("GetUnit", &Body::default().text(unit))?;
        let path = message::text(&path).unwrap_or_default().to_owned();
        let interface = format!("org.freedesktop.systemd1.{kind}");
        let body = Body::default().text(&interface).text(name);
        let answer = self.call(&path, "org.freedesktop.DBus.Properties", "Get", &body)?;
        Ok(message::variant_text(&answer).unwrap_or_default().into())
    }

    /// Tells systemd of new limits, until the unit stops.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn update(&mut self, unit: &str, limits: &Limits, version: Version) -> Result<(), Error> {
        let list = properties::of(limits, version);
        if list.is_empty() {
            return Ok(());
        }
        let body = Body::default().text(unit).flag(true).properties(&list);
        self.manage("SetUnitProperties", &body).map(drop)
    }

    /// Stops a unit; one that is gone is no error.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn stop(&mut self, unit: &str) -> Result<(), Error> {
        match self.manage("StopUnit", &Body::default().text(unit).text("replace")) {
            Err(Error::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            other => other.map(drop),
        }
    }
}

/// A scope that was started.
#[derive(Debug)]
pub struct Scope {
    /// Its group, in every hierarchy that was asked for.
    pub group: Group,
    /// Who keeps it until somebody else is in it.
    pub holder: Holder,
}

impl Scope {
    /// Starts a scope, and makes its group in the hierarchies that systemd leaves out.
    ///
    /// # Errors
    /// systemd's, or those of [`Group::create`].
    pub fn start(
        layout: &Layout,
        unit: &Unit,
        is_user: bool,
        limits: &Limits,
        controllers: Controllers,
    ) -> super::Result<Self> {
        let mut manager = Manager::connect(is_user)?;
        let holder = Holder::new()?;
        let path = manager.start(unit, limits, version(layout), holder.0.pid.as_raw())?;
        let path = Path::new("/").join(path);
        let wanted = Wanted {
            all: controllers,
            needed: limits.controllers(),
        };
        let group = Group::create(layout, &path, wanted);
        let group = group.inspect_err(|_| drop(manager.stop(&unit.name)))?;
        Ok(Self {
            // Where systemd looks who is left of a scope, on version 1.
            group: group.with_named(layout, &path),
            holder,
        })
    }
}

/// The version whose properties systemd takes here: it puts all controllers into one.
pub fn version(layout: &Layout) -> Version {
    match layout
        .index_of(super::Controller::Memory)
        .map(|it| layout.hierarchies[it].version)
    {
        Some(Version::V1) => Version::V1,
        _ => Version::V2,
    }
}

/// A process that is in a scope and does nothing, until this is dropped.
#[derive(Debug)]
pub struct Holder(Cloned);

impl Holder {
    fn new() -> Result<Self, Error> {
        let wait = || {
            // Without us nobody would end it; if we are gone already, it is an orphan now.
            let dies_with_us = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            while dies_with_us.is_ok() {
                nix::unistd::pause();
            }
            1
        };
        clone3(&Clone3::default(), wait)
            .map(Self)
            .map_err(Error::Holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(self.0.pidfd.as_fd(), libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.0.pid, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: &str) -> Option<(String, String)> {
        let unit = Unit::parse(path, "id", false).ok()?;
        Some((unit.slice, unit.name))
    }

    #[test]
    fn a_path_in_three_parts_is_a_slice_and_a_scope() {
        let is = |path, slice: &str, name: &str| {
            assert_eq!(unit(path), Some((slice.into(), name.into())))
        };
        is(
            "machine.slice:libpod:abc",
            "machine.slice",
            "libpod-abc.scope",
        );
        is(":cri:abc", "system.slice", "cri-abc.scope");
        is("user.slice::abc", "user.slice", "abc.scope");
        is("", "system.slice", "ringside-id.scope");
    }

    #[test]
    fn a_path_in_other_parts_is_refused_with_the_words_of_runc() {
        for path in ["/a/b", "a:b", "a:b:c:d", "a:b:", "a:b:../c", "a/b:c:d"] {
            let error = Unit::parse(path, "id", false).unwrap_err().to_string();
            assert!(error.contains("of format \"slice:prefix:name\""), "{error}");
        }
    }
}

//! Namespaces that are there already: init is born into them.
//!
//! ```text
//! runtime ── clone3 ──▶ go-between: setns … setns, clone3(CLONE_PARENT) ──▶ init, the runtime's child
//! ```
//!
//! The runtime itself cannot enter a user namespace and come back, so a go-between enters all of them
//! and is gone when init is born. Its rights are the caller's until it enters the user namespace: what
//! belongs to the host is entered before, and what only that namespace's root may enter afterwards. The
//! mount namespace is the last one, as paths mean something else in it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2, read, write};

use super::Error;
use crate::namespace::Namespace;
use crate::plan::call::Call;
use crate::plan::lifecycle::LifeCall;
use crate::plan::step::Step;
use crate::spec;
use crate::start::reap;
use crate::sys::{self, Clone3, Cloned};

/// One namespace to enter.
struct Join {
    /// Its place in `linux.namespaces`.
    index: usize,
    kind: Namespace,
    path: PathBuf,
    file: OwnedFd,
}

/// The namespaces that a container shares, opened.
#[derive(Default)]
pub struct Joins(Vec<Join>);

/// What the go-between tells: the place of a namespace in the list, or one of these.
const CLONED: i32 = -1;
const NOT_CLONED: i32 = -2;

impl Joins {
    /// Opens one more: number `index` of `linux.namespaces`.
    ///
    /// # Errors
    /// A path that cannot be opened, or is a namespace of another kind.
    pub fn open(&mut self, index: usize, kind: Namespace, path: &Path) -> Result<(), Error> {
        let refuse = |why| {
            let field = format!("linux.namespaces[{index}].path");
            spec::Error::field(field, path.display(), why).into()
        };
        let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| failed(index, kind, path, errno))?;
        match sys::namespace_kind(file.as_fd()) {
            Ok(there) if there == kind.flag() => {}
            Ok(_) => return Err(refuse("it is a namespace of another type")),
            Err(_) => {
                return Err(refuse(
                    "it is no namespace; name a file such as /proc/PID/ns/net",
                ));
            }
        }
        self.0.push(Join {
            index,
            kind,
            path: path.into(),
            file,
        });
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Clones init into them.
    ///
    /// # Errors
    /// The namespace that cannot be entered.
    pub fn clone3(
        &self,
        what: &Clone3<'_>,
        child: impl FnOnce() -> i32,
    ) -> Result<Result<Cloned, Errno>, Error> {
        if self.is_empty() {
            return Ok(sys::clone3(what, child));
        }
        let (heard, told) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("pipe2"))?;
        let go_between = sys::clone3(&Clone3::default(), || {
            let (place, value) = match self.enter() {
                Err((place, errno)) => (place as i32, errno as i32),
                Ok(()) => {
                    let sibling = Clone3 {
                        namespaces: what.namespaces,
                        cgroup: what.cgroup,
                        is_sibling: true,
                    };
                    match sys::clone3(&sibling, child) {
                        Ok(init) => (CLONED, init.pid.as_raw()),
                        Err(errno) => (NOT_CLONED, errno as i32),
                    }
                }
            };
            let mut message = [0; 8];
            message[..4].copy_from_slice(&place.to_ne_bytes());
            message[4..].copy_from_slice(&value.to_ne_bytes());
            i32::from(write(&told, &message) != Ok(message.len()))
        })
        .map_err(Error::system("clone3"))?;
        reap(&go_between)?;
        let mut message = [0; 8];
        if read(&heard, &mut message) != Ok(message.len()) {
            return Err(Error::system("clone3")(Errno::ECHILD));
        }
        let number = |at: usize| {
            i32::from_ne_bytes([
                message[at],
                message[at + 1],
                message[at + 2],
                message[at + 3],
            ])
        };
        match (number(0), number(4)) {
            // Our own child, which nobody has waited for: the number is still its own.
            (CLONED, pid) => {
                let pid = Pid::from_raw(pid);
                let pidfd = sys::pidfd_open(pid).map_err(Error::system("pidfd_open"))?;
                Ok(Ok(Cloned { pid, pidfd }))
            }
            (NOT_CLONED, errno) => Ok(Err(Errno::from_raw(errno))),
            (place, errno) => {
                let it = &self.0[place as usize];
                Err(failed(it.index, it.kind, &it.path, Errno::from_raw(errno)))
            }
        }
    }

    /// Enters all of them, or tells which one cannot be entered.
    fn enter(&self) -> Result<(), (usize, Errno)> {
        let enter = |join: &Join| setns(&join.file, CloneFlags::from_bits_retain(join.kind.flag()));
        let is = |kind| move |join: &&(usize, &Join)| join.1.kind == kind;
        let all: Vec<_> = self.0.iter().enumerate().collect();
        let plain = all
            .iter()
            .filter(|it| !matches!(it.1.kind, Namespace::User | Namespace::Mount));
        let mut later = Vec::new();
        for &(place, join) in plain {
            match enter(join) {
                Err(Errno::EPERM) => later.push((place, join)),
                other => other.map_err(|errno| (place, errno))?,
            }
        }
        let users = all.iter().copied().find(|it| is(Namespace::User)(&it));
        let mounts = all.iter().copied().find(|it| is(Namespace::Mount)(&it));
        for (place, join) in users.into_iter().chain(later).chain(mounts) {
            enter(join).map_err(|errno| (place, errno))?;
        }
        Ok(())
    }
}

fn failed(index: usize, kind: Namespace, path: &Path, errno: Errno) -> Error {
    let path = path.to_owned();
    let call = Call::Life(LifeCall::Join { index, kind, path });
    let step = Step::runtime("join a namespace", "", vec![call])
        .asked_by(format!("linux.namespaces[{index}].path"));
    Error::Step(crate::Error::step(&step, 0, errno))
}

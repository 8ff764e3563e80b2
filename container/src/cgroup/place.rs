//! Making a group's directories: where they go, and what their parents must hand down.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use super::controller::InV2;
use super::directory::{Directory, PROCS, denial, read_all, writable};
use super::group::Existing;
use super::{Absence, Controllers, Error, Hierarchy, Layout, Result, Version, cpuset};

/// The controllers that a version 2 group gives to its children.
const SUBTREE_CONTROL: &str = "cgroup.subtree_control";
/// The controllers that a version 2 group has itself.
const CONTROLLERS: &str = "cgroup.controllers";

/// Where a new group is to go and what it needs.
pub(super) struct Site<'a> {
    pub layout: &'a Layout,
    pub hierarchy: &'a Hierarchy,
    /// Of those that were asked for, the ones in this hierarchy.
    pub wanted: Controllers,
}

/// Where a new group goes in one hierarchy.
pub(super) struct Place {
    pub path: PathBuf,
    /// Whether it will have its controllers without more ado.
    is_ready: bool,
}

/// Which of the controllers that are wanted a version 2 group gives to its children.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HandsDown {
    All,
    Some,
}

/// The contents of a control file, nothing if it cannot be read.
fn text(path: &Path) -> String {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let text = open(path, flags, Mode::empty()).and_then(|fd| read_all(fd.as_fd()));
    String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
}

/// Checks a group's path: at least one name, and no way out of the hierarchy.
pub(super) fn check_path(path: &Path) -> Result<()> {
    let fail = |why| {
        Err(Error::Path {
            path: path.into(),
            why,
        })
    };
    let bytes = path.as_os_str().as_bytes();
    let normal = |c: &Component<'_>| matches!(c, Component::Normal(_));
    if path.components().any(|c| matches!(c, Component::ParentDir)) {
        fail("it must not contain `..`")
    } else if !path.components().any(|c| normal(&c)) {
        fail("it must name a group below the topmost one")
    } else if bytes.contains(&b'\n') || bytes.contains(&0) {
        fail("it must not contain a newline or NUL")
    } else {
        Ok(())
    }
}

impl Site<'_> {
    /// Where the group `path` goes in this hierarchy.
    ///
    /// A relative path counts from this process's own group. In version 2, a group that has
    /// processes cannot give controllers to children; then the group goes beside our own instead of
    /// below it, or further up: to the nearest ancestor that already hands down what is wanted, or
    /// that is free to.
    pub fn place(&self, path: &Path) -> Result<Place> {
        let base = self.layout.base(self.hierarchy, path)?;
        let relative = path.strip_prefix("/").unwrap_or(path);
        if path.is_absolute() || self.hierarchy.version == Version::V1 {
            return Ok(Place {
                path: base.join(relative),
                is_ready: self.hierarchy.version == Version::V1,
            });
        }
        let top = &self.hierarchy.mount_point;
        let inside = |p: &&Path| p.starts_with(top);
        let mut hosts = base.ancestors().take_while(inside);
        let found = hosts.find_map(|host| Some((host, self.can_host(host)?)));
        let (host, hands_down) = found.ok_or_else(|| Error::InternalProcesses {
            path: base.into(),
            controllers: self.enabled_by_name(),
        })?;
        let path = host.join(relative);
        Ok(Place {
            is_ready: hands_down == HandsDown::All && path.parent() == Some(host),
            path,
        })
    }

    /// The wanted controllers that must be enabled from above.
    fn enabled_by_name(&self) -> Controllers {
        let named = |c: &_| matches!(super::Controller::in_v2(*c), InV2::Enabled(_));
        self.wanted.iter().filter(named).collect()
    }

    /// Whether `parent` can have a child with the controllers that are wanted.
    fn can_host(&self, parent: &Path) -> Option<HandsDown> {
        let list = |name| Controllers::parse(Version::V2, &text(&parent.join(name)));
        let missing = self.enabled_by_name().without(list(SUBTREE_CONTROL));
        if missing.is_empty() {
            return writable(parent).then_some(HandsDown::All);
        }
        // Only the true root of the hierarchy may have both; it alone has no cgroup.type.
        let free = text(&parent.join(PROCS)).is_empty() || !parent.join("cgroup.type").exists();
        let can = free
            && missing.without(list(CONTROLLERS)).is_empty()
            && writable(parent)
            && writable(&parent.join(SUBTREE_CONTROL));
        can.then_some(HandsDown::Some)
    }

    /// Makes the directory of `place` and what is missing above it, and adds what it made to `made`.
    /// `existing` says what becomes of one that is there.
    pub fn make(
        &self,
        place: &Place,
        existing: Existing,
        made: &mut Vec<PathBuf>,
    ) -> Result<Directory> {
        let path = &place.path;
        self.make_directory(path, existing, made)?;
        if let Some(parent) = path.parent().filter(|_| !place.is_ready) {
            self.hand_down(parent, self.enabled_by_name())?;
        }
        if self.hierarchy.version == Version::V1 && self.wanted.contains(super::Controller::Cpuset)
        {
            cpuset::inherit(&self.hierarchy.mount_point, path)?;
        }
        self.open(path)
    }

    /// Makes one directory, and the parents that are missing. That it is a cgroup is checked when it
    /// is opened: on a tmpfs `mkdir` succeeds as well, and means nothing.
    fn make_directory(
        &self,
        path: &Path,
        existing: Existing,
        made: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let inside = |p: &&Path| p.starts_with(&self.hierarchy.mount_point);
        let parent = path.parent().filter(inside);
        let make = || mkdir(path, Mode::from_bits_truncate(0o755));
        let done = match (make(), parent) {
            (Err(Errno::ENOENT), Some(parent)) => {
                self.make_directory(parent, Existing::Adopt, made)?;
                make()
            }
            (done, _) => done,
        };
        match done {
            Ok(()) => made.push(path.into()),
            Err(Errno::EEXIST) if existing != Existing::Refuse => {}
            Err(source) => {
                return Err(denial(path, source).unwrap_or(Error::Create {
                    path: path.into(),
                    source,
                }));
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> Result<Directory> {
        Directory::open(
            path.into(),
            self.hierarchy.version,
            self.wanted,
            self.layout.probe,
        )
    }

    /// Enables `wanted` for the children of the version 2 group `parent`, and where it does not
    /// have them itself, for the children of its own parent first.
    fn hand_down(&self, parent: &Path, wanted: Controllers) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let dir = self.open(parent)?;
        let list = |name| {
            dir.read(name)
                .map(|text| Controllers::parse(Version::V2, &text))
        };
        let missing = wanted.without(list(SUBTREE_CONTROL)?);
        let Some(first) = missing.iter().next() else {
            return Ok(());
        };
        let absent = missing.without(list(CONTROLLERS)?);
        if !absent.is_empty() {
            let above = parent
                .parent()
                .filter(|p| p.starts_with(&self.hierarchy.mount_point));
            let above = above.ok_or_else(|| Error::Missing {
                controller: absent.iter().next().unwrap_or(first),
                absence: Absence::NotHandedDown(parent.into()),
            })?;
            self.hand_down(above, absent)?;
        }
        let plus = |c| match super::Controller::in_v2(c) {
            InV2::Enabled(name) => Some(format!("+{name}")),
            _ => None,
        };
        let value = missing
            .iter()
            .filter_map(plus)
            .collect::<Vec<_>>()
            .join(" ");
        dir.write(SUBTREE_CONTROL, &value)
            .map_err(|error| match error.errno() {
                Some(Errno::EBUSY) => Error::InternalProcesses {
                    path: parent.into(),
                    controllers: missing,
                },
                Some(Errno::ENOENT) => Error::Missing {
                    controller: first,
                    absence: Absence::NotHandedDown(parent.into()),
                },
                Some(errno) => denial(&dir.file(SUBTREE_CONTROL), errno).unwrap_or(error),
                None => error,
            })
    }
}

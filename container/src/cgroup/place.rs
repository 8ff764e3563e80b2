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
    /// Of these, the ones without which there is to be no group.
    pub needed: Controllers,
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
    /// that is free to; where there is none, what is needed.
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
        let nearest = |controllers| {
            let mut hosts = base.ancestors().take_while(inside);
            hosts.find_map(|host| Some((host, self.can_host(host, controllers)?)))
        };
        let needed = enabled_by_name(self.needed);
        let found = nearest(enabled_by_name(self.wanted)).or_else(|| {
            let (host, _) = nearest(needed)?;
            Some((host, HandsDown::Some))
        });
        let (host, hands_down) = found.ok_or_else(|| Error::InternalProcesses {
            path: base.into(),
            controllers: needed,
        })?;
        let path = host.join(relative);
        Ok(Place {
            is_ready: hands_down == HandsDown::All && path.parent() == Some(host),
            path,
        })
    }

    /// Whether `parent` can have a child with these controllers.
    fn can_host(&self, parent: &Path, controllers: Controllers) -> Option<HandsDown> {
        let list = |name| Controllers::parse(Version::V2, &text(&parent.join(name)));
        let missing = controllers.without(list(SUBTREE_CONTROL));
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
        let mut has = self.wanted;
        if let Some(parent) = path.parent().filter(|_| !place.is_ready) {
            let enabled = enabled_by_name(self.wanted);
            has = has.without(enabled.without(self.hand_down(parent, enabled)?));
        }
        if self.hierarchy.version == Version::V1 && self.wanted.contains(super::Controller::Cpuset)
        {
            cpuset::inherit(&self.hierarchy.mount_point, path)?;
        }
        self.open(path, has)
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

    fn open(&self, path: &Path, controllers: Controllers) -> Result<Directory> {
        Directory::open(
            path.into(),
            self.hierarchy.version,
            controllers,
            self.layout.probe,
        )
    }

    /// Enables `wanted` for the children of the version 2 group `parent`, and where it does not
    /// have them itself, for the children of its own parent first. Gives those that the children have
    /// now: all that are needed, and of the others what this process may and can hand down.
    fn hand_down(&self, parent: &Path, wanted: Controllers) -> Result<Controllers> {
        if wanted.is_empty() {
            return Ok(wanted);
        }
        let dir = self.open(parent, wanted)?;
        let list = |name| {
            dir.read(name)
                .map(|text| Controllers::parse(Version::V2, &text))
        };
        let missing = wanted.without(list(SUBTREE_CONTROL)?);
        if missing.is_empty() {
            return Ok(wanted);
        }
        let mut absent = missing.without(list(CONTROLLERS)?);
        let above = parent
            .parent()
            .filter(|p| p.starts_with(&self.hierarchy.mount_point));
        if let Some(above) = above.filter(|_| !absent.is_empty()) {
            absent = absent.without(self.hand_down(above, absent)?);
        }
        let needed = missing.intersection(self.needed);
        if let Some(controller) = needed.intersection(absent).iter().next() {
            return Err(Error::Missing {
                controller,
                absence: Absence::NotHandedDown(parent.into()),
            });
        }
        let at_hand = missing.without(absent);
        if at_hand.is_empty() || self.enable(&dir, at_hand).is_ok() {
            return Ok(wanted.without(absent));
        }
        if !needed.is_empty() {
            self.enable(&dir, needed)?;
        }
        Ok(wanted.without(missing).union(needed))
    }

    /// Enables controllers that a version 2 group has for its children: all, or none.
    fn enable(&self, dir: &Directory, controllers: Controllers) -> Result<()> {
        let plus = |c| match super::Controller::in_v2(c) {
            InV2::Enabled(name) => Some(format!("+{name}")),
            _ => None,
        };
        let value: Vec<String> = controllers.iter().filter_map(plus).collect();
        let written = dir.write(SUBTREE_CONTROL, &value.join(" "));
        written.map_err(|error| match error.errno() {
            Some(Errno::EBUSY) => Error::InternalProcesses {
                path: dir.path().into(),
                controllers,
            },
            Some(errno) => denial(&dir.file(SUBTREE_CONTROL), errno).unwrap_or(error),
            None => error,
        })
    }
}

/// Those that must be enabled from above.
fn enabled_by_name(controllers: Controllers) -> Controllers {
    let named = |c: &_| matches!(super::Controller::in_v2(*c), InV2::Enabled(_));
    controllers.iter().filter(named).collect()
}

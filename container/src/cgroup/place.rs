//! Making a group's directories: where they go, and what their parents must hand down.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};

use super::controller::InV2;
use super::directory::{Directory, PROCS, denial, writable};
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
    /// The directory for the group `path` in this hierarchy.
    ///
    /// A relative path counts from this process's own group. In version 2, a group that has
    /// processes cannot give controllers to children; then the group goes beside our own instead of
    /// below it, or further up: to the nearest ancestor that already hands down what is wanted, or
    /// that is free to.
    pub fn directory(&self, path: &Path) -> Result<PathBuf> {
        let base = self.layout.base(self.hierarchy, path)?;
        let relative = path.strip_prefix("/").unwrap_or(path);
        if path.is_absolute() || self.hierarchy.version == Version::V1 {
            return Ok(base.join(relative));
        }
        let top = &self.hierarchy.mount_point;
        let inside = |p: &&Path| p.starts_with(top);
        let host = base
            .ancestors()
            .take_while(inside)
            .find(|p| self.can_host(p));
        match host {
            Some(host) => Ok(host.join(relative)),
            None => Err(Error::InternalProcesses {
                path: base.into(),
                controllers: self.enabled_by_name(),
            }),
        }
    }

    /// The wanted controllers that must be enabled from above.
    fn enabled_by_name(&self) -> Controllers {
        let named = |c: &_| matches!(super::Controller::in_v2(*c), InV2::Enabled(_));
        self.wanted.iter().filter(named).collect()
    }

    fn can_host(&self, parent: &Path) -> bool {
        let list = |name| {
            let text = std::fs::read_to_string(parent.join(name)).unwrap_or_default();
            Controllers::parse(Version::V2, &text)
        };
        let missing = self.enabled_by_name().without(list(SUBTREE_CONTROL));
        if missing.is_empty() {
            return writable(parent);
        }
        let procs = std::fs::read_to_string(parent.join(PROCS)).unwrap_or_default();
        // Only the true root of the hierarchy may have both; it alone has no cgroup.type.
        let free = procs.is_empty() || !parent.join("cgroup.type").exists();
        free && missing.without(list(CONTROLLERS)).is_empty()
            && writable(parent)
            && writable(&parent.join(SUBTREE_CONTROL))
    }

    /// Makes the directory `path` and what is missing above it, and adds what it made to `made`.
    /// An existing directory is taken over unless `fresh` is set.
    pub fn make(&self, path: &Path, fresh: bool, made: &mut Vec<PathBuf>) -> Result<Directory> {
        self.make_directory(path, fresh, made)?;
        if self.hierarchy.version == Version::V2
            && let Some(parent) = path.parent()
        {
            self.hand_down(parent, self.enabled_by_name())?;
        }
        if self.hierarchy.version == Version::V1 && self.wanted.contains(super::Controller::Cpuset)
        {
            cpuset::inherit(&self.hierarchy.mount_point, path)?;
        }
        self.open(path)
    }

    /// Makes one directory, and the parents that are missing. Each parent is checked to be a cgroup
    /// first: on a tmpfs `mkdir` would succeed, and mean nothing.
    fn make_directory(&self, path: &Path, fresh: bool, made: &mut Vec<PathBuf>) -> Result<()> {
        let fail = |source| {
            denial(path, source).unwrap_or(Error::Create {
                path: path.into(),
                source,
            })
        };
        let inside = |p: &&Path| p.starts_with(&self.hierarchy.mount_point);
        let (Some(parent), Some(name)) = (path.parent().filter(inside), path.file_name()) else {
            return Err(fail(Errno::ENOENT));
        };
        let parent = match self.open(parent) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                self.make_directory(parent, false, made)?;
                self.open(parent)?
            }
            other => other?,
        };
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => made.push(path.into()),
            Err(Errno::EEXIST) if !fresh => {}
            Err(errno) => return Err(fail(errno)),
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
        let list = |name| Ok(Controllers::parse(Version::V2, &dir.read(name)?));
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

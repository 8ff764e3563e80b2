//! Where this host keeps its control groups: version 1, version 2, or some of both.
//!
//! ```text
//! v1                               hybrid                             v2 ("unified")
//! /sys/fs/cgroup        tmpfs      /sys/fs/cgroup         tmpfs       /sys/fs/cgroup   cgroup2
//!   cpu,cpuacct/        cgroup       cpu/ memory/ pids/   cgroup        (one tree, all controllers)
//!   memory/             cgroup       unified/             cgroup2
//!   pids/  …            cgroup       (each controller in one of the two)
//! ```
//!
//! Nothing is concluded from these paths, though. `/proc/self/mountinfo` says what is mounted where
//! with which controllers, `statfs` says whether that is still true (another file system may be
//! mounted on top; on some hosts `/sys/fs/cgroup` is a tmpfs in which `mkdir` happily makes plain
//! directories), and `/proc/self/cgroup` says in which group of each hierarchy we are ourselves.

use std::cmp::Reverse;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode as FileMode;

use super::controller::InV2;
use super::directory::{Probe, read_all};
use super::mountinfo::{self, Mount};
use super::{Absence, Controller, Controllers, Error, Result, Version};

/// One mounted tree of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Which interface it has.
    pub version: Version,
    /// Its controllers: fixed in version 1; in version 2 those that its topmost visible group has.
    pub controllers: Controllers,
    /// The name of a version 1 hierarchy that was given one, such as `systemd`.
    pub name: Option<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which group of the tree is mounted there: `/`, or in a container often a part of it.
    pub root: PathBuf,
    /// The directory of the group that this process is in, or why it cannot be told.
    pub own: Result<PathBuf, &'static str>,
}

impl Hierarchy {
    /// The directory of a process's group, from the contents of its `/proc/PID/cgroup`.
    fn directory_of(&self, text: &[u8]) -> Result<PathBuf, &'static str> {
        let name = self.name.as_deref();
        let path = mountinfo::path_in(text, self.version, self.controllers, name)?;
        mountinfo::directory_of(&self.mount_point, &self.root, &path)
    }

    /// Whether both are views of one tree; of version 2 there is only one.
    fn is_same_as(&self, other: &Hierarchy) -> bool {
        let v1 = (self.controllers, &self.name) == (other.controllers, &other.name);
        self.version == other.version && (self.version == Version::V2 || v1)
    }
}

/// Which versions a host has mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No control groups at all.
    None,
    /// Version 1 only.
    V1,
    /// Version 2 only.
    V2,
    /// Both, with controllers split between them.
    Hybrid,
}

/// The hierarchies of this host, as this process sees them.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(super) hierarchies: Vec<Hierarchy>,
    /// Whether directories must be on a cgroup file system: always, save in unit tests that work on
    /// a fake tree in a temporary directory.
    pub(super) probe: Probe,
}

impl Layout {
    /// Finds the hierarchies of this host. Costs about 100 µs; keep the result.
    ///
    /// # Errors
    /// When `/proc` cannot be read. A host without control groups is not an error: its layout has no
    /// hierarchies, and every controller is reported as missing.
    pub fn detect() -> Result<Layout> {
        let mounts = mountinfo::parse(&read("/proc/self/mountinfo".into())?);
        let own = match read("/proc/self/cgroup".into()) {
            // A kernel built without control groups has no such file.
            Err(error) if error.errno() == Some(Errno::ENOENT) => Vec::new(),
            other => other?,
        };
        Ok(Layout::from_parts(&mounts, &own, Probe::Magic))
    }

    /// The same from the contents of the two files of `/proc`. Mounts that `probe` does not confirm
    /// are left out.
    pub(super) fn from_parts(mounts: &[Mount], own: &[u8], probe: Probe) -> Layout {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mounts {
            let Some(version) = mount.version() else {
                continue;
            };
            if !probe.confirms(mount) {
                continue;
            }
            let controllers = match version {
                Version::V1 => Controllers::parse(version, &mount.super_options),
                Version::V2 => {
                    let list = read(mount.mount_point.join("cgroup.controllers"));
                    let list = list.unwrap_or_default();
                    Controllers::parse(version, &String::from_utf8_lossy(&list))
                }
            };
            let mut found = Hierarchy {
                version,
                controllers,
                name: mount.v1_name().map(str::to_owned),
                mount_point: mount.mount_point.clone(),
                root: mount.root.clone(),
                own: Err(""),
            };
            found.own = found.directory_of(own);
            // The same hierarchy may be mounted several times: keep the view that shows our own
            // group, of those the one that shows most, of those the first.
            let rank = |h: &Hierarchy| (h.own.is_ok(), Reverse(h.root.components().count()));
            match hierarchies
                .iter_mut()
                .find(|known| known.is_same_as(&found))
            {
                Some(known) if rank(&found) > rank(known) => *known = found,
                Some(_) => {}
                None => hierarchies.push(found),
            }
        }
        Layout { hierarchies, probe }
    }

    /// All hierarchies, in the order in which they were mounted.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Which versions are mounted. A version 1 hierarchy without controllers (systemd's) does not
    /// make a host hybrid.
    pub fn mode(&self) -> Mode {
        let has = |version| {
            let counts = |h: &&Hierarchy| version == Version::V2 || !h.controllers.is_empty();
            let mut of_version = self.hierarchies.iter().filter(|h| h.version == version);
            of_version.any(|h| counts(&h))
        };
        match (has(Version::V1), has(Version::V2)) {
            (false, false) => Mode::None,
            (true, false) => Mode::V1,
            (false, true) => Mode::V2,
            (true, true) => Mode::Hybrid,
        }
    }

    /// The version 2 hierarchy, if it is mounted.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.version == Version::V2)
    }

    /// The controllers that this process can find on this host, in whichever hierarchy.
    pub fn controllers(&self) -> Controllers {
        Controller::ALL
            .into_iter()
            .filter(|c| self.index_of(*c).is_some())
            .collect()
    }

    /// The hierarchy in which `controller` works. The kernel binds a controller to one hierarchy at
    /// a time; what every version 2 group has (freezing, device programs, accounting) is taken from
    /// version 1 where that is mounted, since other tools look there.
    ///
    /// # Errors
    /// [`Error::Missing`] with the reason and the remedy.
    pub fn home(&self, controller: Controller) -> Result<&Hierarchy> {
        let index = self
            .index_of(controller)
            .ok_or_else(|| self.missing(controller))?;
        Ok(&self.hierarchies[index])
    }

    pub(super) fn index_of(&self, controller: Controller) -> Option<usize> {
        let v1 = |h: &Hierarchy| h.version == Version::V1 && h.controllers.contains(controller);
        let v2 = |h: &Hierarchy| {
            h.version == Version::V2
                && (h.controllers.contains(controller) || controller.in_v2() == InV2::Always)
        };
        let position = |test: &dyn Fn(&Hierarchy) -> bool| self.hierarchies.iter().position(test);
        position(&v1).or_else(|| position(&v2))
    }

    pub(super) fn missing(&self, controller: Controller) -> Error {
        let known = fs::read_to_string("/proc/cgroups").unwrap_or_default();
        Error::Missing {
            controller,
            absence: Absence::diagnose(controller, self, &known),
        }
    }

    /// The directories of the groups that another process is in now, one for each hierarchy in which
    /// they can be seen.
    ///
    /// # Errors
    /// [`Error::Read`] when there is no such process.
    pub fn directories_of(&self, pid: i32) -> Result<Vec<PathBuf>> {
        let text = read(format!("/proc/{pid}/cgroup").into())?;
        let each = self.hierarchies.iter();
        Ok(each.filter_map(|h| h.directory_of(&text).ok()).collect())
    }

    /// The directory of the group `path` in `hierarchy`: absolute paths count from the mount point,
    /// relative ones from this process's own group.
    pub(super) fn base<'a>(&self, hierarchy: &'a Hierarchy, path: &Path) -> Result<&'a Path> {
        if path.is_absolute() {
            return Ok(&hierarchy.mount_point);
        }
        hierarchy.own.as_deref().map_err(|why| Error::NoOwnGroup {
            hierarchy: hierarchy.mount_point.clone(),
            why,
        })
    }
}

fn read(path: PathBuf) -> Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let text = open(&path, flags, FileMode::empty()).and_then(|fd| read_all(fd.as_fd()));
    text.map_err(|source| Error::Read { path, source })
}

#[cfg(test)]
mod tests;

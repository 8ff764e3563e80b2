//! A group: one directory in each hierarchy that it needs.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use super::directory::{Directory, PROCS};
use super::place::{self, Site};
use super::{
    Controller, Controllers, Entrance, Error, FreezerState, Layout, Limits, Result, Stats, Version,
    freezer, tree,
};

/// How often a process that cannot be moved yet is tried.
const ADD_TRIES: u32 = 6;
const ADD_PAUSE: Duration = Duration::from_millis(10);

/// Which controllers a new group is to have.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// All that it is to have where it can.
    pub all: Controllers,
    /// Those without which it is not to be. A user's group, which is lent by systemd, has few.
    pub needed: Controllers,
}

/// All of them needed.
impl From<Controllers> for Wanted {
    fn from(all: Controllers) -> Self {
        Self { all, needed: all }
    }
}

/// Which controllers a group was asked to join, and with them which hierarchies.
///
/// ```text
/// Group "demo" with cpu, memory and pids
///   on v1       /sys/fs/cgroup/cpu/demo   /sys/fs/cgroup/memory/demo   /sys/fs/cgroup/pids/demo
///   on v2       /sys/fs/cgroup/demo
/// ```
///
/// A `Group` holds open descriptors, not the group itself: dropping it changes nothing.
#[derive(Debug)]
pub struct Group {
    directories: Vec<Directory>,
}

impl Group {
    /// Makes the group `path` (and its parents) in the hierarchies of `controllers`, or takes it
    /// over where it exists. Other hierarchies are not touched: each `mkdir` costs 10 to 100 µs.
    ///
    /// An absolute path counts from each hierarchy's mount point, as in the OCI configuration; a
    /// relative one from the calling process's own group (version 2: from the nearest ancestor that
    /// may have children with these controllers, since groups with processes may not).
    ///
    /// # Errors
    /// A controller that the host lacks, a path with `..`, no permission. What was made before the
    /// error is removed again.
    pub fn create(
        layout: &Layout,
        path: impl AsRef<Path>,
        controllers: impl Into<Wanted>,
    ) -> Result<Group> {
        Group::make(layout, path.as_ref(), controllers.into(), Existing::Adopt)
    }

    /// As [`create`](Group::create), for a group that nobody may be in yet: an existing directory is
    /// taken over only when it has no processes, none of its children has, and it is not frozen.
    ///
    /// # Errors
    /// As [`create`](Group::create); [`Error::Occupied`] or [`Error::Frozen`].
    pub fn create_vacant(
        layout: &Layout,
        path: impl AsRef<Path>,
        controllers: impl Into<Wanted>,
    ) -> Result<Group> {
        let existing = Existing::AdoptVacant;
        Group::make(layout, path.as_ref(), controllers.into(), existing)
    }

    /// The same group in the hierarchies of version 1 with a name and no controllers (systemd's) as well, where
    /// the caller may make it: whoever looks for a container's processes there finds them.
    #[must_use]
    pub fn with_named(mut self, layout: &Layout, path: impl AsRef<Path>) -> Group {
        for site in named(layout) {
            let made = Group::make_at(&[site], path.as_ref(), Existing::Adopt);
            self.directories.extend(made.unwrap_or_default());
        }
        self
    }

    pub(super) fn make(
        layout: &Layout,
        path: &Path,
        wanted: Wanted,
        existing: Existing,
    ) -> Result<Group> {
        place::check_path(path)?;
        let sites = sites(layout, wanted)?;
        let directories = Group::make_at(&sites, path, existing)?;
        Ok(Group { directories })
    }

    fn make_at(sites: &[Site<'_>], path: &Path, existing: Existing) -> Result<Vec<Directory>> {
        let mut made = Vec::new();
        let mut directories = Vec::new();
        for site in sites {
            let place = site.place(path);
            let directory = place.and_then(|place| site.make(&place, existing, &mut made));
            match directory.and_then(|dir| vacant(dir, existing, &made)) {
                Ok(directory) => directories.push(directory),
                Err(error) => {
                    // The children come last in the list. Somebody else may already use a parent.
                    for path in made.iter().rev() {
                        let _ = std::fs::remove_dir(path);
                    }
                    return Err(error);
                }
            }
        }
        Ok(directories)
    }

    /// Opens a group that exists in the hierarchies of `controllers`.
    ///
    /// # Errors
    /// As [`create`](Group::create), and when a directory is not there.
    pub fn open(
        layout: &Layout,
        path: impl AsRef<Path>,
        controllers: Controllers,
    ) -> Result<Group> {
        place::check_path(path.as_ref())?;
        let open = |site: Site<'_>| {
            let path = site.place(path.as_ref())?.path;
            let version = site.hierarchy.version;
            Directory::open(path, version, site.wanted, layout.probe)?.with_what_it_has()
        };
        let directories = sites(layout, controllers.into())?.into_iter().map(open);
        Ok(Group {
            directories: directories.collect::<Result<_>>()?,
        })
    }

    /// Opens a group by the directories that [`paths`](Group::paths) gave once, whatever group the
    /// caller is in by now. Directories that are gone are left out.
    ///
    /// # Errors
    /// A directory outside of every hierarchy of `layout`, or one that cannot be opened.
    pub fn from_paths<P: AsRef<Path>>(
        layout: &Layout,
        paths: impl IntoIterator<Item = P>,
        controllers: Controllers,
    ) -> Result<Group> {
        let mut directories = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let inside = |h: &&super::Hierarchy| {
                // The topmost group is a group as well.
                path.strip_prefix(&h.mount_point).is_ok_and(|rest| {
                    rest.as_os_str().is_empty() || place::check_path(rest).is_ok()
                })
            };
            // Of nested mounts the innermost one counts.
            let depth = |h: &&super::Hierarchy| h.mount_point.components().count();
            let hierarchy = layout.hierarchies.iter().filter(inside).max_by_key(depth);
            let hierarchy = hierarchy.ok_or_else(|| Error::Path {
                path: path.into(),
                why: "it is not below any mounted cgroup hierarchy",
            })?;
            let here = |c: &Controller| {
                controllers.contains(*c) && layout.home(*c).is_ok_and(|home| home == hierarchy)
            };
            let joined = Controller::ALL.into_iter().filter(here).collect();
            match Directory::open(path.into(), hierarchy.version, joined, layout.probe) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                other => directories.push(other?.with_what_it_has()?),
            }
        }
        Ok(Group { directories })
    }

    /// A group without directories: what is left of one that was removed, or what a user has who was
    /// given none.
    pub fn none() -> Group {
        Group {
            directories: Vec::new(),
        }
    }

    /// The group of a single directory.
    pub(super) fn of(directory: Directory) -> Group {
        Group {
            directories: vec![directory],
        }
    }

    /// The group's directories, one for each hierarchy that it joined.
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// Their paths, to be written down and given to [`from_paths`](Group::from_paths) later.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(Directory::path)
    }

    /// The controllers that the group joined.
    pub fn controllers(&self) -> Controllers {
        let each = self.directories.iter().map(Directory::controllers);
        each.fold(Controllers::NONE, Controllers::union)
    }

    /// The directory in which `controller` works, if the group joined it.
    pub fn directory(&self, controller: Controller) -> Option<&Directory> {
        self.directories
            .iter()
            .find(|d| d.controllers().contains(controller))
    }

    /// The same as an error for those who cannot do without.
    pub(super) fn joined(&self, controller: Controller) -> Result<&Directory> {
        self.directory(controller).ok_or_else(|| Error::NotJoined {
            controller,
            path: self.paths().next().map(PathBuf::from).unwrap_or_default(),
        })
    }

    /// The version 2 directory for `clone3` with `CLONE_INTO_CGROUP`, which starts a child in the
    /// group without a move. Version 1 hierarchies still need an [`Entrance`].
    pub fn directory_fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.unified().map(Directory::as_fd)
    }

    pub(super) fn unified(&self) -> Option<&Directory> {
        self.directories.iter().find(|d| d.version() == Version::V2)
    }

    /// Validates `limits` and writes what is set in them.
    ///
    /// # Errors
    /// An invalid value, a controller that the group did not join, a knob that this version lacks,
    /// or whatever the kernel says to the value. Earlier values stay written.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        limits.validate()?;
        limits.apply(self)
    }

    /// Moves a process with all its threads into the group.
    ///
    /// The kernel stops every fork and exit on the machine for this and waits for an RCU grace
    /// period: 7 to 15 ms on the hosts measured. A process that moves *itself* while it has one
    /// thread needs no such wait: see [`entrance`](Group::entrance).
    ///
    /// # Errors
    /// [`Error::Write`] with the directory that refused.
    pub fn add(&self, pid: i32) -> Result<()> {
        if pid <= 0 {
            return Err(Error::invalid("process number", pid, "it must be positive"));
        }
        let pid = pid.to_string();
        self.directories.iter().try_for_each(|dir| {
            // A process that was forked this very moment cannot be moved yet: the kernel says EINVAL
            // (`TASK_NEW`).
            for _ in 1..ADD_TRIES {
                match dir.write(PROCS, &pid) {
                    Err(error) if error.errno() == Some(Errno::EINVAL) => sleep(ADD_PAUSE),
                    other => return other,
                }
            }
            dir.write(PROCS, &pid)
        })
    }

    /// Opens the files by which a forked child moves itself into the group in a few µs.
    ///
    /// # Errors
    /// [`Error::Write`] with the file that cannot be opened.
    pub fn entrance(&self) -> Result<Entrance> {
        Entrance::open(self.directories.iter())
    }

    /// The same for a child that is born in the version 2 directory, see [`directory_fd`](Group::directory_fd):
    /// the way into the others.
    ///
    /// # Errors
    /// As [`entrance`](Group::entrance).
    pub fn entrance_v1(&self) -> Result<Entrance> {
        let is_v1 = |it: &&Directory| it.version() == Version::V1;
        Entrance::open(self.directories.iter().filter(is_v1))
    }

    /// The processes of the group and of all groups below it, each once; 0 stands for those that
    /// live outside of the caller's pid namespace.
    ///
    /// # Errors
    /// [`Error::Read`] with the file.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut all = BTreeSet::new();
        for dir in &self.directories {
            all.extend(tree::processes(dir)?);
        }
        Ok(all.into_iter().collect())
    }

    /// Reads what the group has used so far.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Malformed`] with the file.
    pub fn stats(&self) -> Result<Stats> {
        Stats::read(self)
    }

    /// Removes the group and all groups below it, the innermost first. Processes that are about to
    /// end are waited for, up to two seconds. Removing what is gone already succeeds.
    ///
    /// # Errors
    /// [`Error::Busy`] with the processes that are still there.
    pub fn remove(&self) -> Result<()> {
        self.directories.iter().try_for_each(tree::remove)
    }

    /// The same, with [`Error::Busy`] at once when processes are left.
    ///
    /// # Errors
    /// As [`remove`](Group::remove).
    pub fn remove_at_once(&self) -> Result<()> {
        self.directories.iter().try_for_each(tree::remove_once)
    }
}

/// What is done about a directory that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is taken over.
    Adopt,
    /// It is taken over if nobody is in it and it runs.
    AdoptVacant,
    /// It is an error.
    Refuse,
}

/// Checks a directory that was not `made` just now, if `existing` asks for it.
fn vacant(dir: Directory, existing: Existing, made: &[PathBuf]) -> Result<Directory> {
    if existing != Existing::AdoptVacant || made.last().is_some_and(|path| path == dir.path()) {
        return Ok(dir);
    }
    let processes = tree::processes(&dir)?;
    if !processes.is_empty() {
        return Err(Error::Occupied {
            path: dir.path().into(),
            processes,
        });
    }
    let freezes = dir.version() == Version::V2 || dir.controllers().contains(Controller::Freezer);
    if freezes && freezer::state(&dir)? != FreezerState::Thawed {
        return Err(Error::Frozen {
            path: dir.path().into(),
        });
    }
    Ok(dir)
}

/// The hierarchies of version 1 that have a name and no controllers.
fn named(layout: &Layout) -> impl Iterator<Item = Site<'_>> {
    let hierarchies = layout.hierarchies.iter();
    let named = hierarchies
        .filter(|it| it.version == Version::V1 && it.name.is_some() && it.controllers.is_empty());
    named.map(|hierarchy| Site {
        layout,
        hierarchy,
        wanted: Controllers::NONE,
        needed: Controllers::NONE,
    })
}

/// One site for each hierarchy that has some of the controllers.
fn sites(layout: &Layout, controllers: Wanted) -> Result<Vec<Site<'_>>> {
    let mut sites: Vec<(usize, Controllers)> = Vec::new();
    for controller in controllers.all.iter() {
        let home = layout
            .index_of(controller)
            .ok_or_else(|| layout.missing(controller))?;
        match sites.iter_mut().find(|(index, _)| *index == home) {
            Some((_, wanted)) => wanted.insert(controller),
            None => sites.push((home, Controllers::of(&[controller]))),
        }
    }
    let site = |(index, wanted): (usize, Controllers)| Site {
        layout,
        hierarchy: &layout.hierarchies[index],
        wanted,
        needed: wanted.intersection(controllers.needed),
    };
    Ok(sites.into_iter().map(site).collect())
}

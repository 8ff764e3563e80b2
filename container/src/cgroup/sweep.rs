//! The broom for groups whose run was killed: see [`ephemeral`](super::ephemeral) for how it tells.

use std::fs::{DirEntry, read_dir};
use std::path::PathBuf;

use nix::errno::Errno;

use super::directory::Directory;
use super::ephemeral::{PREFIX, lock};
use super::{Controllers, Error, Group, Layout, Result, Version, tree};

/// What a [`sweep`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Directories that were removed.
    pub removed: Vec<PathBuf>,
    /// Directories without a run in which processes still live; [`evict`] ends them.
    pub occupied: Vec<PathBuf>,
}

/// Removes the empty groups of runs that were killed, wherever in the visible hierarchies they are.
/// It looks at every group of the host, which takes a few µs each. What other users own and what
/// cannot be read is passed over, and so is what another sweep looks at in this moment.
///
/// # Errors
/// [`Error::Remove`] when a dead group cannot be removed.
pub fn sweep(layout: &Layout) -> Result<Swept> {
    Broom {
        layout,
        evict: false,
    }
    .sweep()
}

/// The same, and kills the processes that still live in such groups.
///
/// # Errors
/// As [`sweep`] and [`Group::kill`].
pub fn evict(layout: &Layout) -> Result<Swept> {
    Broom {
        layout,
        evict: true,
    }
    .sweep()
}

struct Broom<'a> {
    layout: &'a Layout,
    evict: bool,
}

impl Broom<'_> {
    fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        for hierarchy in self.layout.hierarchies() {
            let mut todo = vec![hierarchy.mount_point.clone()];
            while let Some(path) = todo.pop() {
                let Ok(entries) = read_dir(&path) else {
                    continue;
                };
                let is_directory = |e: &DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
                for entry in entries.flatten().filter(is_directory) {
                    if is_ours(&entry.file_name().to_string_lossy()) {
                        self.sweep_one(hierarchy.version, entry.path(), &mut swept)?;
                    } else {
                        todo.push(entry.path());
                    }
                }
            }
        }
        Ok(swept)
    }

    fn sweep_one(&self, version: Version, path: PathBuf, swept: &mut Swept) -> Result<()> {
        let dir = Directory::open(path.clone(), version, Controllers::NONE, self.layout.probe);
        let dir = match dir {
            Ok(dir) => dir,
            // Its own run removed it, or another user owns it.
            Err(Error::Open { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(lock) = lock(&dir)? else {
            return Ok(());
        };
        let removed = self.remove(dir);
        drop(lock);
        match removed {
            Ok(()) => swept.removed.push(path),
            Err(Error::Busy { .. } | Error::SelfInside { .. }) => swept.occupied.push(path),
            Err(error) if matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes a group that has no run; the caller holds its lock. From those who still live
    /// there nothing is taken, not even an empty group below.
    fn remove(&self, dir: Directory) -> Result<()> {
        let processes = tree::processes(&dir)?;
        if processes.is_empty() {
            return tree::remove_once(&dir);
        }
        if !self.evict {
            return Err(Error::Busy {
                path: dir.path().into(),
                processes,
            });
        }
        let group = Group::of(dir);
        group.kill()?;
        group.remove()
    }
}

/// Whether a name is one that [`Ephemeral::create`](super::Ephemeral::create) makes.
fn is_ours(name: &str) -> bool {
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    let rest = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'));
    rest.is_some_and(|(pid, counter)| number(pid) && number(counter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_runs_are_swept() {
        assert!(is_ours("ringside-1234-0"));
        for other in [
            "ringside",
            "ringside-",
            "ringside-1",
            "ringside-a-1",
            "ringside-1-",
            "my-ringside-1-1",
            "ringside-1-1x",
            "ringside--1",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }
}

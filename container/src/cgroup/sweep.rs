//! The broom for groups whose run was killed: see [`ephemeral`](super::ephemeral) for how it tells.

use std::fs::read_dir;
use std::path::PathBuf;

use super::directory::Directory;
use super::ephemeral::{PREFIX, lock};
use super::{Controllers, Error, Layout, Result, Version, tree};

/// What a [`sweep`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Directories that were removed.
    pub removed: Vec<PathBuf>,
    /// Directories without a run in which processes still live; [`Group::from_paths`] and
    /// [`Group::kill`] end them.
    pub occupied: Vec<PathBuf>,
}

/// Removes the groups of runs that were killed, wherever in the visible hierarchies they are. It
/// looks at every group of the host, which takes a few µs each.
///
/// # Errors
/// [`Error::Remove`] when a dead group cannot be removed; what cannot be read is passed over.
pub fn sweep(layout: &Layout) -> Result<Swept> {
    let mut swept = Swept::default();
    for hierarchy in layout.hierarchies() {
        let mut todo = vec![hierarchy.mount_point.clone()];
        while let Some(path) = todo.pop() {
            let Ok(entries) = read_dir(&path) else {
                continue;
            };
            for entry in entries
                .flatten()
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            {
                if is_ours(&entry.file_name().to_string_lossy()) {
                    sweep_one(layout, hierarchy.version, entry.path(), &mut swept)?;
                } else {
                    todo.push(entry.path());
                }
            }
        }
    }
    Ok(swept)
}

fn sweep_one(layout: &Layout, version: Version, path: PathBuf, swept: &mut Swept) -> Result<()> {
    let dir = match Directory::open(path.clone(), version, Controllers::NONE, layout.probe) {
        Ok(dir) => dir,
        // Its own run removed it, or another user owns it.
        Err(Error::Open { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(lock) = lock(&dir)? else {
        return Ok(());
    };
    // Nothing is taken from those who still live there, not even an empty group below.
    let removed = match tree::processes(&dir)?.is_empty() {
        true => tree::remove_once(&dir),
        false => Err(Error::Busy {
            path: path.clone(),
            processes: Vec::new(),
        }),
    };
    drop(lock);
    match removed {
        Ok(()) => swept.removed.push(path),
        Err(Error::Busy { .. }) => swept.occupied.push(path),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Whether a name is one that [`Ephemeral::create`] makes.
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

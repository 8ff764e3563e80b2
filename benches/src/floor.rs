//! The programs of `floor/`: what `start` runs, and the least that each isolation model could take.
//!
//! `stamp` says when its first instruction ran. `vm` and `container` make the kernel calls that our
//! VMM and our runtime cannot do without, by hand, and say the same; what ours take beyond that is
//! ours to answer for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Every program: its name, and its executable file.
const PROGRAMS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/floor.rs"));

/// How the folders that [`Floor::extract`] makes are called, before a number.
const PREFIX: &str = "ringside-compare-";

/// The file that a living owner holds a lock on.
const LOCK: &str = "lock";

/// The programs as files, in a folder that only this user can enter, until this is dropped.
#[derive(Debug)]
pub struct Floor {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Floor {
    /// Writes the programs to a new folder below `parent`, and removes the folders there whose
    /// owners were killed before they could.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn extract(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let folder = new_folder(parent)?;
        let filled = fill(&folder);
        match filled {
            Ok(_lock) => Ok(Floor { folder, _lock }),
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                Err(error)
            }
        }
    }

    /// The folder that they are in, for what else is to be gone with them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the program called `name`, if there is such a program.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let known = PROGRAMS.iter().any(|(program, _)| *program == name);
        known.then(|| self.folder.join(name))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Nobody is left to tell, and the next run tries again.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn new_folder(parent: &Path) -> io::Result<PathBuf> {
    loop {
        let folder = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let message = format!("cannot create {}: {error}; set TMPDIR", folder.display());
                return Err(io::Error::new(error.kind(), message));
            }
            Ok(()) => return Ok(folder),
        }
    }
}

fn fill(folder: &Path) -> io::Result<Flock<File>> {
    // Locked before it has its name, so that nobody can take it for abandoned in between.
    let unlocked = folder.join("unlocked");
    let lock = File::create_new(&unlocked)?;
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    fs::rename(unlocked, folder.join(LOCK))?;
    for (name, bytes) in PROGRAMS {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(folder.join(name))?
            .write_all(bytes)?;
    }
    Ok(lock)
}

/// Removes what killed runs left: folders of ours on whose lock file nobody holds a lock.
///
/// A folder without a lock file is left alone, for its owner may be about to make one.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let Some(lock) = ours
            .then(|| File::open(entry.path().join(LOCK)).ok())
            .flatten()
        else {
            continue;
        };
        if Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output, Stdio};

    use nix::time::{ClockId, clock_gettime};

    use super::*;

    /// Runs `command` to its end. While another test's thread is between fork and exec, its copy of
    /// our descriptor keeps a program that was just written busy.
    fn output(command: &mut Command) -> Output {
        loop {
            match command.output() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                other => return other.unwrap(),
            }
        }
    }

    fn now_ns() -> u64 {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    }

    #[test]
    fn stamp_writes_the_time_of_its_start() {
        let parent = tempfile::tempdir().unwrap();
        let floor = Floor::extract(parent.path()).unwrap();
        let before = now_ns();
        let output = output(&mut Command::new(floor.path("stamp").unwrap()));
        let after = now_ns();
        assert_eq!(output.status.code(), Some(0));
        let stamp = u64::from_le_bytes(output.stdout.try_into().unwrap());
        assert!(before < stamp && stamp < after, "{before} {stamp} {after}");
    }

    #[test]
    fn stamp_is_small_and_says_when_it_cannot_write() {
        let (_, bytes) = PROGRAMS.iter().find(|(name, _)| *name == "stamp").unwrap();
        assert!(bytes.len() < 2048, "{} bytes", bytes.len());

        let parent = tempfile::tempdir().unwrap();
        let floor = Floor::extract(parent.path()).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = output(Command::new(floor.path("stamp").unwrap()).stdout(Stdio::from(full)));
        assert_eq!(output.status.code(), Some(1));
    }

    #[test]
    fn the_folder_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(parent.path()).unwrap().count();
        let floor = Floor::extract(parent.path()).unwrap();
        assert_eq!(count(), 1);
        assert!(floor.path("stamp").unwrap().exists());
        assert_eq!(floor.path("lock"), None);
        assert_eq!(floor.path("../stamp"), None);
        drop(floor);
        assert_eq!(count(), 0);
    }

    #[test]
    fn what_a_killed_run_left_goes_with_the_next_and_the_living_stay() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = parent.path().join(format!("{PREFIX}abandoned"));
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join(LOCK), "").unwrap();
        let strangers = parent.path().join("ringside-other");
        fs::create_dir(&strangers).unwrap();
        fs::write(strangers.join(LOCK), "").unwrap();

        let living = Floor::extract(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(strangers.exists());
        let _second = Floor::extract(parent.path()).unwrap();
        assert!(living.path("stamp").unwrap().exists());
    }
}

//! Walking a group and the groups below it, which a container may have made as deep as it likes:
//! so without recursion, and with two descriptors however deep it goes.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::directory::{Directory, PROCS, read_all};
use super::{Error, Result, value};

/// How often a busy directory is tried again, with pauses that double from 50 µs to 20 ms: about two
/// seconds in all.
const TRIES: u32 = 108;

/// A group that is being visited.
pub(super) struct Visited<'a> {
    fd: BorrowedFd<'a>,
    path: PathBuf,
}

impl Visited<'_> {
    /// The processes of this very group. A threaded group has none of its own: the kernel lists
    /// them in the group above, and answers EOPNOTSUPP here.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let path = self.path.join(PROCS);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let text = openat(self.fd, PROCS, flags, Mode::empty()).and_then(|f| read_all(f.as_fd()));
        match text {
            Ok(text) => value::pids(&path, &String::from_utf8_lossy(&text)),
            // Removed while we looked.
            Err(Errno::ENODEV | Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(Vec::new()),
            Err(source) => Err(Error::Read { path, source }),
        }
    }
}

/// Calls `visit` for the group and all groups below it, the innermost first.
pub(super) fn each(
    top: &Directory,
    visit: &mut dyn FnMut(&Visited<'_>) -> Result<()>,
) -> Result<()> {
    walk(top, visit, None)
}

/// The processes of the group and of all groups below it.
pub(super) fn processes(top: &Directory) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    each(top, &mut |group| {
        all.extend(group.processes()?);
        Ok(())
    })?;
    Ok(all)
}

/// Removes the group and all groups below it, and waits for processes that are about to end.
pub(super) fn remove(top: &Directory) -> Result<()> {
    remove_with(top, TRIES)
}

/// The same without waiting.
pub(super) fn remove_once(top: &Directory) -> Result<()> {
    remove_with(top, 1)
}

fn remove_with(top: &Directory, tries: u32) -> Result<()> {
    // The common case, a group without groups below it, in one system call.
    if unlinkat(AT_FDCWD, top.path(), UnlinkatFlags::RemoveDir).is_ok() {
        return Ok(());
    }
    walk(top, &mut |_| Ok(()), Some(tries))?;
    patiently(top, tries, || {
        unlinkat(AT_FDCWD, top.path(), UnlinkatFlags::RemoveDir)
    })
}

/// Removes those of a group's directories that are empty, each in one system call, and gives back
/// the others.
pub fn remove_empty<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Vec<P> {
    let stays = |path: &P| {
        let removed = unlinkat(AT_FDCWD, path.as_ref(), UnlinkatFlags::RemoveDir);
        !matches!(removed, Ok(()) | Err(Errno::ENOENT | Errno::ENODEV))
    };
    paths.into_iter().filter(stays).collect()
}

/// Tries to remove something until it is not busy any more.
fn patiently(top: &Directory, tries: u32, remove: impl Fn() -> nix::Result<()>) -> Result<()> {
    let mut pause = Duration::from_micros(50);
    for _ in 0..tries {
        match remove() {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
            Err(Errno::EBUSY) => sleep(pause),
            Err(source) => {
                return Err(super::directory::denial(top.path(), source).unwrap_or(
                    Error::Remove {
                        path: top.path().into(),
                        source,
                    },
                ));
            }
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Err(Error::Busy {
        path: top.path().into(),
        processes: processes(top)?,
    })
}

/// Walks depth first. `names` leads from the top to where we are; `todo` holds the children not yet
/// visited on each level. Back up goes through `..`, since holding a descriptor for each level would
/// exhaust them. With `remove`, each child is removed when it has been visited, in so many tries.
fn walk(
    top: &Directory,
    visit: &mut dyn FnMut(&Visited<'_>) -> Result<()>,
    remove: Option<u32>,
) -> Result<()> {
    let fail = |path: PathBuf| move |source| Error::Open { path, source };
    let open = |at: BorrowedFd<'_>, name: &OsStr| -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(at, name, flags, Mode::empty())
    };
    let mut path = top.path().to_owned();
    let mut here = open(top.as_fd(), OsStr::new(".")).map_err(fail(path.clone()))?;
    let mut names: Vec<CString> = Vec::new();
    let mut todo = vec![children(&here)];
    loop {
        match todo.last_mut().and_then(Vec::pop) {
            Some(name) => {
                let os = OsStr::from_bytes(name.as_bytes());
                match open(here.as_fd(), os) {
                    Ok(child) => {
                        here = child;
                        path.push(os);
                        names.push(name);
                        todo.push(children(&here));
                    }
                    // Removed by somebody else, which is as good.
                    Err(Errno::ENOENT | Errno::ENODEV) => {}
                    Err(source) => return Err(fail(path.join(os))(source)),
                }
            }
            None => {
                visit(&Visited {
                    fd: here.as_fd(),
                    path: path.clone(),
                })?;
                todo.pop();
                let Some(name) = names.pop() else {
                    return Ok(());
                };
                here = open(here.as_fd(), OsStr::new("..")).map_err(fail(path.clone()))?;
                path.pop();
                if let Some(tries) = remove {
                    let name = name.as_c_str();
                    patiently(top, tries, || {
                        unlinkat(&here, name, UnlinkatFlags::RemoveDir)
                    })?;
                }
            }
        }
    }
}

/// The names of the directories in `here`. A directory that vanishes has none.
fn children(here: &OwnedFd) -> Vec<CString> {
    // A directory is linked from its parent, from itself, and from each child as `..`: two links are
    // no child. (A file system that does not count says 1.)
    if fstat(here).is_ok_and(|stat| stat.st_nlink == 2) {
        return Vec::new();
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut dir) = Dir::openat(here, ".", flags, Mode::empty()) else {
        return Vec::new();
    };
    let directory = |entry: nix::Result<nix::dir::Entry>| {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let real = entry.file_type() == Some(Type::Directory);
        (real && !matches!(name.to_bytes(), b"." | b"..")).then(|| name.to_owned())
    };
    dir.iter().filter_map(directory).collect()
}

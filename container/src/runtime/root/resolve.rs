//! Paths in the root: opened as whoever lives there would, and made where they are not there
//! (`man 2 openat2`, `RESOLVE_IN_ROOT`).

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use crate::plan::call::text;
use crate::sys;

/// What is made where a path is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// Nothing: it has to be there.
    Nothing,
    /// A directory.
    Directory,
    /// An empty file, to bind something on.
    File,
}

/// Opens `path` in `root`, and makes what is missing of it: from its end back to what is there. Where a link
/// leads to what is missing, that is made, in `root` as well: links are followed as whoever lives there
/// would, to whom `root` is all that there is (as runc does).
///
/// # Errors
/// The kernel's.
pub fn resolve(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Result<OwnedFd, Errno> {
    find_or_make(root, path, make).map(|(found, _)| found)
}

/// The same, and whether it was there.
///
/// # Errors
/// As [`resolve`].
pub fn find_or_make(
    root: BorrowedFd<'_>,
    path: &CStr,
    make: Make,
) -> Result<(OwnedFd, bool), Errno> {
    resolve_links(root, path, make, MOST_LINKS)
}

/// So many links to what is not there lead nowhere (the kernel's number for those that do).
const MOST_LINKS: u8 = 40;

fn resolve_links(
    root: BorrowedFd<'_>,
    path: &CStr,
    make: Make,
    links: u8,
) -> Result<(OwnedFd, bool), Errno> {
    match sys::open_in_root(root, path, libc::O_PATH, 0) {
        Err(Errno::ENOENT) if make != Make::Nothing => {}
        other => return other.map(|there| (there, true)),
    }
    let (before, name) = split(path)?;
    let (directory, _) = resolve_links(root, &text(before), Make::Directory, links)?;
    match make_one(&directory, name, make == Make::File) {
        // A link to what is not there: that is what is missing.
        Err(Errno::EEXIST) if links > 0 => {
            let target = nix::fcntl::readlinkat(&directory, name)?;
            let target = target.as_os_str().as_bytes();
            let path = match target {
                [b'/', ..] => target.to_vec(),
                _ => [before, b"/", target].concat(),
            };
            return resolve_links(root, &text(path), make, links - 1);
        }
        other => other?,
    }
    sys::open_in_root(root, path, libc::O_PATH, 0).map(|made| (made, false))
}

/// Makes a directory or an empty file.
fn make_one(parent: &OwnedFd, name: &OsStr, is_file: bool) -> Result<(), Errno> {
    if !is_file {
        return mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

/// The directory of a path, and its last name.
fn split(path: &CStr) -> Result<(&[u8], &OsStr), Errno> {
    let mut bytes = path.to_bytes();
    while let Some(shorter) = bytes.strip_suffix(b"/").or(bytes.strip_suffix(b"/.")) {
        bytes = shorter;
    }
    let (directory, name): (&[u8], _) = match bytes.iter().rposition(|&byte| byte == b'/') {
        None => (b"/", bytes),
        Some(0) => (b"/", &bytes[1..]),
        Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
    };
    if name.is_empty() || name == b".." || name == b"." {
        return Err(Errno::EINVAL);
    }
    Ok((directory, OsStr::from_bytes(name)))
}

/// The directory that something was made in last: the next one is as a rule made there as well.
#[derive(Default)]
pub struct Parent(Option<(Vec<u8>, OwnedFd)>);

impl Parent {
    /// Opens the directory of `path` in `root`, and makes it; gives it and the last name. Only while nothing is
    /// mounted in between.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn of<'a>(
        &mut self,
        root: BorrowedFd<'_>,
        path: &'a CStr,
    ) -> Result<(BorrowedFd<'_>, &'a OsStr), Errno> {
        let (before, name) = split(path)?;
        let known = self.0.take().filter(|(path, _)| path == before);
        let known = match known {
            Some(known) => known,
            None => {
                let opened = resolve(root, &text(before), Make::Directory)?;
                (before.to_vec(), opened)
            }
        };
        Ok((self.0.insert(known).1.as_fd(), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        let root = open_root(folder.path());
        (folder, root)
    }

    fn open_root(path: &std::path::Path) -> OwnedFd {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::empty()).unwrap()
    }

    #[test]
    fn what_is_missing_of_a_path_is_made() {
        let (folder, root) = root();
        let there = |path: &str| folder.path().join(path);
        for path in [c"/a/b/c", c"/a//b/./d/", c"e", c"/a/b/c/."] {
            resolve(root.as_fd(), path, Make::Directory).unwrap();
        }
        for path in ["a/b/c", "a/b/d", "e"] {
            assert!(there(path).is_dir(), "{path}");
        }
        resolve(root.as_fd(), c"/x/y/file", Make::File).unwrap();
        assert!(there("x/y").is_dir() && there("x/y/file").is_file());
        let missing = resolve(root.as_fd(), c"/x/z", Make::Nothing);
        assert_eq!(missing.unwrap_err(), Errno::ENOENT);
    }

    #[test]
    fn links_on_the_way_stay_in_the_root() {
        let (folder, root) = root();
        std::os::unix::fs::symlink("/elsewhere", folder.path().join("link")).unwrap();
        std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
        resolve(root.as_fd(), c"/link/new/../newer", Make::Directory).unwrap_err();
        resolve(root.as_fd(), c"/link/new", Make::Directory).unwrap();
        assert!(folder.path().join("elsewhere/new").is_dir());
    }

    #[test]
    fn what_a_link_lacks_is_made_in_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        let root = open_root(&inside);
        let absolute = outside.path().join("absolute");
        let lead = |name: &str, target: &str| {
            std::os::unix::fs::symlink(target, inside.join(name)).unwrap();
        };
        lead("a", absolute.to_str().unwrap());
        lead("b", "../../climbs/out");
        lead("c", "/../../climbs/further");
        lead("d", "next");
        lead("next", "/end");
        for link in [c"/a", c"/b", c"/c", c"/d"] {
            resolve(root.as_fd(), link, Make::Directory).unwrap();
        }
        let as_seen_inside = absolute.strip_prefix("/").unwrap();
        for made in [
            as_seen_inside,
            "climbs/out".as_ref(),
            "climbs/further".as_ref(),
            "end".as_ref(),
        ] {
            assert!(inside.join(made).is_dir(), "{made:?}");
        }
        let there: Vec<_> = std::fs::read_dir(outside.path())
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(there, ["root"], "something was made outside of the root");
        // One that leads to itself leads nowhere.
        lead("round", "round");
        let made = resolve(root.as_fd(), c"/round", Make::Directory);
        assert_eq!(made.unwrap_err(), Errno::ELOOP);
    }
}

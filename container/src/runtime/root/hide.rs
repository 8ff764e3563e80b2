//! What the container may not write to, and what it may not even see (`config-linux.md`, "Masked Paths").

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag};

use super::{Make, by_descriptor, kind, resolve};
use crate::sys::{self, fstat};

/// Makes a path in `root` read-only.
///
/// # Errors
/// `ENOENT` when it is not there; else the kernel's.
pub fn make_read_only(root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = resolve(root, path, Make::Nothing)?;
    let tree = sys::clone_tree_of(target.as_fd())?;
    sys::set_mount_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
    sys::attach_tree(tree.as_fd(), target.as_fd())
}

/// What hides other files: one of each kind for all, as each has a price.
#[derive(Default)]
pub struct Covers {
    /// An empty directory of the container's.
    directory: Option<OwnedFd>,
    /// The host's `/dev/null`: the container may have made something else of its own.
    file: Option<OwnedFd>,
}

/// Shows nothing at a path in `root`.
///
/// # Errors
/// `ENOENT` when it is not there, `ENODEV` when the host's `/dev/null` is not that device; else the
/// kernel's.
pub fn mask(root: BorrowedFd<'_>, path: &CStr, covers: &mut Covers) -> Result<(), Errno> {
    let target = resolve(root, path, Make::Nothing)?;
    if kind(target.as_fd())? != SFlag::S_IFDIR {
        let null = match covers.file.take() {
            Some(null) => null,
            None => open_null()?,
        };
        return bind(covers.file.insert(null), &target);
    }
    if let Some(empty) = &covers.directory {
        return bind(empty, &target);
    }
    mount(
        Some(c"tmpfs"),
        by_descriptor(target.as_fd()).as_c_str(),
        Some(c"tmpfs"),
        MsFlags::MS_RDONLY,
        Some(c"size=0k,nr_inodes=2"),
    )?;
    covers.directory = Some(resolve(root, path, Make::Nothing)?);
    Ok(())
}

fn bind(cover: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let none = None::<&CStr>;
    mount(
        Some(by_descriptor(cover.as_fd()).as_c_str()),
        by_descriptor(target.as_fd()).as_c_str(),
        none,
        MsFlags::MS_BIND,
        none,
    )
}

fn open_null() -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let null = nix::fcntl::open(c"/dev/null", flags, Mode::empty())?;
    let its = fstat(null.as_fd())?;
    let kind = SFlag::from_bits_truncate(its.st_mode) & SFlag::S_IFMT;
    if (kind, its.st_rdev) != (SFlag::S_IFCHR, nix::sys::stat::makedev(1, 3)) {
        return Err(Errno::ENODEV);
    }
    Ok(null)
}

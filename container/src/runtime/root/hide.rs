//! What the container may not write to, and what it may not even see (`config-linux.md`, "Masked Paths").

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::{Make, by_descriptor, kind, resolve};
use crate::sys;

/// Makes a path in `root` read-only.
///
/// # Errors
/// `ENOENT` when it is not there; else the kernel's.
pub fn make_read_only(root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = resolve(root, path, Make::Nothing)?;
    let tree = sys::clone_tree(&by_descriptor(target.as_fd()), true)?;
    sys::set_mount_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
    sys::attach_tree(tree.as_fd(), target.as_fd())
}

/// Shows nothing at a path in `root`; the first directory that is shown so is kept in `empty`, for the
/// others.
///
/// # Errors
/// `ENOENT` when it is not there, `ENODEV` when the host's `/dev/null` is not that device; else the
/// kernel's.
pub fn mask(root: BorrowedFd<'_>, path: &CStr, empty: &mut Option<OwnedFd>) -> Result<(), Errno> {
    let name = path;
    let target = resolve(root, path, Make::Nothing)?;
    let path = by_descriptor(target.as_fd());
    if kind(target.as_fd())? == SFlag::S_IFDIR {
        // One file system for all: each has a price.
        if let Some(empty) = empty {
            let empty = by_descriptor(empty.as_fd());
            let none = None::<&CStr>;
            return mount(
                Some(empty.as_c_str()),
                path.as_c_str(),
                none,
                MsFlags::MS_BIND,
                none,
            );
        }
        let data = c"size=0k,nr_inodes=2";
        mount(
            Some(c"tmpfs"),
            path.as_c_str(),
            Some(c"tmpfs"),
            MsFlags::MS_RDONLY,
            Some(data),
        )?;
        *empty = Some(resolve(root, name, Make::Nothing)?);
        return Ok(());
    }
    // The host's: the container may have made something else of its own.
    let null = nix::fcntl::open(
        c"/dev/null",
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let its = fstat(&null)?;
    let kind = SFlag::from_bits_truncate(its.st_mode) & SFlag::S_IFMT;
    if (kind, its.st_rdev) != (SFlag::S_IFCHR, nix::sys::stat::makedev(1, 3)) {
        return Err(Errno::ENODEV);
    }
    mount(
        Some(by_descriptor(null.as_fd()).as_c_str()),
        path.as_c_str(),
        None::<&CStr>,
        MsFlags::MS_BIND,
        None::<&CStr>,
    )
}

//! Device nodes, FIFOs and links (`man 2 mknodat`).

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{Gid, Uid, symlinkat};

use crate::plan::call::text;
use crate::sys;

/// Makes a device node or FIFO in `directory`.
///
/// # Errors
/// The kernel's; a node that is there already is kept if it is the same device.
pub fn make_device(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    mode: u32,
    device: (u32, u32),
    owner: (u32, u32),
) -> Result<(), Errno> {
    let number = nix::sys::stat::makedev(device.0.into(), device.1.into());
    let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    match mknodat(
        directory,
        name,
        kind,
        Mode::from_bits_truncate(mode & 0o7777),
        number,
    ) {
        Err(Errno::EEXIST) => {
            let there = sys::open_in_root(
                directory,
                &text(name.as_bytes()),
                libc::O_PATH | libc::O_NOFOLLOW,
                0,
            )?;
            let stat = sys::fstat(there.as_fd())?;
            if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != kind
                || stat.st_rdev != number
            {
                return Err(Errno::EEXIST);
            }
        }
        other => other?,
    }
    if owner != (0, 0) {
        let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        nix::unistd::fchownat(
            directory,
            name,
            Some(user),
            Some(group),
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

/// Makes a link in `directory`; one that is there already is kept.
///
/// # Errors
/// The kernel's.
pub fn link(directory: BorrowedFd<'_>, name: &OsStr, target: &CStr) -> Result<(), Errno> {
    match symlinkat(target, directory, name) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

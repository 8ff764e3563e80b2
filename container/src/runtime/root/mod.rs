//! Making calls in a container's root: every path is opened inside of it first, and the mount or file is
//! made on the descriptor, by way of the *host's* /proc, so that nothing in the image or in another
//! container that shares a volume can lead a mount elsewhere.

mod attributes;
mod hide;
mod mount;
mod node;
mod proc;
mod resolve;

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use crate::plan::call::text;
use crate::sys::fstat;

pub use attributes::NO_SYMLINKS;
pub use hide::{Covers, make_read_only, mask};
pub use mount::mount_in;
pub use node::{link, make_device};
pub use proc::is_proc;
pub use resolve::{Make, Parent, resolve};

/// A path that opens what `fd` stands for.
pub fn by_descriptor(fd: BorrowedFd<'_>) -> CString {
    text(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn kind(file: BorrowedFd<'_>) -> Result<SFlag, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT)
}

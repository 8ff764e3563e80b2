//! `man 2 memfd_create`: guest memory is a file without a name, so that `/proc/PID/smaps` tells it
//! from the VMM's own, holes can be punched in it, and a clone can map it copy-on-write.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// A new memory file of `bytes` zeros. Memory is taken from the host only as pages are touched.
///
/// # Errors
/// The system call's: out of descriptors or memory, or a file-size limit below `bytes`.
pub fn create(name: &CStr, bytes: u64) -> io::Result<File> {
    // SAFETY: the name is a C string; the flag is known.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes)?;
    Ok(file)
}

/// Gives the pages of a range back to the host (`man 2 fallocate`, `FALLOC_FL_PUNCH_HOLE`), in
/// every mapping of the file; they read as zeros from then on. Parts of pages are zeroed.
///
/// # Errors
/// The system call's.
pub fn punch_hole(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let too_long = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let (offset, bytes) = (
        offset.try_into().map_err(too_long)?,
        bytes.try_into().map_err(too_long)?,
    );
    let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the descriptor is open; no memory of Rust's is involved.
    match unsafe { libc::fallocate(file.as_raw_fd(), flags, offset, bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

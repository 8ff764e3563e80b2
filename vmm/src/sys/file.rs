//! What the standard library does not say about files: locks, holes, and the kernel's randomness.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// How a file is held against others (`man 2 flock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nobody may hold it exclusively.
    Shared,
    /// Nobody else may hold it.
    Exclusive,
}

/// Holds a file until it is closed.
///
/// # Errors
/// `EWOULDBLOCK` when somebody holds it so that it cannot be.
pub fn hold(file: &File, hold: Hold) -> io::Result<()> {
    let operation = match hold {
        Hold::Shared => libc::LOCK_SH,
        Hold::Exclusive => libc::LOCK_EX,
    };
    // SAFETY: the descriptor is open.
    match unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Fills a buffer with randomness (`man 2 getrandom`).
///
/// # Errors
/// The system call's: none, on a kernel that has it (Linux 3.17).
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: the buffer is valid for writes of its length.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

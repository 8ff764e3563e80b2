//! A terminal of a container's own (`man 4 pts`, `man 2 ioctl_tty`).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::check;

/// The other end of the terminal of `master`, unlocked and opened without a path that somebody could
/// have changed.
///
/// # Errors
/// `ENOTTY` when `master` is no terminal.
pub fn terminal_peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    /// `_IO('T', 0x41)` of <asm-generic/ioctls.h>.
    const TIOCGPTPEER: libc::c_ulong = 0x5441;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one integer, which lives across the call.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    check(result.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes an integer.
    let fd = check(unsafe { libc::ioctl(master.as_raw_fd(), TIOCGPTPEER, flags) }.into())?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes `terminal` the controlling terminal of the calling process's session.
///
/// # Errors
/// `EPERM` when the caller leads no session or has a terminal.
pub fn control_terminal(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}

/// The size of a terminal, in lines and columns.
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn terminal_size(terminal: BorrowedFd<'_>) -> Result<(u16, u16), Errno> {
    // SAFETY: `winsize` is plain data, for which zero is valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which lives across the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    check(result.into())?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets the size of a terminal.
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn set_terminal_size(
    terminal: BorrowedFd<'_>,
    (lines, columns): (u16, u16),
) -> Result<(), Errno> {
    let size = libc::winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which lives across the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check(result.into()).map(drop)
}

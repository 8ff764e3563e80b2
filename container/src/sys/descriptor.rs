//! Descriptors: of processes, of a pair of sockets, and all of them at once.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// A descriptor that means the process `pid` and never another one (`man 2 pidfd_open`).
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two integers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends `signal` to the process of `pidfd` (`man 2 pidfd_send_signal`). Signal 0 only asks whether it lives.
///
/// # Errors
/// `ESRCH` when it has been waited for, `EINVAL` for a number that is no signal.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: a null `info` asks the kernel to fill it in as `kill` does; the rest are integers.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// A connected pair of sockets that keep messages apart and close on exec.
///
/// # Errors
/// `EMFILE` when the process has too many descriptors.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

/// Closes the descriptors `first..=last`, open or not (`man 2 close_range`).
///
/// The caller gives up every owner of them: only for a child that is about to be something else.
///
/// # Errors
/// `EINVAL` when `first > last`.
pub fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the call takes integers. Closing descriptors that an `OwnedFd` of this process holds would
    // break its promise; only the cloned child calls this, which never drops any of them.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// What `fd` stands for (`man 2 fstat`). The C library asks for an empty path instead, which costs the kernel a
/// page that it clears.
///
/// # Errors
/// The file system's.
pub fn fstat(fd: BorrowedFd<'_>) -> Result<libc::stat, Errno> {
    // SAFETY: `stat` is a struct of integers, for which zero is valid.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes this very struct, which lives across the call.
    check(unsafe { libc::syscall(libc::SYS_fstat, fd.as_raw_fd(), &raw mut found) })?;
    Ok(found)
}

/// Takes a descriptor that the kernel has just opened and that a wrapper gave as a number.
pub fn own(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "no descriptor: {fd}");
    // SAFETY: callers pass the result of a call that opened it, and keep no copy.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_pidfd_of_ourselves_says_that_we_live() {
        let pidfd = pidfd_open(nix::unistd::getpid()).unwrap();
        assert_eq!(pidfd_send_signal(pidfd.as_fd(), 0), Ok(()));
        assert_eq!(pidfd_send_signal(pidfd.as_fd(), 12345), Err(Errno::EINVAL));
        assert_eq!(
            pidfd_open(Pid::from_raw(i32::MAX)).unwrap_err(),
            Errno::ESRCH
        );
    }

    #[test]
    fn a_backward_range_is_refused() {
        assert_eq!(close_range(9, 8), Err(Errno::EINVAL));
    }
}

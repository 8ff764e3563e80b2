//! The two system calls that nobody offers in a safe wrapper. Given.
#![expect(
    unsafe_code,
    reason = "clone and close_range without a safe wrapper elsewhere"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::given::Pid;

/// A child with a copy of this memory, which runs `child` and ends with its value.
///
/// # Errors
///
/// The kernel's; `EBUSY` in a process with several threads, where the copy could hold a lock that
/// nobody will ever release.
pub fn clone(namespaces: CloneFlags, child: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads > 1 {
        return Err(Errno::EBUSY);
    }
    let flags = namespaces.bits() | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has its own copy of memory and goes on with the same stack,
    // so no stack is given; the other arguments are not used with these flags. One thread only, as
    // checked above, so that the copy of the memory is a consistent one.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) };
    if pid != 0 {
        return Errno::result(pid).map(|pid| pid as Pid);
    }
    // The container ends when whoever started it does.
    let _ = set_pdeathsig(Signal::SIGKILL);
    let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        eprintln!("container: a panic: {}", text.unwrap_or("without words"));
        101
    });
    // SAFETY: `_exit` takes any status and does not return, so that the child never comes back into
    // its parent's code.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor from `first` on.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.9.
pub fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: the call takes integers. It closes descriptors that Rust objects may own; the caller is
    // a fresh child on its way to `execve`, and none of its objects is used or dropped after.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    Errno::result(result).map(drop)
}

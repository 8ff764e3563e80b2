//! `clone3`: a child in new namespaces, in a cgroup of our choice, with a descriptor that means it and
//! never another process (`man 2 clone3`).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// `CLONE_INTO_CGROUP` of <linux/sched.h>: past 32 bits, which the constant of `libc` is too short for.
const INTO_CGROUP: u64 = 1 << 33;

/// What the child is to be like.
#[derive(Debug, Default)]
pub struct Clone3<'a> {
    /// `CLONE_NEW…` flags.
    pub namespaces: i32,
    /// A directory of the v2 tree that the child is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child is the caller's sibling: its parent is the caller's.
    pub is_sibling: bool,
}

/// A child, as its parent holds it.
#[derive(Debug)]
pub struct Cloned {
    /// Its number in our PID namespace.
    pub pid: Pid,
    /// A descriptor that becomes readable when it ends.
    pub pidfd: OwnedFd,
}

/// Ends the process instead of unwinding into frames that belong to the parent.
struct NoUnwinding;

impl Drop for NoUnwinding {
    fn drop(&mut self) {
        exit(134);
    }
}

/// Ends the calling process at once: no destructor, no `atexit` handler of the parent's runs.
fn exit(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(status) }
}

/// Clones the calling thread into a process of its own, with a copy of this memory, which runs `child`
/// and exits with its result.
///
/// `child` must keep to what a signal handler may do (`man 7 signal-safety`), allocation excluded:
/// another thread may have held any lock at this moment, and no longer exists in the copy. Breaking
/// this rule can deadlock the child; it cannot break memory safety.
///
/// # Errors
/// The kernel's: `EPERM` without the privilege for a namespace, `ENOSPC` past a limit of
/// `/proc/sys/user`, `EAGAIN` past a limit on processes, `EBUSY`/`EOPNOTSUPP` for the cgroup.
pub fn clone3(what: &Clone3<'_>, child: impl FnOnce() -> i32) -> Result<Cloned, Errno> {
    let mut pidfd: libc::c_int = -1;
    let into_cgroup = if what.cgroup.is_some() {
        INTO_CGROUP
    } else {
        0
    };
    // SAFETY: `clone_args` is a struct of integers, for which zero is valid and means "not given".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = what.namespaces as u64 | libc::CLONE_PIDFD as u64 | into_cgroup;
    arguments.pidfd = &raw mut pidfd as u64;
    if what.is_sibling {
        // Then its end is told as the caller's own is.
        arguments.flags |= libc::CLONE_PARENT as u64;
    } else {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    arguments.cgroup = what.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: without CLONE_VM the child has its own copy of memory and goes on with this very stack, so
    // no stack is given; the arguments live across the call, and `pidfd` is written before it returns.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        let _guard = NoUnwinding;
        exit(child());
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned {
        pid: Pid::from_raw(pid as libc::pid_t),
        pidfd,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    use std::os::fd::AsFd;

    fn status(child: impl FnOnce() -> i32) -> i32 {
        let cloned = clone3(&Clone3::default(), child).unwrap();
        match waitid(Id::PIDFd(cloned.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap() {
            WaitStatus::Exited(pid, status) => {
                assert_eq!(pid, cloned.pid);
                status
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_child_runs_the_closure_and_exits_with_its_result() {
        assert_eq!(status(|| 42), 42);
    }

    #[test]
    fn a_panic_in_the_child_ends_it_there() {
        assert_eq!(status(|| std::panic::resume_unwind(Box::new(()))), 134);
    }
}

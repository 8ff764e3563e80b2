//! The system calls that `nix` does not wrap, or not in a way that a freshly cloned child may use: the
//! only unsafe code of this crate. Nothing here allocates, so that all of it may be called between
//! `clone3` and `execve`.
#![expect(unsafe_code, reason = "system calls without a safe wrapper elsewhere")]

mod capability;
mod clone;
mod confine;
mod descriptor;
mod network;
mod own_binary;
mod program;
mod root;
mod spawn;
mod terminal;
mod tree;

pub use capability::{
    drop_bounding, effective_capabilities, restore_effective, set_capabilities, set_capability_sets,
};
pub use clone::{Clone3, Cloned, clone3};
pub use confine::{
    SchedulerAttributes, default_signals, load_filter, raise_ambient, set_domainname,
    set_io_priority, set_memory_policy, set_rlimit, set_scheduler,
};
pub use descriptor::{close_range, fstat, own, pidfd_open, pidfd_send_signal, socket_pair};
pub use network::loopback_up;
pub use own_binary::{OWN, View, execute_file};
pub use program::enter;
pub use root::{open_in_root, open_without_links, set_mount_attributes, set_propagation};
pub use spawn::{Program, SpawnError, spawn};

pub use tree::{
    attach_tree, clone_tree, clone_tree_at, clone_tree_of, descriptor_of, map_tree, namespace_kind,
    new_tmpfs,
};

pub use terminal::{control_terminal, set_terminal_size, terminal_peer, terminal_size};

use std::ffi::CStr;

use nix::errno::Errno;
use nix::unistd::Pid;

/// The result of a raw system call: -1 means that `errno` says why.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result == -1 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}

/// What a signal is called, in lower case: `bad system call` (`man 3 strsignal`). It allocates: not for
/// a child that was just cloned.
pub fn describe_signal(signal: i32) -> String {
    // SAFETY: any number is valid; the C string that comes back is this thread's until the next call,
    // and is copied here.
    let text = unsafe { CStr::from_ptr(libc::strsignal(signal)) };
    text.to_string_lossy().to_lowercase()
}

/// Joins a new, empty session keyring (`man 2 keyctl`, `KEYCTL_JOIN_SESSION_KEYRING`).
///
/// # Errors
/// `ENOSYS` when the kernel has no keyrings, `EDQUOT` when the user has too many.
pub fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; the call touches no memory of ours.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<u8>(),
        )
    })
    .map(drop)
}

/// Moves the caller into new namespaces (`man 2 unshare`).
///
/// # Errors
/// `EPERM` without the privilege for a namespace, `ENOSPC` past a limit of `/proc/sys/user`.
pub fn unshare(namespaces: i32) -> Result<(), Errno> {
    // SAFETY: the call takes an integer. Only `CLONE_NEW…` flags come here, none that would take
    // descriptors or memory from other threads.
    check(unsafe { libc::unshare(namespaces) }.into()).map(drop)
}

/// Makes a mount and every mount in it read-only (`man 2 mount_setattr`).
///
/// # Errors
/// `EINVAL` when `path` is no mount, `ENOSYS` before Linux 5.12.
pub fn make_read_only(path: &CStr) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string, and the kernel reads as many bytes of the attributes as it is told
    // they have.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Sends any signal, a real-time one too (`nix` has no names for those). A process that has ended is
/// not an error: it will be waited for.
pub fn kill(pid: Pid, signal: i32) {
    // SAFETY: the call takes integers.
    unsafe { libc::kill(pid.as_raw(), signal) };
}

/// A child that has ended and its wait status, real-time signals included; none if all live or none is left.
pub fn wait_any() -> Option<(Pid, i32)> {
    let mut wait_status = 0;
    // SAFETY: `waitpid` writes one integer, which lives across the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut wait_status, libc::WNOHANG) };
    (pid > 0).then(|| (Pid::from_raw(pid), wait_status))
}

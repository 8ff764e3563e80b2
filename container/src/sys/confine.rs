//! Giving rights up: capabilities in five sets, system calls, scheduling.

use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};

use nix::errno::Errno;

use super::{check, own};

/// Makes the ambient set this one; the permitted and inheritable ones have to have it.
///
/// # Errors
/// `EPERM` for a capability that is not permitted and inheritable.
pub fn raise_ambient(set: u64) -> Result<(), Errno> {
    const PR_CAP_AMBIENT: libc::c_int = 47;
    const RAISE: libc::c_ulong = 2;
    const CLEAR_ALL: libc::c_ulong = 4;
    let call = |what: libc::c_ulong, capability: u64| {
        // SAFETY: the call takes integers.
        check(unsafe { libc::prctl(PR_CAP_AMBIENT, what, capability, 0, 0) }.into()).map(drop)
    };
    call(CLEAR_ALL, 0)?;
    (0..64)
        .filter(|bit| set & 1 << bit != 0)
        .try_for_each(|bit| call(RAISE, bit))
}

/// Loads a system-call filter (`man 2 seccomp`); gives the listener if `flags` ask for one.
///
/// # Errors
/// `EINVAL` for a program that the kernel's checker refuses, `EACCES` without CAP_SYS_ADMIN or
/// no_new_privs.
pub fn load_filter(program: &[libc::sock_filter], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from the slice, which lives across the call, and
    // writes none.
    let listener = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })?;
    let wants_listener = u64::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
    Ok(wants_listener.then(|| own(listener as RawFd)))
}

/// `struct sched_attr` of <linux/sched/types.h>, its first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerAttributes {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Sets the calling thread's scheduling policy (`man 2 sched_setattr`).
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE, `EINVAL` for a policy that the kernel lacks.
pub fn set_scheduler(mut attributes: SchedulerAttributes) -> Result<(), Errno> {
    attributes.size = size_of::<SchedulerAttributes>() as u32;
    // SAFETY: the kernel reads `size` bytes of the attributes, which live across the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// Memory nodes that the kernel can count: as many as it has bits for.
const MOST_NODES: usize = 1024;

/// Sets on which memory nodes the caller's pages are to be (`man 2 set_mempolicy`).
///
/// # Errors
/// `EINVAL` for a mode that does not go with these nodes and flags, or for nodes without memory.
pub fn set_memory_policy(mode: u32, nodes: &[usize]) -> Result<(), Errno> {
    const WORD_BITS: usize = libc::c_ulong::BITS as usize;
    let mut mask: [libc::c_ulong; MOST_NODES / WORD_BITS] = [0; MOST_NODES / WORD_BITS];
    for &node in nodes {
        *mask.get_mut(node / WORD_BITS).ok_or(Errno::EINVAL)? |= 1 << (node % WORD_BITS);
    }
    // The kernel leaves out the last bit of as many as it is told of.
    let (mask, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        _ => (mask.as_ptr(), MOST_NODES + 1),
    };
    // SAFETY: the kernel reads as many bits as it is told, less one, which the array has.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Names the domain of the calling process's UTS namespace (`man 2 setdomainname`).
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN over it.
pub fn set_domainname(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes as the name has.
    let result = unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes()) };
    check(result.into()).map(drop)
}

/// Sets the calling process's I/O priority (`man 2 ioprio_set`).
///
/// # Errors
/// `EPERM` for the real-time class without CAP_SYS_NICE.
pub fn set_io_priority(class: u16, level: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(level);
    // SAFETY: the call takes integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// Sets a resource limit of a process, 0 meaning the caller (`man 2 prlimit`).
///
/// # Errors
/// `EPERM` when a hard limit is raised without CAP_SYS_RESOURCE.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the kernel reads one `rlimit64`, which lives across the call, and writes nothing.
    let result = unsafe { libc::prlimit64(pid, resource, &raw const limit, std::ptr::null_mut()) };
    check(result.into()).map(drop)
}

/// Every signal as a new program expects it: not ignored, not blocked.
pub fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition for every signal; the two of which it may not be set
        // and the two that the C library keeps give an error and stay as they are.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

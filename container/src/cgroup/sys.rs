//! The system calls of this module that no library wraps safely: bpf(2) and pidfds.
#![expect(
    unsafe_code,
    reason = "raw system calls, each behind a function that is safe for all inputs"
)]

use std::ffi::c_long;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// `BPF_PROG_TYPE_CGROUP_DEVICE` of `linux/bpf.h`.
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`, the place where such a program is attached.
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: groups below may attach programs too, and all must agree.
const ALLOW_MULTI: u32 = 1 << 1;
/// `BPF_F_REPLACE`: swap one attached program for another at once (Linux 5.6).
const REPLACE: u32 = 1 << 2;

/// Commands of bpf(2).
#[derive(Clone, Copy)]
#[repr(u32)]
enum Command {
    Load = 5,
    Attach = 8,
    Detach = 9,
    FdById = 13,
    Query = 16,
}

/// One eBPF instruction in the kernel's encoding (`struct bpf_insn`):
///
/// ```text
/// byte 0   1            2..4     4..8
///      op  src<<4|dst   offset   immediate
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    pub op: u8,
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` up to `prog_flags`.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The part for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The part for `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    /// The kernel checks that what it does not know is zero, and the union is padded to 8 bytes.
    padding: u32,
}

/// The part for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
/// `attr` must be the layout that `command` has in `union bpf_attr`, and the addresses in it must be
/// valid for what the command reads and writes there.
unsafe fn bpf<T>(command: Command, attr: &mut T) -> nix::Result<c_long> {
    let size = size_of::<T>();
    // SAFETY: the kernel reads (and for a query writes) `size` bytes of `attr`, which is exclusively
    // ours for the call; what its addresses point to is the caller's promise.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command as u32, attr as *mut T, size) })
}

/// Loads a device program, checked by the kernel's verifier.
pub(super) fn load_device_program(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: LoadAttr is the layout of BPF_PROG_LOAD; `insns` points to `insn_cnt` instructions
    // and `license` to a C string, both of which outlive the call.
    let fd = unsafe { bpf(Command::Load, &mut attr) }?;
    Ok(owned(fd))
}

/// Attaches a loaded device program to a version 2 group, in the place of `old` if given.
pub(super) fn attach_device_program(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI | if old.is_some() { REPLACE } else { 0 },
        replace_bpf_fd: old.map_or(0, |old| old.as_raw_fd() as u32),
    };
    // SAFETY: AttachAttr is the layout of BPF_PROG_ATTACH and holds no addresses.
    unsafe { bpf(Command::Attach, &mut attr) }.map(drop)
}

/// Takes an attached device program off a group.
pub(super) fn detach_device_program(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: AttachAttr is the layout of BPF_PROG_DETACH and holds no addresses.
    unsafe { bpf(Command::Detach, &mut attr) }.map(drop)
}

/// The device programs that are attached to a group itself (not those of its ancestors).
pub(super) fn attached_device_programs(group: BorrowedFd<'_>) -> nix::Result<Vec<OwnedFd>> {
    // The kernel allows 64 programs in one place (`BPF_CGROUP_MAX_PROGS`).
    let mut ids = [0u32; 64];
    let mut attr = QueryAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..QueryAttr::default()
    };
    // SAFETY: QueryAttr is the layout of BPF_PROG_QUERY; `prog_ids` points to `prog_cnt` numbers
    // that the kernel may write and that outlive the call.
    unsafe { bpf(Command::Query, &mut attr) }?;
    let count = ids.len().min(attr.prog_cnt as usize);
    let mut programs = Vec::new();
    for &prog_id in &ids[..count] {
        let mut attr = IdAttr {
            prog_id,
            ..IdAttr::default()
        };
        // SAFETY: IdAttr is the layout of BPF_PROG_GET_FD_BY_ID and holds no addresses.
        match unsafe { bpf(Command::FdById, &mut attr) } {
            Ok(fd) => programs.push(owned(fd)),
            // Detached and freed in the meantime.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}

/// A descriptor for the process `pid`, which stays that process's even when the number is reused.
pub(super) fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    Ok(owned(fd))
}

/// Sends a signal to the process of a pidfd.
pub(super) fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for what kill(2) would send; the rest are integers.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            info,
            0,
        )
    };
    Errno::result(sent).map(drop)
}

/// Takes a descriptor that a system call has just returned (with close-on-exec set, as bpf and
/// pidfd_open always do).
fn owned(fd: c_long) -> OwnedFd {
    // SAFETY: the only callers pass the fresh result of a successful system call that makes a
    // descriptor, so it is open and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

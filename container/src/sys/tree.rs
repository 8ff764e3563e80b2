//! Mounts by descriptor: a tree is taken out of the host's mounts, changed while nobody sees it, and
//! attached in a container (`man 2 open_tree`, `man 2 move_mount`, `man 2 mount_setattr`).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{check, own};

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// A copy of the mount at `path`, and with `recursive` of all in it, that is mounted nowhere.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` over the mounts, `ENOENT`, `ENOSYS` before Linux 5.2.
pub fn clone_tree(path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | recursive as libc::c_uint;
    // SAFETY: the path is a C string; the rest are integers.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    Ok(own(fd as RawFd))
}

/// The same of what has the name `name` in `directory`, and of nothing mounted in it.
///
/// # Errors
/// As [`clone_tree`].
pub fn clone_tree_at(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: the name is a C string; the rest are integers.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            directory.as_raw_fd(),
            name.as_ptr(),
            flags,
        )
    })?;
    Ok(own(fd as RawFd))
}

/// The same of the mount that `fd` stands on, seen from there, and of all in it.
///
/// # Errors
/// As [`clone_tree`].
pub fn clone_tree_of(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE | libc::O_CLOEXEC;
    let flags = OPEN_TREE_CLONE | flags as libc::c_uint;
    // SAFETY: the path is an empty C string; the rest are integers.
    let tree =
        check(unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) })?;
    Ok(own(tree as RawFd))
}

/// The root of a new tmpfs that is mounted nowhere (`man 2 fsopen`, `man 2 fsmount`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSYS` before Linux 5.2.
pub fn new_tmpfs() -> Result<OwnedFd, Errno> {
    const CLOSE_ON_EXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    let none = std::ptr::null::<libc::c_char>();
    let kind = c"tmpfs";
    // SAFETY: the name is a C string; the rest are integers.
    let made = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOSE_ON_EXEC) })?;
    let made = own(made as RawFd);
    // SAFETY: this command takes neither a key nor a value.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            made.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            none,
            none,
            0,
        )
    })?;
    // SAFETY: integers.
    let mounted =
        check(unsafe { libc::syscall(libc::SYS_fsmount, made.as_raw_fd(), CLOSE_ON_EXEC, 0) })?;
    Ok(own(mounted as RawFd))
}

/// Attaches a tree of [`clone_tree`] at the directory or file of `target`.
///
/// # Errors
/// `ENOTDIR` for a directory on a file or a file on a directory, `EINVAL` for a tree that is attached.
pub fn attach_tree(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: both paths are empty C strings; the rest are integers.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Shows the owners of the files of a tree as the user namespace `users` maps them.
///
/// # Errors
/// `EINVAL` when the file system cannot, `EPERM` when it is not ours.
pub fn map_tree(tree: BorrowedFd<'_>, users: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd() as u64,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, and the kernel reads as many bytes of the attributes as it is
    // told they have.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// The kind of the namespace that `file` stands for, as a `CLONE_NEW…` flag (`man 2 ioctl_ns`).
///
/// # Errors
/// `ENOTTY` when it stands for none.
pub fn namespace_kind(file: BorrowedFd<'_>) -> Result<i32, Errno> {
    /// `_IO(0xb7, 0x3)` of <linux/nsfs.h>.
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the call takes no argument.
    check(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) }.into()).map(|kind| kind as i32)
}

/// A copy of descriptor `number` of another process (`man 2 pidfd_getfd`).
///
/// # Errors
/// `EPERM` when we may not trace it, `EBADF` when it has no such descriptor.
pub fn descriptor_of(process: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes integers.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?;
    Ok(own(fd as RawFd))
}

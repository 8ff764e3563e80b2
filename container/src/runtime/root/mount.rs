//! Mounts in the root: a tree that is bound, or a file system of its own (`man 2 mount`, `man 2 open_tree`).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::SFlag;

use super::attributes::{Others, attributes, locked};
use super::proc::{PROC_ROOT_INODE, check_proc, is_proc};
use super::resolve::find_or_make;
use super::{Make, by_descriptor, kind, resolve};
use crate::plan::call::text;
use crate::plan::oci::MountIn;
use crate::runtime::copy_up;
use crate::sys::{self, fstat};

/// Mounts something in `root`: for a bind `tree`, if it was made ready by somebody else.
///
/// # Errors
/// The kernel's; `EPERM` for what would hide the kernel's own `/proc`.
pub fn mount_in(
    root: BorrowedFd<'_>,
    what: &MountIn,
    tree: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    if !what.flags.contains(MsFlags::MS_BIND) {
        return new_in(root, what);
    }
    if what.flags.contains(MsFlags::MS_REMOUNT) {
        let mounted = resolve(root, &what.target, Make::Nothing)?;
        return change(mounted.as_fd(), what, attributes(what, Others::Stay));
    }
    match (tree, what.source.as_deref()) {
        (Some(tree), _) => bind_in(root, what, tree),
        (None, Some(source)) => {
            let tree = sys::clone_tree(source, what.flags.contains(MsFlags::MS_REC))?;
            bind_in(root, what, tree.as_fd())
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

/// A bind gets its attributes before anybody can see it, and is attached to a descriptor: whoever shares
/// the directory cannot make another mount of it meanwhile.
fn bind_in(root: BorrowedFd<'_>, what: &MountIn, tree: BorrowedFd<'_>) -> Result<(), Errno> {
    let kept = match &what.detached {
        Some(detached) if detached.is_locked => locked(tree, what)?,
        _ => MsFlags::empty(),
    };
    match change(tree, what, attributes(what, Others::Go(kept))) {
        // Those of a mount from outside its user namespace are locked (`man 7 mount_namespaces`).
        Err(Errno::EPERM) => change(tree, what, attributes(what, Others::Stay))?,
        other => other?,
    }
    let is_directory = kind(tree)? == SFlag::S_IFDIR;
    let make = if is_directory {
        Make::Directory
    } else {
        Make::File
    };
    let target = resolve(root, &what.target, make)?;
    // Kernels differ in how they refuse it (EINVAL since Linux 6.17).
    if (kind(target.as_fd())? == SFlag::S_IFDIR) != is_directory {
        return Err(Errno::ENOTDIR);
    }
    let is_proc = is_proc(tree)? && fstat(tree)?.st_ino == PROC_ROOT_INODE;
    check_proc(root, target.as_fd(), is_proc)?;
    sys::attach_tree(tree, target.as_fd())
}

fn new_in(root: BorrowedFd<'_>, what: &MountIn) -> Result<(), Errno> {
    let is_proc = what.kind.as_deref() == Some(c"proc");
    let is_kernels = is_proc || what.kind.as_deref() == Some(c"sysfs");
    let is_change = what.flags.contains(MsFlags::MS_REMOUNT);
    // What is masked in the kernel's is masked by its path, which has to lead there for good.
    let (target, was_there) = if is_kernels {
        match sys::open_without_links(root, &what.target) {
            Err(Errno::ENOENT) => {
                resolve(root, &what.target, Make::Directory)?;
                (sys::open_without_links(root, &what.target)?, false)
            }
            there => (there?, true),
        }
    } else {
        find_or_make(root, &what.target, Make::Directory)?
    };
    if !is_change {
        check_proc(root, target.as_fd(), is_proc)?;
    }
    let data = match &what.data {
        data if is_change || !was_there => data.clone(),
        data => with_mode(data.as_deref(), what.kind.as_deref(), target.as_fd())?,
    };
    // What is copied into it has to be written first.
    let later = if what.copies_up {
        what.flags & MsFlags::MS_RDONLY
    } else {
        MsFlags::empty()
    };
    mount(
        what.source.as_deref(),
        by_descriptor(target.as_fd()).as_c_str(),
        what.kind.as_deref(),
        what.flags - later,
        data.as_deref(),
    )?;
    if what.recursive == (0, 0) && what.propagation.is_empty() && !what.copies_up {
        return Ok(());
    }
    // The descriptor from before stands below the new mount; what is on it now is seen by its path.
    let mounted = resolve(root, &what.target, Make::Nothing)?;
    if what.copies_up {
        copy_up::copy(target.as_fd(), mounted.as_fd())?;
    }
    let set = if later.is_empty() {
        0
    } else {
        libc::MOUNT_ATTR_RDONLY
    };
    change(mounted.as_fd(), what, (set, 0))
}

/// Sets attributes and propagation of a mount.
fn change(mounted: BorrowedFd<'_>, what: &MountIn, own: (u64, u64)) -> Result<(), Errno> {
    if own != (0, 0) {
        sys::set_mount_attributes(mounted, own.0, own.1, false)?;
    }
    if what.recursive != (0, 0) {
        sys::set_mount_attributes(mounted, what.recursive.0, what.recursive.1, true)?;
    }
    what.propagation
        .iter()
        .try_for_each(|flags| sys::set_propagation(mounted, *flags))
}

/// Options of a file system; a tmpfs that does not say otherwise has the permissions of what it covers.
fn with_mode(
    data: Option<&CStr>,
    kind: Option<&CStr>,
    covered: BorrowedFd<'_>,
) -> Result<Option<CString>, Errno> {
    let given = data.map_or(&b""[..], CStr::to_bytes);
    let has_mode = given
        .split(|&byte| byte == b',')
        .any(|it| it.starts_with(b"mode="));
    if kind != Some(c"tmpfs") || has_mode {
        return Ok(data.map(CStr::to_owned));
    }
    let mode = format!("mode={:o}", fstat(covered)?.st_mode & 0o7777);
    let mut all = given.to_vec();
    if !all.is_empty() {
        all.push(b',');
    }
    all.extend(mode.as_bytes());
    Ok(Some(text(all)))
}

//! Making calls in a container's root: every path is opened inside of it first, and the mount or file is
//! made on the descriptor, by way of the *host's* /proc, so that nothing in the image or in another
//! container that shares a volume can lead a mount elsewhere.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, symlinkat};

use super::copy_up;
use crate::plan::call::text;
use crate::plan::oci::MountIn;
use crate::sys;

/// `MS_NOSYMFOLLOW` of <linux/mount.h>, since Linux 5.10.
pub const NO_SYMLINKS: MsFlags = MsFlags::from_bits_retain(256);

/// What is made where a path is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// Nothing: it has to be there.
    Nothing,
    /// A directory.
    Directory,
    /// An empty file, to bind something on.
    File,
}

/// A path that opens what `fd` stands for.
pub fn by_descriptor(fd: BorrowedFd<'_>) -> CString {
    text(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Opens `path` in `root`, and makes what is missing of it: from its end back to what is there.
///
/// # Errors
/// The kernel's.
pub fn resolve(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Result<OwnedFd, Errno> {
    match sys::open_in_root(root, path, libc::O_PATH, 0) {
        Err(Errno::ENOENT) if make != Make::Nothing => {}
        other => return other,
    }
    let (directory, name) = parent(root, path)?;
    if make == Make::File {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(0o644);
        drop(nix::fcntl::openat(&directory, name, flags, mode)?);
    } else {
        mkdirat(&directory, name, Mode::from_bits_truncate(0o755))?;
    }
    sys::open_in_root(root, path, libc::O_PATH, 0)
}

/// Opens the directory of `path` in `root`; gives it and the last name.
fn parent<'a>(root: BorrowedFd<'_>, path: &'a CStr) -> Result<(OwnedFd, &'a OsStr), Errno> {
    let mut bytes = path.to_bytes();
    while let Some(shorter) = bytes.strip_suffix(b"/").or(bytes.strip_suffix(b"/.")) {
        bytes = shorter;
    }
    let (directory, name): (&[u8], _) = match bytes.iter().rposition(|&byte| byte == b'/') {
        None => (b"/", bytes),
        Some(0) => (b"/", &bytes[1..]),
        Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
    };
    if name.is_empty() || name == b".." || name == b"." {
        return Err(Errno::EINVAL);
    }
    Ok((
        resolve(root, &text(directory), Make::Directory)?,
        OsStr::from_bytes(name),
    ))
}

/// Mounts something in `root`.
///
/// # Errors
/// The kernel's.
pub fn mount_in(
    root: BorrowedFd<'_>,
    what: &MountIn,
    tree: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let is_bind = what.flags.contains(MsFlags::MS_BIND);
    let make = match (&what.source, is_bind, tree) {
        (_, true, Some(tree)) if !is_directory(tree)? => Make::File,
        (Some(source), true, None) if !is_directory_at(source)? => Make::File,
        _ => Make::Directory,
    };
    let is_change = what.flags.contains(MsFlags::MS_REMOUNT);
    let target = resolve(root, &what.target, make)?;
    let path = by_descriptor(target.as_fd());
    let data = match &what.data {
        data if is_bind || is_change => data.clone(),
        data => with_mode(data.as_deref(), what.kind.as_deref(), target.as_fd())?,
    };
    // What is copied into it has to be written first.
    let later = if what.copies_up {
        what.flags & MsFlags::MS_RDONLY
    } else {
        MsFlags::empty()
    };
    match tree {
        Some(tree) => sys::attach_tree(tree, target.as_fd())?,
        // Flags of a bind, and changes of them, are attributes.
        None if is_bind && is_change => {}
        None => mount(
            what.source.as_deref(),
            path.as_c_str(),
            what.kind.as_deref(),
            if is_bind {
                MsFlags::MS_BIND | what.flags & MsFlags::MS_REC
            } else {
                what.flags - later
            },
            data.as_deref(),
        )?,
    }
    let (mut set, clear) = attributes(what);
    if !later.is_empty() {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let nothing_more = (set, clear) == (0, 0)
        && what.recursive == (0, 0)
        && what.propagation.is_empty()
        && !what.copies_up;
    if nothing_more {
        return Ok(());
    }
    // The descriptor from before stands below the new mount; what is on it now is seen by its path.
    let mounted = resolve(root, &what.target, Make::Nothing)?;
    if what.copies_up {
        copy_up::copy(target.as_fd(), mounted.as_fd())?;
    }
    if (set, clear) != (0, 0) {
        sys::set_mount_attributes(mounted.as_fd(), set, clear, false)?;
    }
    if what.recursive != (0, 0) {
        sys::set_mount_attributes(mounted.as_fd(), what.recursive.0, what.recursive.1, true)?;
    }
    for flags in &what.propagation {
        mount(
            None::<&CStr>,
            by_descriptor(mounted.as_fd()).as_c_str(),
            None::<&CStr>,
            *flags,
            None::<&CStr>,
        )?;
    }
    Ok(())
}

fn is_directory_at(path: &CStr) -> Result<bool, Errno> {
    Ok(nix::sys::stat::stat(path)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
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

/// The attributes that a bind sets and clears; its `mount` call takes none.
fn attributes(what: &MountIn) -> (u64, u64) {
    if !what.flags.contains(MsFlags::MS_BIND) {
        return (0, 0);
    }
    let table = [
        (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (MsFlags::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (NO_SYMLINKS, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let bits = |flags: MsFlags| {
        table
            .iter()
            .filter(|(flag, _)| flags.contains(*flag))
            .fold(0, |bits, (_, bit)| bits | bit)
    };
    let (mut set, mut clear) = (bits(what.flags), bits(what.cleared));
    // Access times are one value, not flags: the old one has to go.
    for (flag, value) in [
        (MsFlags::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
        (MsFlags::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
        (MsFlags::MS_RELATIME, 0),
    ] {
        if what.flags.contains(flag) {
            set |= value;
            clear |= libc::MOUNT_ATTR__ATIME;
            break;
        }
    }
    (set, clear)
}

/// Makes a path in `root` read-only.
///
/// # Errors
/// `ENOENT` when it is not there; else the kernel's.
pub fn make_read_only(root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = resolve(root, path, Make::Nothing)?;
    let itself = by_descriptor(target.as_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(
        Some(itself.as_c_str()),
        itself.as_c_str(),
        None::<&CStr>,
        flags,
        None::<&CStr>,
    )?;
    let mounted = resolve(root, path, Make::Nothing)?;
    sys::set_mount_attributes(mounted.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)
}

/// Shows nothing at a path in `root`.
///
/// # Errors
/// `ENOENT` when it is not there; else the kernel's.
pub fn mask(root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = resolve(root, path, Make::Nothing)?;
    let kind = SFlag::from_bits_truncate(fstat(&target)?.st_mode) & SFlag::S_IFMT;
    let path = by_descriptor(target.as_fd());
    if kind == SFlag::S_IFDIR {
        let data = c"size=0k,nr_inodes=2";
        return mount(
            Some(c"tmpfs"),
            path.as_c_str(),
            Some(c"tmpfs"),
            MsFlags::MS_RDONLY,
            Some(data),
        );
    }
    // The host's: the container may have made something else of its own.
    mount(
        Some(c"/dev/null"),
        path.as_c_str(),
        None::<&CStr>,
        MsFlags::MS_BIND,
        None::<&CStr>,
    )
}

/// Makes a device node or FIFO in `root`.
///
/// # Errors
/// The kernel's; a node that is there already is kept if it is the same device.
pub fn make_device(
    root: BorrowedFd<'_>,
    path: &CStr,
    mode: u32,
    device: (u32, u32),
    owner: (u32, u32),
) -> Result<(), Errno> {
    let (directory, name) = parent(root, path)?;
    let number = nix::sys::stat::makedev(device.0.into(), device.1.into());
    let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    match mknodat(
        &directory,
        name,
        kind,
        Mode::from_bits_truncate(mode & 0o7777),
        number,
    ) {
        Err(Errno::EEXIST) => {
            let there = sys::open_in_root(
                directory.as_fd(),
                &text(name.as_bytes()),
                libc::O_PATH | libc::O_NOFOLLOW,
                0,
            )?;
            let stat = fstat(&there)?;
            if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != kind
                || stat.st_rdev != number
            {
                return Err(Errno::EEXIST);
            }
        }
        other => other?,
    }
    if owner != (0, 0) {
        let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        nix::unistd::fchownat(
            &directory,
            name,
            Some(user),
            Some(group),
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

/// Makes a link in `root`; one that is there already is kept.
///
/// # Errors
/// The kernel's.
pub fn link(root: BorrowedFd<'_>, path: &CStr, target: &CStr) -> Result<(), Errno> {
    let (directory, name) = parent(root, path)?;
    match symlinkat(target, &directory, name) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(folder.path(), flags, Mode::empty()).unwrap();
        (folder, root)
    }

    #[test]
    fn what_is_missing_of_a_path_is_made() {
        let (folder, root) = root();
        let there = |path: &str| folder.path().join(path);
        for path in [c"/a/b/c", c"/a//b/./d/", c"e", c"/a/b/c/."] {
            resolve(root.as_fd(), path, Make::Directory).unwrap();
        }
        for path in ["a/b/c", "a/b/d", "e"] {
            assert!(there(path).is_dir(), "{path}");
        }
        resolve(root.as_fd(), c"/x/y/file", Make::File).unwrap();
        assert!(there("x/y").is_dir() && there("x/y/file").is_file());
        let missing = resolve(root.as_fd(), c"/x/z", Make::Nothing);
        assert_eq!(missing.unwrap_err(), Errno::ENOENT);
    }

    #[test]
    fn links_on_the_way_stay_in_the_root() {
        let (folder, root) = root();
        std::os::unix::fs::symlink("/elsewhere", folder.path().join("link")).unwrap();
        std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
        resolve(root.as_fd(), c"/link/new/../newer", Make::Directory).unwrap_err();
        resolve(root.as_fd(), c"/link/new", Make::Directory).unwrap();
        assert!(folder.path().join("elsewhere/new").is_dir());
        // One that leads nowhere is not made into something.
        std::os::unix::fs::symlink("/nowhere", folder.path().join("dangling")).unwrap();
        let made = resolve(root.as_fd(), c"/dangling", Make::Directory);
        assert_eq!(made.unwrap_err(), Errno::EEXIST);
        assert!(!folder.path().join("nowhere").exists());
    }
}

//! Paths of a container, which its image chose: resolved by the kernel inside of the root and never
//! outside (`man 2 openat2`), and mounts by descriptors.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// Opens `path` as if `root` were `/`: links, absolute ones too, and `..` stay inside; links of `/proc`
/// that lead anywhere are not followed.
///
/// # Errors
/// As `openat`; `EXDEV` or `ELOOP` for a way out. `EAGAIN` (somebody renames) is tried again.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
) -> Result<OwnedFd, Errno> {
    open_resolved(root, path, flags, mode, 0)
}

/// Opens `path` in `root` when no part of it is a symbolic link.
///
/// # Errors
/// As [`open_in_root`]; `ELOOP` for a link.
pub fn open_without_links(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    open_resolved(root, path, libc::O_PATH, 0, libc::RESOLVE_NO_SYMLINKS)
}

fn open_resolved(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> Result<OwnedFd, Errno> {
    // SAFETY: `open_how` is a struct of integers, for which zero is valid and means "not given".
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | resolve;
    for _ in 0..100 {
        // SAFETY: the path is a C string, and the kernel reads as many bytes of `how` as it is told.
        let result = check(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        });
        match result {
            Err(Errno::EAGAIN) => {}
            // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EAGAIN)
}

/// Sets and clears attributes of the mount that `fd` stands on, and with `recursive` of all in it
/// (`man 2 mount_setattr`).
///
/// # Errors
/// `EINVAL` when it is no mount, `ENOSYS` before Linux 5.12.
pub fn set_mount_attributes(
    fd: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    recursive: bool,
) -> Result<(), Errno> {
    set_mount(fd, set, clear, 0, recursive)
}

/// Changes how mounts in the mount that `fd` stands on spread, `MS_REC` meaning in all mounts in it too.
///
/// # Errors
/// As [`set_mount_attributes`].
pub fn set_propagation(fd: BorrowedFd<'_>, flags: nix::mount::MsFlags) -> Result<(), Errno> {
    let recursive = flags.contains(nix::mount::MsFlags::MS_REC);
    let propagation = flags.difference(nix::mount::MsFlags::MS_REC).bits();
    set_mount(fd, 0, 0, propagation, recursive)
}

fn set_mount(
    fd: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, and the kernel reads as many bytes of the attributes as it is
    // told they have.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    use std::ffi::CString;
    use std::os::fd::AsFd;

    #[test]
    fn no_link_leads_out_of_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let link = |name: &str, to: &str| {
            std::os::unix::fs::symlink(to, directory.path().join(name)).unwrap()
        };
        link("absolute", "/etc/passwd");
        link("upward", "../../../../../../etc/passwd");
        link("magic", "/proc/self/root");
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::fs::write(directory.path().join("etc/passwd"), "mine").unwrap();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let root = open(directory.path(), flags, Mode::empty()).unwrap();
        let read = |path: &str| {
            let fd = open_in_root(
                root.as_fd(),
                &CString::new(path).unwrap(),
                libc::O_RDONLY,
                0,
            )?;
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::fs::File::from(fd), &mut text).unwrap();
            Ok::<_, Errno>(text)
        };
        for path in ["absolute", "upward", "/../etc/passwd", "/absolute"] {
            assert_eq!(read(path).as_deref(), Ok("mine"), "{path}");
        }
        assert_eq!(read("magic/etc/passwd"), Err(Errno::ENOENT));
    }
}

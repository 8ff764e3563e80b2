//! Copying what a new file system covers into it (`tmpcopyup`): files, directories, links and devices
//! with their owners, permissions and times. Everything is reached by descriptors, as the image chose
//! the names.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

/// Directories in directories, at most: no image needs more, and the stack has an end.
const DEEPEST: usize = 256;

/// Copies all that is in the directory `from` to the directory `to`; both may be `O_PATH` descriptors.
///
/// # Errors
/// The kernel's, `ENOSPC` above all; `ELOOP` for directories nested too deeply.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let (from, to) = (directory(from, c".")?, directory(to, c".")?);
    copy_directory(&from, &to, DEEPEST)
}

fn directory(at: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Errno> {
    let depth = depth.checked_sub(1).ok_or(Errno::ELOOP)?;
    let names: Vec<CString> = Dir::from_fd(directory(from, c".")?)?
        .iter()
        .map(|entry| entry.map(|it| it.file_name().to_owned()))
        .collect::<Result<_, _>>()?;
    let real = |name: &&CString| !matches!(name.to_bytes(), b"." | b"..");
    for name in names.iter().filter(real) {
        let stat = fstatat(from, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        copy_entry(from, to, name, &stat, depth)?;
    }
    Ok(())
}

fn copy_entry(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &CStr,
    stat: &FileStat,
    depth: usize,
) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let (from, to) = (directory(from, name)?, directory(to, name)?);
            copy_directory(&from, &to, depth)?;
            finish(&to, stat, mode)
        }
        SFlag::S_IFREG => {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut source = File::from(openat(from, name, flags, Mode::empty())?);
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mut target = File::from(openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
            let copied = std::io::copy(&mut source, &mut target);
            copied.map_err(|it| it.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
            finish(&target, stat, mode)
        }
        SFlag::S_IFLNK => {
            let link: OsString = readlinkat(from, name)?;
            let link = CString::new(link.into_vec()).map_err(|_| Errno::EINVAL)?;
            symlinkat(link.as_c_str(), to, name)?;
            own_and_date(to, name, stat)
        }
        kind => {
            mknodat(to, name, kind, mode, stat.st_rdev)?;
            own_and_date(to, name, stat)
        }
    }
}

/// Owner first: a change of it takes set-user-ID away.
fn finish(file: impl AsFd, stat: &FileStat, mode: Mode) -> Result<(), Errno> {
    let (user, group) = owner(stat);
    fchown(&file, user, group)?;
    fchmod(&file, mode)?;
    let (accessed, modified) = times(stat);
    futimens(&file, &accessed, &modified)
}

fn own_and_date(at: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
    let (user, group) = owner(stat);
    fchownat(at, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let (accessed, modified) = times(stat);
    utimensat(
        at,
        name,
        &accessed,
        &modified,
        UtimensatFlags::NoFollowSymlink,
    )
}

fn owner(stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::open;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_with_its_permissions_and_links() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inner = from.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), "text").unwrap();
        let mode = std::fs::Permissions::from_mode(0o4711);
        std::fs::set_permissions(inner.join("file"), mode).unwrap();
        symlink("/nowhere", inner.join("link")).unwrap();
        let open = |path| open(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        copy(open(from.path()).as_fd(), open(to.path()).as_fd()).unwrap();
        let file = to.path().join("a/b/file");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
        let (old, new) = (
            inner.join("file").metadata().unwrap(),
            file.metadata().unwrap(),
        );
        assert_eq!((new.mode(), new.mtime()), (old.mode(), old.mtime()));
        let link = std::fs::read_link(to.path().join("a/b/link")).unwrap();
        assert_eq!(link.to_str(), Some("/nowhere"));
    }
}

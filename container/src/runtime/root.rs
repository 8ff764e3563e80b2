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

/// Opens `path` in `root`, and makes what is missing of it: from its end back to what is there. Where a link
/// leads to what is missing, that is made, in `root` as well: links are followed as whoever lives there
/// would, to whom `root` is all that there is (as runc does).
///
/// # Errors
/// The kernel's.
pub fn resolve(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Result<OwnedFd, Errno> {
    resolve_links(root, path, make, MOST_LINKS)
}

/// So many links to what is not there lead nowhere (the kernel's number for those that do).
const MOST_LINKS: u8 = 40;

fn resolve_links(
    root: BorrowedFd<'_>,
    path: &CStr,
    make: Make,
    links: u8,
) -> Result<OwnedFd, Errno> {
    match sys::open_in_root(root, path, libc::O_PATH, 0) {
        Err(Errno::ENOENT) if make != Make::Nothing => {}
        other => return other,
    }
    let (before, name) = split(path)?;
    let directory = resolve_links(root, &text(before), Make::Directory, links)?;
    match make_one(&directory, name, make == Make::File) {
        // A link to what is not there: that is what is missing.
        Err(Errno::EEXIST) if links > 0 => {
            let target = nix::fcntl::readlinkat(&directory, name)?;
            let target = target.as_os_str().as_bytes();
            let path = match target {
                [b'/', ..] => target.to_vec(),
                _ => [before, b"/", target].concat(),
            };
            return resolve_links(root, &text(path), make, links - 1);
        }
        other => other?,
    }
    sys::open_in_root(root, path, libc::O_PATH, 0)
}

/// Makes a directory or an empty file.
fn make_one(parent: &OwnedFd, name: &OsStr, is_file: bool) -> Result<(), Errno> {
    if !is_file {
        return mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

/// The directory of a path, and its last name.
fn split(path: &CStr) -> Result<(&[u8], &OsStr), Errno> {
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
    Ok((directory, OsStr::from_bytes(name)))
}

/// Opens the directory of `path` in `root`; gives it and the last name.
fn parent<'a>(root: BorrowedFd<'_>, path: &'a CStr) -> Result<(OwnedFd, &'a OsStr), Errno> {
    let (directory, name) = split(path)?;
    Ok((resolve(root, &text(directory), Make::Directory)?, name))
}

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
    let make = if kind(tree)? == SFlag::S_IFDIR {
        Make::Directory
    } else {
        Make::File
    };
    let target = resolve(root, &what.target, make)?;
    let is_proc = is_proc(tree)? && fstat(tree)?.st_ino == PROC_ROOT_INODE;
    check_proc(root, target.as_fd(), is_proc)?;
    sys::attach_tree(tree, target.as_fd())
}

fn new_in(root: BorrowedFd<'_>, what: &MountIn) -> Result<(), Errno> {
    let is_proc = what.kind.as_deref() == Some(c"proc");
    let is_kernels = is_proc || what.kind.as_deref() == Some(c"sysfs");
    let is_change = what.flags.contains(MsFlags::MS_REMOUNT);
    let was_there = sys::open_in_root(root, &what.target, libc::O_PATH, 0).is_ok();
    let mut target = resolve(root, &what.target, Make::Directory)?;
    if is_kernels {
        // What is masked in it is masked by its path, which has to lead there for good.
        target = sys::open_without_links(root, &what.target)?;
    }
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

/// The inode of a procfs's root directory (`PROC_ROOT_INO` of <linux/proc_fs.h>).
const PROC_ROOT_INODE: u64 = 1;

/// Files of `/proc` that show the machine; programs that know of limits (LXCFS) put their own there.
const SHOWING_THE_MACHINE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/net/dev",
];

/// Refuses to cover the container's `/proc`, or what is in it: whoever writes a label or a parameter
/// there has to find the kernel. By what `target` is and not by its path, which links may have bent.
fn check_proc(root: BorrowedFd<'_>, target: BorrowedFd<'_>, is_proc: bool) -> Result<(), Errno> {
    let there = fstat(target)?;
    if is_proc && (there.st_ino == PROC_ROOT_INODE || !self::is_proc(target)?) {
        return Ok(());
    }
    if self::is_proc(target)? && there.st_ino != PROC_ROOT_INODE {
        let path = nix::fcntl::readlink(by_descriptor(target).as_c_str())?;
        let path = path.to_string_lossy();
        let shows = SHOWING_THE_MACHINE.iter().any(|it| path.ends_with(it));
        return if shows { Ok(()) } else { Err(Errno::EPERM) };
    }
    match sys::open_in_root(root, c"/proc", libc::O_PATH, 0) {
        Ok(proc) => {
            let proc = fstat(&proc)?;
            if (proc.st_dev, proc.st_ino) == (there.st_dev, there.st_ino) {
                return Err(Errno::EPERM);
            }
            Ok(())
        }
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether something is on a procfs.
pub(super) fn is_proc(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(nix::sys::statfs::fstatfs(file)?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}

fn kind(file: BorrowedFd<'_>) -> Result<SFlag, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT)
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

/// Options of a mount that attributes stand for, but for when access counts.
const ATTRIBUTES: [(MsFlags, u64); 5] = [
    (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    (NO_SYMLINKS, libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// Options about when access counts: if one is named, the others go.
const TIMES: MsFlags = MsFlags::MS_NOATIME
    .union(MsFlags::MS_NODIRATIME)
    .union(MsFlags::MS_RELATIME)
    .union(MsFlags::MS_STRICTATIME);

/// What becomes of the attributes that the options of a bind do not name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    /// They are those of its source.
    Stay,
    /// They go but for these, if any option is about attributes (`mount --bind -o …`, `man 8 mount`).
    Go(MsFlags),
}

/// The attributes that a bind sets and clears; its `mount` call takes none.
fn attributes(what: &MountIn, others: Others) -> (u64, u64) {
    if !what.flags.contains(MsFlags::MS_BIND) {
        return (0, 0);
    }
    let bits = |is_wanted: &dyn Fn(MsFlags) -> bool| {
        let wanted = ATTRIBUTES.iter().filter(|(flag, _)| is_wanted(*flag));
        wanted.fold(0, |bits, (_, bit)| bits | bit)
    };
    let named = what.flags - MsFlags::MS_BIND - MsFlags::MS_REC;
    let mut set = bits(&|flag| what.flags.contains(flag));
    let mut clear = match others {
        Others::Go(kept) if !(named.is_empty() && what.cleared.is_empty()) => {
            bits(&|flag| !what.flags.contains(flag) && !kept.contains(flag))
        }
        _ => bits(&|flag| what.cleared.contains(flag)),
    };
    if what.flags.intersects(TIMES) {
        // One value, not flags: the old one has to go, and relative times are the default.
        let times = [
            (MsFlags::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
            (MsFlags::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
        ];
        let value = times.iter().find(|(flag, _)| what.flags.contains(*flag));
        set |= value.map_or(libc::MOUNT_ATTR_RELATIME, |(_, value)| *value);
        clear |= libc::MOUNT_ATTR__ATIME;
        match what.flags.contains(MsFlags::MS_NODIRATIME) {
            true => set |= libc::MOUNT_ATTR_NODIRATIME,
            false => clear |= libc::MOUNT_ATTR_NODIRATIME,
        }
    } else if what.cleared.contains(MsFlags::MS_NODIRATIME) {
        clear |= libc::MOUNT_ATTR_NODIRATIME;
    }
    (set, clear)
}

/// The options of `tree` that a bind in another user namespace keeps (`man 7 mount_namespaces`).
///
/// # Errors
/// `EPERM` when `what` is to do away with one.
fn locked(tree: BorrowedFd<'_>, what: &MountIn) -> Result<MsFlags, Errno> {
    use nix::sys::statvfs::FsFlags;
    let now = nix::sys::statvfs::fstatvfs(tree)?.flags();
    let table = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let has = table.iter().filter(|(it, _)| now.contains(*it));
    let has = has.fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
    let asked = what.flags & TIMES;
    let times = match has & TIMES {
        none if none.is_empty() => MsFlags::MS_STRICTATIME,
        times => times,
    };
    if what.cleared.intersects(has - TIMES) || !(asked.is_empty() || asked == times) {
        return Err(Errno::EPERM);
    }
    Ok(has)
}

/// Makes a path in `root` read-only.
///
/// # Errors
/// `ENOENT` when it is not there; else the kernel's.
pub fn make_read_only(root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = resolve(root, path, Make::Nothing)?;
    let tree = sys::clone_tree(&by_descriptor(target.as_fd()), true)?;
    sys::set_mount_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
    sys::attach_tree(tree.as_fd(), target.as_fd())
}

/// Shows nothing at a path in `root`; the first directory that is shown so is kept in `empty`, for the
/// others.
///
/// # Errors
/// `ENOENT` when it is not there, `ENODEV` when the host's `/dev/null` is not that device; else the
/// kernel's.
pub fn mask(root: BorrowedFd<'_>, path: &CStr, empty: &mut Option<OwnedFd>) -> Result<(), Errno> {
    let name = path;
    let target = resolve(root, path, Make::Nothing)?;
    let path = by_descriptor(target.as_fd());
    if kind(target.as_fd())? == SFlag::S_IFDIR {
        // One file system for all: each has a price.
        if let Some(empty) = empty {
            let empty = by_descriptor(empty.as_fd());
            let none = None::<&CStr>;
            return mount(
                Some(empty.as_c_str()),
                path.as_c_str(),
                none,
                MsFlags::MS_BIND,
                none,
            );
        }
        let data = c"size=0k,nr_inodes=2";
        mount(
            Some(c"tmpfs"),
            path.as_c_str(),
            Some(c"tmpfs"),
            MsFlags::MS_RDONLY,
            Some(data),
        )?;
        *empty = Some(resolve(root, name, Make::Nothing)?);
        return Ok(());
    }
    // The host's: the container may have made something else of its own.
    let null = nix::fcntl::open(
        c"/dev/null",
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let is_null = kind(null.as_fd())? == SFlag::S_IFCHR
        && fstat(&null)?.st_rdev == nix::sys::stat::makedev(1, 3);
    if !is_null {
        return Err(Errno::ENODEV);
    }
    mount(
        Some(by_descriptor(null.as_fd()).as_c_str()),
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
        let root = open_root(folder.path());
        (folder, root)
    }

    fn open_root(path: &std::path::Path) -> OwnedFd {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::empty()).unwrap()
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
    }

    #[test]
    fn what_a_link_lacks_is_made_in_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        let root = open_root(&inside);
        let absolute = outside.path().join("absolute");
        let lead = |name: &str, target: &str| {
            std::os::unix::fs::symlink(target, inside.join(name)).unwrap();
        };
        lead("a", absolute.to_str().unwrap());
        lead("b", "../../climbs/out");
        lead("c", "/../../climbs/further");
        lead("d", "next");
        lead("next", "/end");
        for link in [c"/a", c"/b", c"/c", c"/d"] {
            resolve(root.as_fd(), link, Make::Directory).unwrap();
        }
        let as_seen_inside = absolute.strip_prefix("/").unwrap();
        for made in [
            as_seen_inside,
            "climbs/out".as_ref(),
            "climbs/further".as_ref(),
            "end".as_ref(),
        ] {
            assert!(inside.join(made).is_dir(), "{made:?}");
        }
        let there: Vec<_> = std::fs::read_dir(outside.path())
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(there, ["root"], "something was made outside of the root");
        // One that leads to itself leads nowhere.
        lead("round", "round");
        let made = resolve(root.as_fd(), c"/round", Make::Directory);
        assert_eq!(made.unwrap_err(), Errno::ELOOP);
    }
}

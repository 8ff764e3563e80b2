//! The container's `/proc`: no mount hides it from the runtime, which writes labels and parameters there.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::by_descriptor;
use crate::sys::fstat;

/// The inode of a procfs's root directory (`PROC_ROOT_INO` of <linux/proc_fs.h>).
pub const PROC_ROOT_INODE: u64 = 1;

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
pub fn check_proc(
    root: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    is_proc: bool,
) -> Result<(), Errno> {
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
    // A link is no `/proc`: none is mounted where one leads.
    match fstatat(root, c"proc", AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(proc) if (proc.st_dev, proc.st_ino) == (there.st_dev, there.st_ino) => Err(Errno::EPERM),
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether something is on a procfs.
///
/// # Errors
/// The kernel's.
pub fn is_proc(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(nix::sys::statfs::fstatfs(file)?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}

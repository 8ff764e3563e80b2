//! The options of mounts, and what each is to the kernel (`config.md`, "Linux mount options").

use nix::mount::MsFlags;

use crate::runtime::root::NO_SYMLINKS;

/// `MS_LAZYTIME` of <linux/mount.h>.
const LAZY_TIMES: MsFlags = MsFlags::from_bits_retain(1 << 25);

/// A source that is not there is no error (`man 8 mount`).
pub const NO_FAIL: &str = "nofail";

/// A source that is a link is not followed but copied; crun's, which podman gives for /etc/localtime.
pub const COPY_LINK: &str = "copy-symlink";

/// Options that set or clear a flag of the mount: the name, whether it clears, the flag.
pub(super) const FLAGS: [(&str, bool, MsFlags); 37] = [
    ("defaults", false, MsFlags::empty()),
    (NO_FAIL, false, MsFlags::empty()),
    (COPY_LINK, false, MsFlags::empty()),
    ("bind", false, MsFlags::MS_BIND),
    ("rbind", false, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("ro", false, MsFlags::MS_RDONLY),
    ("rw", true, MsFlags::MS_RDONLY),
    ("nosuid", false, MsFlags::MS_NOSUID),
    ("suid", true, MsFlags::MS_NOSUID),
    ("nodev", false, MsFlags::MS_NODEV),
    ("dev", true, MsFlags::MS_NODEV),
    ("noexec", false, MsFlags::MS_NOEXEC),
    ("exec", true, MsFlags::MS_NOEXEC),
    ("sync", false, MsFlags::MS_SYNCHRONOUS),
    ("async", true, MsFlags::MS_SYNCHRONOUS),
    ("dirsync", false, MsFlags::MS_DIRSYNC),
    ("remount", false, MsFlags::MS_REMOUNT),
    ("mand", false, MsFlags::MS_MANDLOCK),
    ("nomand", true, MsFlags::MS_MANDLOCK),
    ("atime", true, MsFlags::MS_NOATIME),
    ("noatime", false, MsFlags::MS_NOATIME),
    ("diratime", true, MsFlags::MS_NODIRATIME),
    ("nodiratime", false, MsFlags::MS_NODIRATIME),
    ("relatime", false, MsFlags::MS_RELATIME),
    ("norelatime", true, MsFlags::MS_RELATIME),
    ("strictatime", false, MsFlags::MS_STRICTATIME),
    ("nostrictatime", true, MsFlags::MS_STRICTATIME),
    ("silent", false, MsFlags::MS_SILENT),
    ("loud", true, MsFlags::MS_SILENT),
    ("iversion", false, MsFlags::MS_I_VERSION),
    ("noiversion", true, MsFlags::MS_I_VERSION),
    ("acl", false, MsFlags::MS_POSIXACL),
    ("noacl", true, MsFlags::MS_POSIXACL),
    ("lazytime", false, LAZY_TIMES),
    ("nolazytime", true, LAZY_TIMES),
    ("nosymfollow", false, NO_SYMLINKS),
    ("symfollow", true, NO_SYMLINKS),
];

pub(super) const PROPAGATION: [(&str, MsFlags); 8] = [
    ("private", MsFlags::MS_PRIVATE),
    ("shared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
];

/// Options for a mount and all in it: the name, the attributes to clear, those to set.
pub(super) const RECURSIVE: [(&str, u64, u64); 18] = [
    ("rro", 0, libc::MOUNT_ATTR_RDONLY),
    ("rrw", libc::MOUNT_ATTR_RDONLY, 0),
    ("rnosuid", 0, libc::MOUNT_ATTR_NOSUID),
    ("rsuid", libc::MOUNT_ATTR_NOSUID, 0),
    ("rnodev", 0, libc::MOUNT_ATTR_NODEV),
    ("rdev", libc::MOUNT_ATTR_NODEV, 0),
    ("rnoexec", 0, libc::MOUNT_ATTR_NOEXEC),
    ("rexec", libc::MOUNT_ATTR_NOEXEC, 0),
    ("rnodiratime", 0, libc::MOUNT_ATTR_NODIRATIME),
    ("rdiratime", libc::MOUNT_ATTR_NODIRATIME, 0),
    ("rrelatime", libc::MOUNT_ATTR__ATIME, 0),
    (
        "rnoatime",
        libc::MOUNT_ATTR__ATIME,
        libc::MOUNT_ATTR_NOATIME,
    ),
    (
        "rstrictatime",
        libc::MOUNT_ATTR__ATIME,
        libc::MOUNT_ATTR_STRICTATIME,
    ),
    ("rnosymfollow", 0, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ("rsymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("ratime", libc::MOUNT_ATTR__ATIME, 0),
    // No mount is without all of the three: who is not to be `relatime` stays what he is.
    ("rnorelatime", 0, 0),
    ("rnostrictatime", libc::MOUNT_ATTR__ATIME, 0),
];

/// The names of the options that are understood.
pub fn options() -> Vec<&'static str> {
    let flags = FLAGS.iter().map(|it| it.0);
    let propagation = PROPAGATION.iter().map(|it| it.0);
    let mut all: Vec<_> = flags
        .chain(propagation)
        .chain(RECURSIVE.iter().map(|it| it.0))
        .chain(["idmap", "ridmap", "tmpcopyup"])
        .collect();
    all.sort_unstable();
    all
}

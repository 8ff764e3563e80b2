//! Options of a bind as attributes of its mount (`man 2 mount_setattr`), and those that a user namespace locks.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::mount::MsFlags;

use crate::plan::oci::MountIn;

/// `MS_NOSYMFOLLOW` of <linux/mount.h>, since Linux 5.10.
pub const NO_SYMLINKS: MsFlags = MsFlags::from_bits_retain(256);

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
pub enum Others {
    /// They are those of its source.
    Stay,
    /// They go but for these, if any option is about attributes (`mount --bind -o …`, `man 8 mount`).
    Go(MsFlags),
}

impl Others {
    /// Whether this one stays, even if an option is to take it away.
    fn keeps(self, flag: MsFlags) -> bool {
        matches!(self, Self::Go(kept) if kept.contains(flag))
    }
}

/// The attributes that a bind sets and clears; its `mount` call takes none.
pub fn attributes(what: &MountIn, others: Others) -> (u64, u64) {
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
    } else if what.cleared.contains(MsFlags::MS_NODIRATIME) && !others.keeps(MsFlags::MS_NODIRATIME)
    {
        clear |= libc::MOUNT_ATTR_NODIRATIME;
    }
    (set, clear)
}

/// The options of `tree` that a bind in another user namespace keeps (`man 7 mount_namespaces`).
///
/// # Errors
/// `EPERM` when `what` is to do away with one.
pub fn locked(tree: BorrowedFd<'_>, what: &MountIn) -> Result<MsFlags, Errno> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_stays_even_if_an_option_is_to_take_it_away() {
        let bind = MountIn {
            flags: MsFlags::MS_BIND,
            cleared: MsFlags::MS_NODIRATIME,
            ..MountIn::at(c"/mnt".into())
        };
        for (locked, cleared) in [
            (MsFlags::empty(), libc::MOUNT_ATTR_NODIRATIME),
            (MsFlags::MS_NODIRATIME, 0),
        ] {
            let (_, clear) = attributes(&bind, Others::Go(locked));
            assert_eq!(clear & libc::MOUNT_ATTR_NODIRATIME, cleared);
        }
    }
}

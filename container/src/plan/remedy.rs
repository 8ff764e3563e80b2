//! What the reader can do about a call that the kernel refused.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::call::Call;
use super::lifecycle::LifeCall;
use super::oci::{MountIn, OciCall};
use crate::namespace::Namespace;

/// Advice on `errno` from `call`, beginning with `; `; empty where nobody knows better.
pub fn remedy(call: &Call, errno: Errno) -> &'static str {
    match (call, errno) {
        (Call::Clone3 { namespaces, .. }, Errno::EPERM) if namespaces.contains(Namespace::User) => {
            "; unprivileged user namespaces are forbidden here: run as root, or ask `ringside doctor` which setting forbids them"
        }
        (Call::Clone3 { .. } | Call::Unshare { .. }, Errno::EPERM) => {
            "; run as root with CAP_SYS_ADMIN"
        }
        (Call::Clone3 { .. } | Call::Unshare { .. }, Errno::ENOSPC) => {
            "; too many or too deeply nested namespaces: raise the limits in /proc/sys/user, or end some"
        }
        (Call::Clone3 { .. } | Call::Unshare { .. }, Errno::EINVAL) => {
            "; this kernel lacks one of these namespaces: use one with CONFIG_NAMESPACES and all below it"
        }
        (Call::Clone3 { .. }, Errno::EAGAIN) => {
            "; too many processes: raise `ulimit -u` or the cgroup's pids.max"
        }
        (Call::Oci(OciCall::Scheduler(_)), Errno::EPERM) => {
            "; it needs CAP_SYS_NICE and in cgroups of version 1 `linux.resources.cpu.realtimeRuntime`, and a process scheduler can't be used together with AllowedCPUs"
        }
        (Call::Oci(OciCall::Mount(mount)), Errno::ENOTDIR | Errno::ELOOP)
            if matches!(
                mount.kind.as_deref().map(CStr::to_bytes),
                Some(b"proc" | b"sysfs")
            ) =>
        {
            "; it must be mounted on ordinary directory"
        }
        (Call::WriteProc { .. }, Errno::EPERM) => {
            "; the kernel lets nobody map these users: run as root, or ask `ringside doctor` which setting forbids it"
        }
        (Call::WriteProc { .. } | Call::Life(LifeCall::MapIds { .. }), Errno::EINVAL) => {
            "; each number may be in one range only, and there are 340 ranges at most: mend them"
        }
        (
            Call::Mount {
                kind: Some(kind), ..
            },
            errno,
        ) => mount(kind.to_bytes(), errno),
        (Call::ChangeDirectory { .. }, Errno::ENOENT) => {
            "; the container sees the host's files: name a directory of the host's"
        }
        (Call::ChangeDirectory { .. }, Errno::ENOTDIR) => "; name a directory",
        (Call::ChangeDirectory { .. }, Errno::EACCES) => {
            "; this user may not enter it: name another directory"
        }
        (
            Call::WriteProc {
                file: "oom_score_adj",
                ..
            },
            Errno::EACCES,
        ) => "; lowering it takes CAP_SYS_RESOURCE: give a value that is not below the caller's",
        (Call::Oci(call), errno) => oci(call, errno),
        (Call::Life(call), errno) => life(call, errno),
        (_, Errno::ENOSPC) => "; the file system or one of the kernel's tables is full",
        (_, Errno::EROFS) => "; the file system is read-only: mount it with `rw`",
        _ => "",
    }
}

fn oci(call: &OciCall, errno: Errno) -> &'static str {
    match (call, errno) {
        (OciCall::Mount(what), errno) => mount_in(what, errno),
        (OciCall::Join { .. }, Errno::ENOENT) => {
            "; name a namespace's file of a process that runs, such as /proc/PID/ns/net"
        }
        (OciCall::JoinInit { .. }, Errno::ESRCH) => "; the container has ended meanwhile",
        (OciCall::Join { .. } | OciCall::JoinInit { .. }, Errno::EPERM) => {
            "; run as root with CAP_SYS_ADMIN over that namespace"
        }
        (OciCall::OpenRoot { .. }, Errno::ENOENT) => "; unpack an image there, or name its root",
        (OciCall::OpenRoot { .. }, Errno::ENOTDIR) => "; name a directory",
        (OciCall::SetClocks { .. }, Errno::ERANGE) => {
            "; no clock goes below 0 or beyond some 146 years: give a smaller offset"
        }
        (OciCall::Affinity { .. }, Errno::EINVAL) => {
            "; none of these processors is one that it may run on: see `process.execCPUAffinity` and `linux.resources.cpu.cpus`"
        }
        (OciCall::MakeDevice { .. }, Errno::EEXIST) => {
            "; something else is there already: remove it from the image, or give another path"
        }
        (OciCall::Capabilities { .. }, Errno::EPERM) => {
            "; what is inheritable has to be in `process.capabilities.bounding` as well"
        }
        (OciCall::PivotRoot, Errno::EINVAL) => {
            "; a root in an initial RAM disk cannot be pivoted: give --no-pivot"
        }
        (OciCall::Write { .. }, Errno::ENOENT) => "; this kernel has no such parameter: remove it",
        (OciCall::Write { .. }, Errno::EINVAL) => "; the kernel takes no such value for it",
        (OciCall::Write { .. }, Errno::EACCES | Errno::EPERM) => {
            "; it belongs to a namespace that the container has not got: add it, or run as root"
        }
        (OciCall::MakeDevice { .. }, Errno::EPERM) => {
            "; run as root with CAP_MKNOD, and allow the device in `linux.resources.devices`"
        }
        (OciCall::Rlimit { .. }, Errno::EPERM) => {
            "; raising a hard limit takes CAP_SYS_RESOURCE, and files end at /proc/sys/fs/nr_open: ask for no more than `ulimit -H` tells"
        }
        (OciCall::Rlimit { .. }, Errno::EINVAL) => "; the soft limit may not be above the hard one",
        (OciCall::BecomeUser { .. }, Errno::EINVAL) => {
            "; its user namespace has no such user or group: add them to `linux.uidMappings` and `linux.gidMappings`"
        }
        (OciCall::BecomeUser { .. }, Errno::EPERM) => {
            "; run as root with CAP_SETUID and CAP_SETGID"
        }
        (OciCall::ChangeDirectory { .. } | OciCall::ChangeDirectoryAsUser { .. }, errno) => {
            directory(errno)
        }
        (OciCall::Seccomp { .. }, Errno::EINVAL) => {
            "; this kernel lacks a flag or action of the filter: see /proc/sys/kernel/seccomp/actions_avail"
        }
        (OciCall::Seccomp { .. }, Errno::EACCES) => {
            "; without CAP_SYS_ADMIN a filter takes `process.noNewPrivileges`"
        }
        (OciCall::MemoryPolicy { .. }, Errno::EINVAL) => {
            "; the kernel takes this mode not with these nodes and flags: see /sys/devices/system/node/has_memory, and `linux.resources.cpu.mems`"
        }
        (OciCall::MemoryPolicy { .. }, Errno::ENOSYS) => {
            "; this kernel knows no memory nodes: remove it"
        }
        (OciCall::Scheduler(_), Errno::EINVAL) => {
            "; the kernel takes not this policy with these values: see man 2 sched_setattr"
        }
        (OciCall::Scheduler(_) | OciCall::IoPriority { .. }, Errno::EPERM) => {
            "; real time takes CAP_SYS_NICE: choose another policy or class"
        }
        (OciCall::RunHooks { .. }, Errno::ECANCELED) => "; what it said is above",
        (OciCall::Terminal { .. }, Errno::ENOENT | Errno::ENOTTY) => {
            "; a terminal takes a devpts at /dev/pts: add it to `mounts`"
        }
        (_, Errno::ELOOP | Errno::EXDEV) => "; a link on the way leads out of the root: remove it",
        (_, Errno::EROFS) => "; the root is read-only there: make what is missing in the image",
        _ => "",
    }
}

fn mount_in(what: &MountIn, errno: Errno) -> &'static str {
    let is_bind = what.flags.contains(MsFlags::MS_BIND);
    let has_owners = what.detached.as_ref().is_some_and(|it| it.owners.is_some());
    match errno {
        Errno::ENOENT if is_bind => {
            "; what it binds is not there: make it, or name another `source`"
        }
        Errno::EINVAL if has_owners => {
            "; its file system cannot show other owners, or each number may be in one range only: mend the maps, or remove them"
        }
        Errno::ENOENT => "; its source or a directory above its destination is not there: make it",
        Errno::ENODEV => "; this kernel has no such file system: load its module, or remove it",
        Errno::ENOTDIR => "; a file fits on a file only, and a directory on a directory",
        Errno::ENOTBLK => "; its source is no disk: give the option `bind` to see it elsewhere",
        Errno::EINVAL => {
            "; the file system takes no such option, or its source is none: see the kernel's log"
        }
        Errno::ELOOP | Errno::EXDEV => {
            "; a link on the way to its destination leads out of the root: remove it"
        }
        Errno::EBUSY => "; its source is mounted elsewhere with other options",
        Errno::EROFS => "; the root is read-only there: make the destination in the image",
        _ => what
            .kind
            .as_deref()
            .map_or("", |kind| mount(kind.to_bytes(), errno)),
    }
}

fn life(call: &LifeCall, errno: Errno) -> &'static str {
    match (call, errno) {
        (LifeCall::Join { .. }, Errno::ENOENT) => {
            "; name a namespace's file of a process that runs, such as /proc/PID/ns/net"
        }
        (LifeCall::Join { .. }, Errno::EINVAL) => "; that file is no namespace of this kind",
        (LifeCall::Join { .. }, Errno::EPERM) => {
            "; run as root with CAP_SYS_ADMIN over that namespace"
        }
        (LifeCall::MoveInterface { .. }, errno) => interface(errno),
        (LifeCall::AwaitEnd, Errno::ETIMEDOUT) => {
            "; it hangs in the kernel: see /proc/PID/stack, and try again"
        }
        (LifeCall::Listen { .. }, Errno::EADDRINUSE) => "; delete the container with --force",
        _ => "",
    }
}

fn directory(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "; make the directory in the root, or name another",
        Errno::ENOTDIR => "; name a directory",
        Errno::EACCES => "; its user may not enter it: name another directory",
        Errno::EXDEV => "; that is outside of the root: name a directory in it",
        _ => "",
    }
}

fn interface(errno: Errno) -> &'static str {
    match errno {
        Errno::ENODEV => "; there is no such interface: see `ip link`",
        Errno::EEXIST => "; the container has one of that name: give another in `name`",
        Errno::EINVAL => "; this kind of interface stays where it was made: give another one",
        Errno::EPERM => "; run as root with CAP_NET_ADMIN over both networks",
        _ => "",
    }
}

fn mount(kind: &[u8], errno: Errno) -> &'static str {
    match (kind, errno) {
        (b"overlay", Errno::ENODEV) => {
            "; this kernel has no overlayfs: `modprobe overlay`, or build it in"
        }
        (b"overlay", Errno::EPERM) => {
            "; overlayfs for ordinary users needs Linux 5.11: run as root"
        }
        (b"overlay", Errno::EINVAL) => {
            "; overlayfs takes no such lower layer (the host's root may be two overlays deep already): see the kernel's log"
        }
        (b"proc" | b"sysfs", Errno::EPERM) => {
            "; parts of the host's are covered, so the kernel shows no new one: run outside of a container, or as root"
        }
        _ => "",
    }
}

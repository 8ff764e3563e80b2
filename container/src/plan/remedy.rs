//! What the reader can do about a call that the kernel refused.

use nix::errno::Errno;

use super::call::Call;
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
        (Call::WriteProc { .. }, Errno::EPERM) => {
            "; the kernel lets nobody map these users: run as root, or ask `ringside doctor` which setting forbids it"
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

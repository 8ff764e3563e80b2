//! Device nodes and links (`config-linux.md`, "Devices", "Default Devices").

use nix::mount::MsFlags;

use super::super::c;
use crate::plan::oci::{Detached, DeviceNode, MountIn, OciCall};
use crate::spec::{Device, IdMapping, NamespaceKind, Spec};

/// Devices that every container has, with their numbers (`config-linux.md`, "Default Devices").
pub(super) const DEVICES: [(&str, (u32, u32)); 6] = [
    ("/dev/null", (1, 3)),
    ("/dev/zero", (1, 5)),
    ("/dev/full", (1, 7)),
    ("/dev/random", (1, 8)),
    ("/dev/urandom", (1, 9)),
    ("/dev/tty", (5, 0)),
];

/// Links that every container has (`runtime-linux.md`, "Dev symbolic links").
pub(super) const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// The node of a configured device; `can_make` says whether the runtime may make nodes.
pub(super) fn configured_node(
    device: &Device,
    spec: &Spec,
    can_make: bool,
    detached: &mut usize,
) -> OciCall {
    let kind = match device.kind.as_str() {
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        _ => libc::S_IFCHR,
    };
    let mode = kind | device.file_mode.unwrap_or(0o666) & 0o7777;
    let owner = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    let number = (device.major as u32, device.minor as u32);
    let path = device.path.trim_end_matches('/');
    let is_user = spec.has(NamespaceKind::User);
    let outside = |id, map: &[IdMapping]| {
        let line = map
            .iter()
            .find(|it| it.container_id <= id && id - it.container_id < it.size)?;
        Some(line.host_id + (id - line.container_id))
    };
    let linux = &spec.linux;
    let outside = (
        outside(owner.0, &linux.uid_mappings),
        outside(owner.1, &linux.gid_mappings),
    );
    match outside {
        (Some(user), Some(group)) if is_user && can_make && kind != libc::S_IFIFO => {
            let index = *detached;
            *detached += 1;
            OciCall::Mount(Box::new(MountIn {
                source: Some(c(path)),
                flags: MsFlags::MS_BIND,
                detached: Some(Detached {
                    index,
                    device: Some(DeviceNode {
                        mode,
                        number,
                        owner: (user, group),
                    }),
                    owners: None,
                    is_mapped_recursively: false,
                    is_of_root: false,
                    is_locked: false,
                }),
                ..MountIn::at(c(path))
            }))
        }
        _ => node(path, mode, number, owner, is_user || !can_make),
    }
}

/// A device; where none can be made, as by root of a user namespace, the host's own.
pub(super) fn node(
    path: &str,
    mode: u32,
    device: (u32, u32),
    owner: (u32, u32),
    binds: bool,
) -> OciCall {
    if binds && mode & libc::S_IFMT != libc::S_IFIFO {
        OciCall::BindDevice {
            path: c(path),
            source: c(path),
        }
    } else {
        OciCall::MakeDevice {
            path: c(path),
            mode,
            device,
            owner,
        }
    }
}

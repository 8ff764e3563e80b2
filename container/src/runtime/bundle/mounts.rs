//! What is mounted in the root, device nodes, and what is hidden (`config.md`, "Mounts";
//! `config-linux.md`, "Default Devices", "Masked Paths").

use std::path::Path;

use nix::mount::MsFlags;

use super::super::root::NO_SYMLINKS;
use super::{c, if_there, oci};
use crate::namespace::user::Mapping;
use crate::plan::call::text;
use crate::plan::oci::{Detached, DeviceNode, MountIn, OciCall, Owners};
use crate::plan::step::Step;
use crate::spec::{Device, Error, IdMapping, Mount, NamespaceKind, Spec};

/// Devices that every container has, with their numbers (`config-linux.md`, "Default Devices").
const DEVICES: [(&str, (u32, u32)); 6] = [
    ("/dev/null", (1, 3)),
    ("/dev/zero", (1, 5)),
    ("/dev/full", (1, 7)),
    ("/dev/random", (1, 8)),
    ("/dev/urandom", (1, 9)),
    ("/dev/tty", (5, 0)),
];

/// Links that every container has (`runtime-linux.md`, "Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// `MS_LAZYTIME` of <linux/mount.h>.
const LAZY_TIMES: MsFlags = MsFlags::from_bits_retain(1 << 25);

/// A source that is not there is no error (`man 8 mount`).
pub const NO_FAIL: &str = "nofail";

/// Options that set or clear a flag of the mount: the name, whether it clears, the flag.
const FLAGS: [(&str, bool, MsFlags); 36] = [
    ("defaults", false, MsFlags::empty()),
    (NO_FAIL, false, MsFlags::empty()),
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

const PROPAGATION: [(&str, MsFlags); 8] = [
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
const RECURSIVE: [(&str, u64, u64); 18] = [
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

/// The mounts, devices and links.
pub fn steps(steps: &mut Vec<Step>, spec: &Spec, bundle: &Path) -> Result<(), Error> {
    let mut detached = 0;
    for (index, mount) in spec.mounts.iter().enumerate() {
        let field = format!("mounts[{index}]");
        let call = plan(mount, spec, bundle, &field, &mut detached)?;
        let what = format!("mount {}", mount.destination);
        let step = oci(what, "the configuration has it", vec![call]).asked_by(field);
        let may_lack = mount.options.iter().any(|it| it == NO_FAIL);
        steps.push(if may_lack { if_there(step) } else { step });
    }
    // A /dev of the host's has its devices, and they are not to be touched.
    let dev = spec.mounts.iter().find(|mount| is_dev(mount));
    if dev.is_none_or(|mount| !mount.is_bind()) {
        let mut calls: Vec<OciCall> = Vec::new();
        let is_user = spec.has(NamespaceKind::User);
        let configured = |path: &str| spec.linux.devices.iter().any(|it| it.path == path);
        for (path, device) in DEVICES.into_iter().filter(|(path, _)| !configured(path)) {
            calls.push(node(path, libc::S_IFCHR | 0o666, device, (0, 0), is_user));
        }
        for (path, target) in LINKS {
            calls.push(OciCall::Link {
                path: c(path),
                target: c(target),
            });
        }
        calls.push(OciCall::Link {
            path: c("/dev/ptmx"),
            target: c("pts/ptmx"),
        });
        steps.push(oci(
            "make the default devices",
            "every program may count on them",
            calls,
        ));
        // Callers that give all devices of the host's give this one too; it is the link above.
        let devices = spec.linux.devices.iter().enumerate();
        for (index, device) in devices.filter(|(_, it)| it.path != "/dev/ptmx") {
            let call = configured_node(device, spec, &mut detached);
            steps.push(
                oci(
                    format!("make {}", device.path),
                    "the configuration has it",
                    vec![call],
                )
                .asked_by(format!("linux.devices[{index}]")),
            );
        }
    }
    if let Some(process) = &spec.process
        && process.cwd != "/"
    {
        steps.push(
            oci(
                "make the working directory",
                "the program starts there",
                vec![OciCall::MakeDirectories {
                    path: c(&process.cwd),
                }],
            )
            .asked_by("process.cwd"),
        );
    }
    Ok(())
}

fn configured_node(device: &Device, spec: &Spec, detached: &mut usize) -> OciCall {
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
        (Some(user), Some(group)) if is_user && kind != libc::S_IFIFO => {
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
        _ => node(path, mode, number, owner, is_user),
    }
}

/// In a user namespace, whose root makes no devices, the host's own.
fn node(path: &str, mode: u32, device: (u32, u32), owner: (u32, u32), is_user: bool) -> OciCall {
    if is_user && mode & libc::S_IFMT != libc::S_IFIFO {
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

/// Masked and read-only paths.
pub fn hide(steps: &mut Vec<Step>, spec: &Spec) {
    let calls = |paths: &[String], call: fn(std::ffi::CString) -> OciCall| {
        paths.iter().map(|path| call(c(path))).collect::<Vec<_>>()
    };
    let linux = &spec.linux;
    let wants = |mount: &&Mount| is_dev(mount) && !mount.is_bind();
    if let Some(dev) = spec.mounts.iter().find(wants)
        && dev
            .options
            .iter()
            .rev()
            .find(|it| *it == "ro" || *it == "rw")
            .is_some_and(|it| it == "ro")
    {
        let path = c("/dev");
        steps.push(oci(
            "make /dev read-only",
            "all devices are made",
            vec![OciCall::ReadOnlyMount { path }],
        ));
    }
    if !linux.readonly_paths.is_empty() {
        let calls = calls(&linux.readonly_paths, |path| OciCall::MakeReadOnly { path });
        steps.push(
            if_there(oci(
                "make the kernel's switches read-only",
                "they are the whole machine's",
                calls,
            ))
            .asked_by("linux.readonlyPaths"),
        );
    }
    if !linux.masked_paths.is_empty() {
        let calls = calls(&linux.masked_paths, |path| OciCall::Mask { path });
        steps.push(
            if_there(oci(
                "mask what no namespace divides",
                "kernel memory, keys and firmware are the whole machine's",
                calls,
            ))
            .asked_by("linux.maskedPaths"),
        );
    }
}

/// Whether it is the /dev that devices are made in.
fn is_dev(mount: &Mount) -> bool {
    Path::new(&mount.destination) == Path::new("/dev")
}

/// One mount as a call.
fn plan(
    mount: &Mount,
    spec: &Spec,
    bundle: &Path,
    field: &str,
    detached: &mut usize,
) -> Result<OciCall, Error> {
    let mut planned = MountIn::at(target(mount, &super::root(spec, bundle)));
    let mut data: Vec<&str> = Vec::new();
    let mut mapped = None;
    for (index, option) in mount.options.iter().enumerate() {
        if let Some((_, clears, flag)) = FLAGS.iter().find(|it| it.0 == option) {
            if *clears {
                planned.flags.remove(*flag);
                planned.cleared.insert(*flag);
            } else {
                planned.flags.insert(*flag);
                planned.cleared.remove(*flag);
            }
        } else if let Some((_, flags)) = PROPAGATION.iter().find(|it| it.0 == option) {
            planned.propagation.push(*flags);
        } else if let Some((_, clear, set)) = RECURSIVE.iter().find(|it| it.0 == option) {
            planned.recursive.0 = planned.recursive.0 & !clear | set;
            planned.recursive.1 |= clear;
        } else if matches!(option.as_str(), "idmap" | "ridmap") {
            mapped = Some(option == "ridmap");
        } else if option == "tmpcopyup" {
            if mount.kind != "tmpfs" {
                return Err(Error::field(
                    format!("{field}.options[{index}]"),
                    option,
                    "only a tmpfs starts with a copy of what it covers; make it `type` tmpfs",
                ));
            }
            planned.copies_up = true;
        } else {
            data.push(option);
        }
    }
    if !mount.uid_mappings.is_empty() {
        mapped = mapped.or(Some(false));
    }
    let owners = mapped.map(|_| owners(mount, spec, field)).transpose()?;
    if mount.kind == "cgroup" || mount.kind == "cgroup2" {
        return Ok(OciCall::MountGroups {
            target: planned.target,
            is_read_only: planned.flags.contains(MsFlags::MS_RDONLY),
        });
    }
    if mount.is_bind() {
        planned.flags.insert(MsFlags::MS_BIND);
        // A relative source counts from the bundle.
        let source = bundle.join(&mount.source);
        planned.source = Some(text(source.as_os_str().as_encoded_bytes()));
        // What other mounts have put into the root is there only then.
        let is_of_root = source.starts_with(super::root(spec, bundle));
        // Its root may not reach what the caller can.
        if !planned.flags.contains(MsFlags::MS_REMOUNT)
            && (owners.is_some() || spec.has(NamespaceKind::User) && !is_of_root)
        {
            planned.detached = Some(Detached {
                index: *detached,
                device: None,
                owners,
                is_mapped_recursively: mapped == Some(true),
                is_of_root,
                is_locked: spec.has(NamespaceKind::User),
            });
            *detached += 1;
        }
    } else {
        let source = if mount.source.is_empty() {
            &mount.kind
        } else {
            &mount.source
        };
        planned.source = Some(c(source));
        planned.kind = Some(c(&mount.kind));
    }
    let context = super::label::context(&spec.linux.mount_label);
    if let (Some(context), false) = (&context, mount.is_bind()) {
        data.push(context);
    }
    // Devices are still to be made in it.
    if is_dev(mount) && !mount.is_bind() {
        planned.flags.remove(MsFlags::MS_RDONLY);
    }
    if !data.is_empty() {
        planned.data = Some(text(data.join(",")));
    }
    Ok(OciCall::Mount(Box::new(planned)))
}

/// Where a mount goes, as the container sees it. Some callers name the place as the host sees it, in the
/// root's directory.
fn target(mount: &Mount, root: &Path) -> std::ffi::CString {
    let path = Path::new(&mount.destination);
    let inside = path.strip_prefix(root).or(path.strip_prefix("/"));
    let inside = inside.unwrap_or(path).as_os_str().as_encoded_bytes();
    text([b"/", inside].concat())
}

/// Whom the files of an idmapped mount belong to: as the mount says, or else as its container's user
/// namespace has it.
fn owners(mount: &Mount, spec: &Spec, field: &str) -> Result<Owners, Error> {
    let maps = |list: &[IdMapping]| {
        let map = |it: &IdMapping| Mapping {
            inside: it.container_id,
            outside: it.host_id,
            length: it.size,
        };
        list.iter().map(map).collect()
    };
    if !mount.is_bind() {
        return Err(Error::field(
            format!("{field}.type"),
            &mount.kind,
            "only a bind mount can show other owners; add the option `bind`",
        ));
    }
    let mapped = |users: &[IdMapping], groups: &[IdMapping]| Owners::Mapped {
        users: maps(users),
        groups: maps(groups),
    };
    match (
        mount.uid_mappings.is_empty(),
        spec.namespace(NamespaceKind::User),
    ) {
        (false, _) => Ok(mapped(&mount.uid_mappings, &mount.gid_mappings)),
        (true, Some(user)) if user.path.is_empty() => {
            Ok(mapped(&spec.linux.uid_mappings, &spec.linux.gid_mappings))
        }
        (true, Some(user)) => Ok(Owners::OfNamespace(user.path.clone())),
        (true, None) => Err(Error::Missing {
            field: format!("{field}.uidMappings"),
            why: "an idmapped mount needs maps, its own or a user namespace's",
        }),
    }
}

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

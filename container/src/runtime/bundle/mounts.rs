//! What is mounted in the root, device nodes, and what is hidden (`config.md`, "Mounts";
//! `config-linux.md`, "Default Devices", "Masked Paths").

mod devices;
mod options;

use std::path::Path;

use nix::mount::MsFlags;

use options::COPY_LINK;
pub use options::{NO_FAIL, options};

use super::{c, if_there, oci};
use crate::namespace::user::Mapping;
use crate::plan::call::text;
use crate::plan::oci::{Detached, MountIn, OciCall, Owners};
use crate::plan::step::Step;
use crate::spec::{Error, IdMapping, Mount, NamespaceKind, Spec};
use devices::{DEVICES, LINKS, configured_node, node};
use options::{FLAGS, PROPAGATION, RECURSIVE};

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
        // Who is root of another user namespace makes none, as podman's for an ordinary user.
        let can_make = crate::host::is_first_user_namespace();
        let binds = spec.has(NamespaceKind::User) || !can_make;
        let configured = |path: &str| spec.linux.devices.iter().any(|it| it.path == path);
        for (path, device) in DEVICES.into_iter().filter(|(path, _)| !configured(path)) {
            calls.push(node(path, libc::S_IFCHR | 0o666, device, (0, 0), binds));
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
            let call = configured_node(device, spec, can_make, &mut detached);
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

/// The paths of devices that every container has.
pub fn default_devices() -> impl Iterator<Item = &'static str> {
    DEVICES.into_iter().map(|(path, _)| path)
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
        if mount.options.iter().any(|it| it == COPY_LINK)
            && let Ok(target) = source.read_link()
        {
            return Ok(OciCall::Link {
                path: planned.target,
                target: text(target.as_os_str().as_encoded_bytes()),
            });
        }
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
pub fn target(mount: &Mount, root: &Path) -> std::ffi::CString {
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

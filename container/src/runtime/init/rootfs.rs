//! Init's way into the container's root: the mount that becomes it, the host's that goes out of sight, and the
//! cgroups that are shown in it (`man 2 pivot_root`).

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

use super::Init;
use crate::plan::call::text;
use crate::plan::oci::MountIn;
use crate::runtime::root;
use crate::spec::NamespaceKind;
use crate::sys;

impl Init<'_> {
    pub(super) fn open_root(
        &mut self,
        path: &CStr,
        propagation: Option<MsFlags>,
    ) -> Result<(), Errno> {
        if let Some(propagation) = propagation {
            mount(
                None::<&CStr>,
                c"/",
                None::<&CStr>,
                propagation,
                None::<&CStr>,
            )?;
        }
        // `pivot_root` takes no root below a shared mount (`man 2 pivot_root`).
        if propagation.is_some_and(|it| it.contains(MsFlags::MS_SHARED)) {
            mount(
                None::<&CStr>,
                c"/",
                None::<&CStr>,
                MsFlags::MS_SLAVE | MsFlags::MS_REC,
                None::<&CStr>,
            )?;
        }
        mount(
            Some(path),
            path,
            None::<&CStr>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&CStr>,
        )?;
        mount(
            None::<&CStr>,
            path,
            None::<&CStr>,
            MsFlags::MS_PRIVATE,
            None::<&CStr>,
        )?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        self.root = Some(open(path, flags, Mode::empty())?);
        self.root_path = Some(PathBuf::from(OsStr::from_bytes(path.to_bytes())));
        Ok(())
    }

    /// Lets go of what the root was made with.
    pub(super) fn leave_host(&mut self) {
        (self.root, self.covers) = (None, root::Covers::default());
        for taken in self.inheritance.detached.iter().flatten() {
            if let Ok(number) = u32::try_from(taken.as_raw_fd()) {
                let _ = sys::close_range(number, number);
            }
        }
    }

    /// Takes the host's /proc and /sys out of sight: a root that is moved leaves the mounts below it,
    /// and the kernel lets a process mount again what it can see.
    pub(super) fn hide_kernel_files(&self) -> Result<(), Errno> {
        let root = self.root_path.as_ref().ok_or(Errno::EBADF)?;
        let table = crate::mount::table::read().map_err(|_| Errno::EIO)?;
        let is_kernels = |kind: &str| matches!(kind, "proc" | "sysfs");
        let found = table
            .iter()
            .filter(|it| is_kernels(&it.kind) && !it.point.starts_with(root));
        for mount_point in found.map(|it| &it.point) {
            let none = None::<&CStr>;
            let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
            match mount(none, mount_point, none, flags, none) {
                // One below it was there before, and is gone with it.
                Err(Errno::EINVAL | Errno::ENOENT) => continue,
                other => other?,
            }
            if umount2(mount_point, MntFlags::MNT_DETACH).is_err() {
                let kind = Some(c"tmpfs");
                mount(kind, mount_point, kind, MsFlags::empty(), none)?;
            }
        }
        Ok(())
    }

    /// In version 2 one mount; in version 1 a directory for each hierarchy, with a link for each other
    /// name that it goes by.
    pub(super) fn mount_groups(&self, target: &CStr, is_read_only: bool) -> Result<(), Errno> {
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let read_only = if is_read_only {
            MsFlags::MS_RDONLY
        } else {
            MsFlags::empty()
        };
        let named = |target: Vec<u8>| MountIn::at(text(target));
        let root = self.root()?;
        let mut parent = root::Parent::default();
        if let Some(unified) = self.inheritance.unified {
            let whole = MountIn {
                source: Some(c"cgroup".into()),
                kind: Some(c"cgroup2".into()),
                flags: quiet | read_only,
                ..named(target.to_bytes().into())
            };
            return match root::mount_in(root, &whole, None) {
                // Only who owns the cgroup namespace may mount them (`man 7 cgroup_namespaces`), and nobody where
                // they are, as in a /sys of the host's: the host's then, from where the namespace begins.
                Err(Errno::EPERM | Errno::EBUSY) => {
                    let begins = self.inheritance.groups.first().map(|it| it.1.as_path());
                    let is_divided = self.inheritance.spec.has(NamespaceKind::Cgroup);
                    let source = begins.filter(|_| is_divided).unwrap_or(unified);
                    let hosts = MountIn {
                        source: Some(text(source.as_os_str().as_bytes())),
                        kind: None,
                        flags: MsFlags::MS_BIND | MsFlags::MS_REC | whole.flags,
                        ..whole
                    };
                    root::mount_in(root, &hosts, None)
                }
                other => other,
            };
        }
        let directory = MountIn {
            source: Some(c"tmpfs".into()),
            kind: Some(c"tmpfs".into()),
            flags: quiet,
            data: Some(c"mode=755".into()),
            ..named(target.to_bytes().into())
        };
        root::mount_in(root, &directory, None)?;
        for (name, path) in self.inheritance.groups {
            let bind = MountIn {
                source: Some(text(path.as_os_str().as_bytes())),
                flags: MsFlags::MS_BIND | quiet | read_only,
                ..named([target.to_bytes(), b"/", name.as_bytes()].concat())
            };
            root::mount_in(root, &bind, None)?;
            for other in name.split(',').filter(|other| other != name) {
                let link = text([target.to_bytes(), b"/", other.as_bytes()].concat());
                let (directory, other) = parent.of(root, &link)?;
                root::link(directory, other, &text(name.as_str()))?;
            }
        }
        if is_read_only {
            let mounted = root::resolve(root, target, root::Make::Nothing)?;
            sys::set_mount_attributes(mounted.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
        }
        Ok(())
    }
}

/// A name for the directory of a cgroup in the container: that of its hierarchy's mount point.
pub fn group_name(mount_point: &Path) -> String {
    mount_point
        .file_name()
        .unwrap_or(OsStr::new("cgroup"))
        .to_string_lossy()
        .into_owned()
}

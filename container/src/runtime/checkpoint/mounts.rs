//! Mounts that come from outside of the container, which criu cannot make again by itself: each has a name in
//! the checkpoint, by which restoring finds what is to be bound there (<https://criu.org/External_bind_mounts>).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;

use crate::cgroup::{Group, Layout, Version, mounted_in};
use crate::plan::call::text;
use crate::runtime::executor::{errno_of, group_names};
use crate::runtime::root::{self, Make};
use crate::runtime::{self, bundle};
use crate::spec::{Mount, NamespaceKind, Spec};
use crate::sys;

/// A mount from outside.
#[derive(Debug, PartialEq, Eq)]
pub struct External {
    /// Where it is in the container, links and all; and its name.
    pub path: PathBuf,
    /// What is there.
    pub source: PathBuf,
}

/// What hides files.
const NULL: &str = "/dev/null";

/// The mounts of a configuration that come from outside, but for those that hide files.
pub fn external(spec: &Spec, bundle: &Path, layout: &Layout, group: &Group) -> Vec<External> {
    let mut all = Vec::new();
    for mount in &spec.mounts {
        if is_cgroup(mount) {
            all.extend(groups(
                spec,
                &destination(mount, spec, bundle),
                layout,
                group,
            ));
        } else if is_from_outside(mount) {
            let path = destination(mount, spec, bundle);
            let source = bundle.join(&mount.source);
            if mount.options.iter().any(|it| it == "rbind") {
                all.extend(inner(spec, &path, &source));
            }
            all.push(External { path, source });
        }
    }
    // In a user namespace they are the host's own.
    let configured = spec.linux.devices.iter().map(|it| PathBuf::from(&it.path));
    let devices = bundle::default_devices()
        .map(PathBuf::from)
        .chain(configured);
    all.extend(devices.map(|path| External {
        source: path.clone(),
        path,
    }));
    all
}

/// What came along with a directory: mounts in it, unless the configuration has another there.
fn inner(spec: &Spec, path: &Path, source: &Path) -> Vec<External> {
    let is_configured = |path: &Path| {
        spec.mounts
            .iter()
            .any(|it| Path::new(&it.destination) == path)
    };
    let source = source.canonicalize().unwrap_or_else(|_| source.into());
    let mounted = mounted_in(&source).into_iter().map(|name| External {
        path: path.join(&name),
        source: source.join(name),
    });
    mounted.filter(|it| !is_configured(&it.path)).collect()
}

fn is_cgroup(mount: &Mount) -> bool {
    mount.kind == "cgroup" || mount.kind == "cgroup2"
}

fn is_from_outside(mount: &Mount) -> bool {
    mount.is_bind() && !is_cgroup(mount) && !mount.options.iter().any(|it| it == "remount")
}

fn destination(mount: &Mount, spec: &Spec, bundle: &Path) -> PathBuf {
    let target = bundle::mount_target(mount, &bundle::root(spec, bundle));
    PathBuf::from(std::ffi::OsStr::from_bytes(target.as_bytes()))
}

/// In version 1, unless it has a cgroup namespace, a container sees its groups by binds of them.
fn groups(spec: &Spec, path: &Path, layout: &Layout, group: &Group) -> Vec<External> {
    let has_own = spec.has(NamespaceKind::Cgroup);
    let is_v1 = |it: &crate::cgroup::Hierarchy| it.version == Version::V1;
    if has_own || !layout.hierarchies().iter().any(is_v1) {
        return Vec::new();
    }
    let bind = |(name, source): (String, PathBuf)| External {
        path: path.join(name),
        source,
    };
    group_names(layout, group).into_iter().map(bind).collect()
}

/// Where criu finds each, in a container that runs, with its name: links on the way are followed as they are
/// in there. What is not there is left out.
///
/// # Errors
/// When the container's root cannot be opened.
pub fn places(
    pid: i32,
    spec: &Spec,
    external: &[External],
) -> Result<Vec<(PathBuf, PathBuf)>, runtime::Error> {
    let path = PathBuf::from(format!("/proc/{pid}/root"));
    let root = open_directory(&path).map_err(|errno| runtime::Error::File {
        path,
        source: errno.into(),
    })?;
    let find = |path: &Path| {
        let path = text(path.as_os_str().as_bytes());
        let found = root::resolve(root.as_fd(), &path, Make::Nothing).ok()?;
        let place = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        Some((place, found))
    };
    let mut all = Vec::new();
    for it in external {
        all.extend(find(&it.path).map(|(place, _)| (place, it.path.clone())));
    }
    // Directories are hidden by a file system that criu knows.
    let is_file = |found: &OwnedFd| {
        let kind = sys::fstat(found.as_fd()).map(|it| it.st_mode & libc::S_IFMT);
        kind.is_ok_and(|it| it != libc::S_IFDIR)
    };
    for path in &spec.linux.masked_paths {
        let found = find(path.as_ref()).filter(|(_, found)| is_file(found));
        all.extend(found.map(|(place, _)| (place, NULL.into())));
    }
    Ok(all)
}

/// What each name stands for, when they are restored.
pub fn sources(spec: &Spec, external: &[External]) -> Vec<(PathBuf, PathBuf)> {
    let mut all: Vec<_> = external
        .iter()
        .map(|it| (it.path.clone(), it.source.clone()))
        .collect();
    if !spec.linux.masked_paths.is_empty() && !all.iter().any(|it| it.0 == Path::new(NULL)) {
        all.push((NULL.into(), NULL.into()));
    }
    all
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// Moves the calling thread into a mount namespace of its own, and shows the container's root at `place` there:
/// criu wants one that is a mount, and that nothing lies over. What the configuration mounts gets places to be
/// mounted on, as when a container is made.
///
/// # Errors
/// What cannot be mounted or made.
pub fn prepare(spec: &Spec, bundle: &Path, place: &Path) -> Result<(), runtime::Error> {
    let rootfs = bundle::root(spec, bundle);
    let at = |what: String, path: &Path, errno: Errno| runtime::Error::At {
        what,
        path: path.into(),
        source: errno.into(),
    };
    let root = own_root(&rootfs, place);
    let root =
        root.map_err(|errno| at("show criu the root (`root.path`)".into(), &rootfs, errno))?;
    let mut covered: Vec<PathBuf> = Vec::new();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let path = destination(mount, spec, bundle);
        // What is in a file system of the container's own is in the checkpoint.
        if covered.iter().any(|it| path.starts_with(it) && path != *it) || is_cgroup(mount) {
            continue;
        }
        let made = if is_from_outside(mount) {
            bind(&root, &bundle.join(&mount.source), &path)
        } else {
            covered.push(path.clone());
            let target = text(path.as_os_str().as_bytes());
            root::resolve(root.as_fd(), &target, Make::Directory).map(drop)
        };
        made.map_err(|errno| at(format!("make a place for `mounts[{index}]`"), &path, errno))?;
    }
    Ok(())
}

fn own_root(rootfs: &Path, place: &Path) -> Result<OwnedFd, Errno> {
    sys::unshare(libc::CLONE_FS | libc::CLONE_NEWNS)?;
    let everything = open_directory(Path::new("/"))?;
    // What the host mounts meanwhile is seen here, and nothing of this there.
    sys::set_propagation(everything.as_fd(), MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
    let tree = sys::clone_tree(&text(rootfs.as_os_str().as_bytes()), true)?;
    sys::attach_tree(tree.as_fd(), open_directory(place)?.as_fd())?;
    open_directory(place)
}

fn bind(root: &OwnedFd, source: &Path, path: &Path) -> Result<(), Errno> {
    let is_directory = fs::metadata(source)
        .map_err(|error| errno_of(&error))?
        .is_dir();
    let make = if is_directory {
        Make::Directory
    } else {
        Make::File
    };
    let target = root::resolve(root.as_fd(), &text(path.as_os_str().as_bytes()), make)?;
    let tree = sys::clone_tree(&text(source.as_os_str().as_bytes()), true)?;
    sys::attach_tree(tree.as_fd(), target.as_fd())
}

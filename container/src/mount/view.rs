//! Which of the host's files a container is to see, and how: the facts that the overlay steps need.
//!
//! Root lays one overlay over each mount of the host. An ordinary user may not: in a user namespace
//! the host's mounts are locked to the directories that they cover, so overlayfs takes no directory with
//! a mount somewhere below it as a lower layer (`man 7 mount_namespaces`, "Restrictions on mount
//! namespaces"). There, such directories are made anew and filled entry by entry:
//!
//! ```text
//! host                      for root                 for a user
//! /                         layer                    directory
//! ├── bin -> usr/bin                                 ├── link
//! ├── usr                                            ├── layer
//! ├── proc            (own)                          ├── directory
//! └── home                                           └── directory
//!     ├── ann                                            ├── layer
//!     └── bob         mount │   └── layer                └── layer
//! ```

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::table::{Mount, visible};

/// Directories that the container gets anew, and never from the host.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// File systems that show the kernel rather than hold files, or that mount others by themselves.
const KERNEL_VIEWS: [&str; 21] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// A directory with more entries than this is bound as a whole instead of being filled one by one.
const MOST_ENTRIES: usize = 128;

/// One place of the host's in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The same path outside and inside.
    pub path: PathBuf,
    /// How it gets there.
    pub way: Way,
    /// Permission bits of the directory.
    pub mode: u32,
    /// Owner and group of the directory.
    pub owner: (u32, u32),
    /// What the host forbids there.
    pub flags: MsFlags,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether the host mounts something there: then the layer below has a directory to mount on.
    pub is_mount: bool,
}

/// How a place of the host's gets into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// An overlay with the host's directory as its lower layer.
    Layer,
    /// A new directory; what is in it are places of their own.
    Directory,
    /// The host's own file, or directory with all that is mounted in it, to read only.
    Bind,
    /// A symbolic link that says the same.
    Link(OsString),
}

/// What `mounts` and the directories of the host make of a container's files, the root first and
/// parents before children.
pub fn view(mounts: &[Mount], is_privileged: bool) -> Vec<Place> {
    let mut visible = visible(mounts);
    visible.retain(|mount| mount.point != Path::new("/"));
    let files = visible.iter().filter(|mount| is_files(mount));
    if is_privileged {
        let root = place(Path::new("/"), MsFlags::empty(), false);
        let others = files.map(|mount| place(&mount.point, restrictions(mount), true));
        return root.into_iter().chain(others.flatten()).collect();
    }
    let mut places = Vec::new();
    fill(Path::new("/"), &visible, &mut places);
    places
}

/// Whether a mount holds files that the container should see at the same path.
fn is_files(mount: &Mount) -> bool {
    !is_own(&mount.point) && !KERNEL_VIEWS.contains(&mount.kind.as_str())
}

fn is_own(path: &Path) -> bool {
    OWN.iter().any(|own| path.starts_with(own))
}

/// The place of a directory or file; none if it is gone or cannot be looked at.
fn place(path: &Path, flags: MsFlags, is_mount: bool) -> Option<Place> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let way = match metadata.file_type() {
        kind if kind.is_dir() => Way::Layer,
        kind if kind.is_symlink() => Way::Link(fs::read_link(path).ok()?.into()),
        _ => Way::Bind,
    };
    let (mode, owner) = (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()));
    let is_directory = metadata.is_dir();
    Some(Place {
        path: path.into(),
        way,
        mode,
        owner,
        flags,
        is_directory,
        is_mount,
    })
}

/// Adds the directory `path`, which has a mount somewhere below it, and what is in it.
fn fill(path: &Path, visible: &[&Mount], places: &mut Vec<Place>) {
    let mount = visible
        .iter()
        .filter(|mount| mount.is_above(path))
        .max_by_key(|mount| mount.point.as_os_str().len());
    let flags = mount.map_or(MsFlags::empty(), |mount| restrictions(mount));
    let Some(mut directory) = place(path, flags, false) else {
        return;
    };
    let names = fs::read_dir(path).map(|entries| entries.flatten().map(|entry| entry.file_name()));
    let mut names: Vec<OsString> = names.map(Iterator::collect).unwrap_or_default();
    names.sort();
    if names.len() > MOST_ENTRIES && path != Path::new("/") {
        directory.way = Way::Bind;
        return places.push(directory);
    }
    directory.way = Way::Directory;
    places.push(directory);
    for name in names {
        let path = path.join(name);
        let is_view = visible
            .iter()
            .any(|mount| mount.point == path && !is_files(mount));
        if is_own(&path) || is_view {
            if let Some(own) = place(&path, flags, false).filter(|it| it.way == Way::Layer) {
                places.push(Place {
                    way: Way::Directory,
                    ..own
                });
            }
        } else if visible
            .iter()
            .any(|mount| mount.point != path && mount.point.starts_with(&path))
        {
            fill(&path, visible, places);
        } else {
            let flags = visible
                .iter()
                .find(|mount| mount.point == path)
                .map_or(flags, |mount| restrictions(mount));
            places.extend(place(&path, flags, false));
        }
    }
}

/// What the host forbids on a mount stays forbidden; in a user namespace the kernel insists on it.
fn restrictions(mount: &Mount) -> MsFlags {
    let flag = |option| match option {
        "nosuid" => MsFlags::MS_NOSUID,
        "nodev" => MsFlags::MS_NODEV,
        "noexec" => MsFlags::MS_NOEXEC,
        "noatime" => MsFlags::MS_NOATIME,
        "nodiratime" => MsFlags::MS_NODIRATIME,
        "relatime" => MsFlags::MS_RELATIME,
        _ => MsFlags::empty(),
    };
    mount.options.split(',').map(flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::table::parse;

    fn ways(places: &[Place]) -> Vec<(&str, &Way)> {
        places
            .iter()
            .map(|place| (place.path.to_str().unwrap(), &place.way))
            .collect()
    }

    #[test]
    fn root_sees_each_mount_of_files_through_a_layer() {
        let table = parse(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:2 / /proc rw - proc p rw\n3 1 0:3 / /usr rw,nosuid,noexec - ext4 b rw\n\
              4 1 0:4 / /etc/passwd rw - ext4 c rw\n5 1 0:5 / /etc rw - nsfs d rw\n6 1 0:6 / /dev/shm rw - tmpfs e rw\n\
              7 1 0:7 / /gone rw - tmpfs f rw\n",
        );
        let places = view(&table.unwrap(), true);
        // `/etc` comes from a kernel view here, which also hides the file below it.
        assert_eq!(ways(&places), [("/", &Way::Layer), ("/usr", &Way::Layer)]);
        assert_eq!(places[1].flags, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC);
    }

    #[test]
    fn a_mounted_file_is_bound() {
        let table =
            parse(b"1 0 8:1 / / rw - ext4 a rw\n4 1 0:4 / /etc/passwd rw - ext4 c rw\n").unwrap();
        assert_eq!(
            ways(&view(&table, true)),
            [("/", &Way::Layer), ("/etc/passwd", &Way::Bind)]
        );
    }

    #[test]
    fn a_user_gets_directories_with_mounts_below_filled_one_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in ["plain", "filled/in", "filled/beside", "own"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        fs::write(path.join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", path.join("link")).unwrap();
        let line = |point: &str, kind: &str| {
            format!(
                "9 1 0:4 / {}/{point} rw,nosuid - {kind} c rw\n",
                path.display()
            )
        };
        let table = format!(
            "1 0 8:1 / / rw - ext4 a rw\n{}{}",
            line("filled/in", "ext4"),
            line("own", "proc")
        );
        let table = parse(table.as_bytes()).unwrap();
        let mut places = Vec::new();
        fill(path, &visible(&table)[1..], &mut places);
        let relative: Vec<_> = places
            .iter()
            .map(|place| {
                (
                    place.path.strip_prefix(path).unwrap().to_str().unwrap(),
                    place.way.clone(),
                )
            })
            .collect();
        assert_eq!(
            relative,
            [
                ("", Way::Directory),
                ("file", Way::Bind),
                ("filled", Way::Directory),
                ("filled/beside", Way::Layer),
                ("filled/in", Way::Layer),
                ("link", Way::Link("file".into())),
                ("own", Way::Directory),
                ("plain", Way::Layer),
            ]
        );
        assert_eq!(places[4].flags, MsFlags::MS_NOSUID);
        assert_eq!(places[3].flags, MsFlags::empty());
    }

    #[test]
    fn a_crowded_directory_is_bound_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..=MOST_ENTRIES {
            fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        let table = parse(
            format!(
                "1 0 8:1 / {}/1 rw - ext4 a rw\n",
                directory.path().display()
            )
            .as_bytes(),
        )
        .unwrap();
        let mut places = Vec::new();
        fill(directory.path(), &visible(&table), &mut places);
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].way, Way::Bind);
    }
}

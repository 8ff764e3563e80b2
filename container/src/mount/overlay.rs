//! A root directory that is the host's to read and nobody's to write: overlay mounts whose lower
//! layers are the host's mounts and whose upper layers are on a tmpfs in the container's own mount
//! namespace (`Documentation/filesystems/overlayfs.rst`). When the last process of the container is
//! gone, so is the namespace, the tmpfs and everything that was written.
//!
//! ```text
//! /proc                a tmpfs, in the container's mount namespace only (the scaffold)
//! ├── root             overlay: lowerdir=/      upperdir=0/upper   → becomes /
//! │   └── home         overlay: lowerdir=/home  upperdir=1/upper     (if the host mounts /home)
//! ├── 0/{upper,work}   what the container writes to /
//! ├── 1/{upper,work}   what it writes to /home
//! └── empty            a directory that stays empty, to cover others with
//! ```

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use super::table::{Mount, visible};
use crate::host::Host;
use crate::plan::SCAFFOLD;
use crate::plan::call::{Call, text};
use crate::plan::step::{Otherwise, Step};

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

/// The steps that put the root together, up to the last mount that comes from the host.
pub fn root(host: &Host) -> Vec<Step> {
    let mut steps = vec![
        Step::init(
            "stop mounts from spreading to the host",
            "a shared mount would be seen outside as well",
            vec![Call::Mount {
                source: None,
                target: text("/"),
                kind: None,
                flags: MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                data: None,
            }],
        ),
        Step::init(
            "mount a tmpfs to hold what the container writes",
            "it lives in this mount namespace and dies with it",
            vec![
                Call::Umask { mask: 0 },
                Call::Mount {
                    source: Some(text("ringside")),
                    target: text(SCAFFOLD),
                    kind: Some(text("tmpfs")),
                    flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
                    data: Some(text("mode=755")),
                },
                Call::ChangeDirectory {
                    path: text(SCAFFOLD),
                },
                directory("root"),
                directory("empty"),
            ],
        ),
    ];
    let userxattr = !host.is_privileged;
    steps.push(layer(0, Path::new("/"), MsFlags::empty(), userxattr).asked_by("command"));
    let others = visible(&host.mounts)
        .into_iter()
        .filter(|mount| is_files(mount));
    for (index, mount) in others.enumerate() {
        steps.push(further(index + 1, mount, host, userxattr));
    }
    steps
}

/// The steps that make the assembled root the root.
pub fn pivot() -> Step {
    Step::init(
        "make it the root, and let go of the host's",
        "what has no path cannot be opened",
        vec![
            Call::ChangeDirectory { path: text("root") },
            Call::PivotRoot {
                new_root: text("."),
                put_old: text("."),
            },
            Call::Unmount {
                target: text("."),
                flags: MntFlags::MNT_DETACH,
            },
            Call::ChangeDirectory { path: text("/") },
        ],
    )
}

/// Whether a mount holds files that the container should see at the same path.
fn is_files(mount: &Mount) -> bool {
    mount.point != Path::new("/")
        && !OWN.iter().any(|own| mount.point.starts_with(own))
        && !KERNEL_VIEWS.contains(&mount.kind.as_str())
}

/// Copy-on-write over another mount of the host; read-only where overlayfs does not take it as a lower
/// layer (a single file, vfat, a stack of overlays that is too deep, …).
fn further(index: usize, mount: &Mount, host: &Host, userxattr: bool) -> Step {
    let target = inside(&mount.point);
    let flags = restrictions(mount);
    let bind = Call::Mount {
        source: Some(text(mount.point.as_os_str().as_bytes())),
        target: target.clone(),
        kind: None,
        flags: MsFlags::MS_BIND,
        data: None,
    };
    let read_only = Call::Mount {
        source: None,
        target,
        kind: None,
        flags: MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags,
        data: None,
    };
    let _ = host;
    layer(index, &mount.point, flags, userxattr).or(Otherwise::Try(vec![bind, read_only]))
}

/// One overlay mount over the host's directory `lower`.
fn layer(index: usize, lower: &Path, flags: MsFlags, userxattr: bool) -> Step {
    let mut options = b"lowerdir=".to_vec();
    options.extend(escape(lower.as_os_str().as_bytes()));
    options.extend(format!(",upperdir={index}/upper,workdir={index}/work").bytes());
    if userxattr {
        options.extend(b",userxattr");
    }
    Step::init(
        format!("lay a writable layer over the host's {}", lower.display()),
        "the host's files below are read, never written",
        vec![
            directory(format!("{index}")),
            directory(format!("{index}/upper")),
            directory(format!("{index}/work")),
            Call::Mount {
                source: Some(text("overlay")),
                target: inside(lower),
                kind: Some(text("overlay")),
                flags: flags | MsFlags::MS_NODEV,
                data: Some(text(options)),
            },
        ],
    )
}

/// A path of the container while it is being put together, seen from the scaffold.
pub(super) fn inside(path: &Path) -> CString {
    let mut inside = b"root".to_vec();
    if path != Path::new("/") {
        inside.extend(path.as_os_str().as_bytes());
    }
    text(inside)
}

pub(super) fn directory(path: impl Into<Vec<u8>>) -> Call {
    Call::MakeDirectory {
        path: text(path),
        mode: 0o755,
    }
}

/// What the host forbids on a mount stays forbidden; in a user namespace the kernel insists on it.
fn restrictions(mount: &Mount) -> MsFlags {
    mount
        .options
        .split(',')
        .fold(MsFlags::empty(), |flags, option| {
            flags
                | match option {
                    "nosuid" => MsFlags::MS_NOSUID,
                    "nodev" => MsFlags::MS_NODEV,
                    "noexec" => MsFlags::MS_NOEXEC,
                    "noatime" => MsFlags::MS_NOATIME,
                    "nodiratime" => MsFlags::MS_NODIRATIME,
                    "relatime" => MsFlags::MS_RELATIME,
                    _ => MsFlags::empty(),
                }
        })
}

/// Escapes what separates options (`,`) and lower layers (`:`).
fn escape(path: &[u8]) -> Vec<u8> {
    let escaped = path.iter().flat_map(|&byte| match byte {
        b',' | b':' | b'\\' => vec![b'\\', byte],
        _ => vec![byte],
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::table::parse;

    fn host(table: &[u8]) -> Host {
        Host {
            mounts: parse(table).unwrap(),
            ..Host::for_tests()
        }
    }

    fn story(host: &Host) -> String {
        root(host).iter().map(|step| step.to_string()).collect()
    }

    #[test]
    fn the_host_s_file_systems_are_layered_and_its_kernel_views_left_out() {
        let story = story(&host(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:2 / /proc rw - proc p rw\n3 1 0:3 / /home rw,nosuid - ext4 b rw\n\
              4 1 0:4 / /run rw,noexec - tmpfs c rw\n5 4 0:5 / /run/netns/x rw - nsfs d rw\n6 1 0:6 / /dev rw - devtmpfs e rw\n",
        ));
        assert!(
            story.contains(r#""lowerdir=/,upperdir=0/upper,workdir=0/work""#),
            "{story}"
        );
        assert!(story.contains(r#"mount("overlay", "root/home", "overlay", MS_NODEV | MS_NOSUID, "lowerdir=/home,upperdir=1/upper,workdir=1/work")"#) || story.contains(r#"MS_NOSUID | MS_NODEV, "lowerdir=/home,upperdir=1/upper,workdir=1/work")"#), "{story}");
        assert!(story.contains("root/run"), "{story}");
        for left_out in ["netns", "root/dev", "root/proc"] {
            assert!(!story.contains(left_out), "{story}");
        }
    }

    #[test]
    fn an_unprivileged_overlay_keeps_its_marks_in_user_attributes() {
        let host = Host {
            is_privileged: false,
            ..host(b"1 0 8:1 / / rw - ext4 a rw\n")
        };
        assert!(story(&host).contains("userxattr"));
    }

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(escape(b"/a:b,c\\d"), b"/a\\:b\\,c\\\\d");
    }
}

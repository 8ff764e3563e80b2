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
//!
//! An overlay of an ordinary user's keeps its marks in `user.*` attributes, which a tmpfs has since Linux
//! 6.6. Before, such a container can remove a directory of the host's, but not make one of the same name.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use super::view::{Place, Way};
use crate::host::Host;
use crate::plan::SCAFFOLD;
use crate::plan::call::{Call, text};
use crate::plan::step::{Otherwise, Step};

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
                tmpfs(SCAFFOLD),
                Call::ChangeDirectory {
                    path: text(SCAFFOLD),
                },
                directory("root"),
                directory("empty"),
            ],
        ),
    ];
    for (index, place) in host.places.iter().enumerate() {
        match &place.way {
            Way::Layer => steps.push(layer(index, place, host.is_privileged)),
            Way::Bind => steps.push(bound(place)),
            Way::Directory if place.path == Path::new("/") => steps.push(Step::init(
                "begin with an empty root",
                "overlayfs does not let a user layer what has mounts in it",
                vec![tmpfs("root")],
            )),
            Way::Directory => steps.push(Step::init(
                format!("make {}", place.path.display()),
                "something is mounted in it on the host",
                vec![Call::MakeDirectory {
                    path: inside(&place.path),
                    mode: place.mode,
                }],
            )),
            Way::Link(target) => steps.push(Step::init(
                format!("link {}", place.path.display()),
                "as on the host",
                vec![Call::Link {
                    target: text(target.as_bytes()),
                    path: inside(&place.path),
                }],
            )),
        }
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

/// Copy-on-write over a directory of the host; read-only where overlayfs does not take it as a lower
/// layer (vfat, a stack of overlays that is too deep, …). The root has to be a layer.
fn layer(index: usize, place: &Place, is_privileged: bool) -> Step {
    let mut options = b"lowerdir=".to_vec();
    options.extend(escape(place.path.as_os_str().as_bytes()));
    options.extend(format!(",upperdir={index}/upper,workdir={index}/work").bytes());
    let mut calls = vec![
        directory(format!("{index}")),
        // The topmost directory of an overlay looks as its upper layer does.
        Call::MakeDirectory {
            path: text(format!("{index}/upper")),
            mode: place.mode,
        },
        directory(format!("{index}/work")),
    ];
    if !is_privileged {
        options.extend(b",userxattr");
    } else if place.owner != (0, 0) {
        calls.push(Call::ChangeOwner {
            path: text(format!("{index}/upper")),
            owner: place.owner,
        });
    }
    if !is_privileged {
        calls.push(directory_at(place));
    }
    calls.push(Call::Mount {
        source: Some(text("overlay")),
        target: inside(&place.path),
        kind: Some(text("overlay")),
        flags: place.flags | MsFlags::MS_NODEV,
        data: Some(text(options)),
    });
    let step = Step::init(
        format!(
            "lay a writable layer over the host's {}",
            place.path.display()
        ),
        "the host's files below are read, never written",
        calls,
    );
    if place.path == Path::new("/") {
        step
    } else {
        step.or(Otherwise::Try(bind(place)))
    }
}

/// A file, or a directory with everything mounted in it, read-only.
fn bound(place: &Place) -> Step {
    let mut calls = bind(place);
    if !place.is_mount {
        // Nothing else has made something to mount on.
        calls.insert(
            0,
            if place.is_directory {
                directory_at(place)
            } else {
                Call::MakeFile {
                    path: inside(&place.path),
                }
            },
        );
    }
    Step::init(
        format!("show the host's {} read-only", place.path.display()),
        "overlayfs layers only directories, and only with nothing mounted in them",
        calls,
    )
    .or(Otherwise::PassAbsent)
}

fn bind(place: &Place) -> Vec<Call> {
    vec![
        Call::Mount {
            source: Some(text(place.path.as_os_str().as_bytes())),
            target: inside(&place.path),
            kind: None,
            flags: MsFlags::MS_BIND | MsFlags::MS_REC,
            data: None,
        },
        Call::MakeReadOnly {
            path: inside(&place.path),
        },
    ]
}

fn directory_at(place: &Place) -> Call {
    Call::MakeDirectory {
        path: inside(&place.path),
        mode: place.mode,
    }
}

fn tmpfs(target: &str) -> Call {
    Call::Mount {
        source: Some(text("ringside")),
        target: text(target),
        kind: Some(text("tmpfs")),
        flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        data: Some(text("mode=755")),
    }
}

/// A path of the container while it is being put together, seen from the scaffold.
fn inside(path: &Path) -> CString {
    let mut inside = b"root".to_vec();
    if path != Path::new("/") {
        inside.extend(path.as_os_str().as_bytes());
    }
    text(inside)
}

pub(super) fn directory(path: impl AsRef<[u8]>) -> Call {
    Call::MakeDirectory {
        path: text(path),
        mode: 0o755,
    }
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

    fn place(path: &str, way: Way) -> Place {
        Place {
            path: path.into(),
            is_directory: !matches!(way, Way::Bind | Way::Link(_)),
            way,
            mode: 0o1777,
            owner: (0, 0),
            flags: MsFlags::MS_NOEXEC,
            is_mount: true,
        }
    }

    fn story(places: Vec<Place>, is_privileged: bool) -> String {
        root(&Host {
            places,
            is_privileged,
            ..Host::for_tests()
        })
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    #[test]
    fn a_layer_looks_as_the_host_s_directory_does() {
        let mut home = place("/home", Way::Layer);
        home.owner = (7, 8);
        let story = story(vec![place("/", Way::Layer), home], true);
        assert!(
            story.contains(r#""lowerdir=/,upperdir=0/upper,workdir=0/work""#),
            "{story}"
        );
        assert!(story.contains(r#""root/home", "overlay", MS_NODEV | MS_NOEXEC, "lowerdir=/home,upperdir=1/upper,workdir=1/work""#), "{story}");
        assert!(story.contains(r#"mkdir("1/upper", 0o1777)"#), "{story}");
        assert!(story.contains(r#"chown("1/upper", 7, 8)"#), "{story}");
    }

    #[test]
    fn a_user_s_root_begins_empty_and_keeps_its_marks_in_user_attributes() {
        let places = vec![
            place("/", Way::Directory),
            place("/bin", Way::Link("usr/bin".into())),
            place("/usr", Way::Layer),
            Place {
                is_mount: false,
                ..place("/file", Way::Bind)
            },
        ];
        let story = story(places, false);
        assert!(
            story.contains(r#"mount("ringside", "root", "tmpfs""#),
            "{story}"
        );
        assert!(
            story.contains(r#"symlink("usr/bin", "root/bin")"#),
            "{story}"
        );
        assert!(story.contains("workdir=2/work,userxattr"), "{story}");
        assert!(story.contains(r#"mkdir("root/usr", 0o1777)"#), "{story}");
        assert!(
            story.contains(r#"openat(AT_FDCWD, "root/file", O_CREAT)"#),
            "{story}"
        );
    }

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(escape(b"/a:b,c\\d"), b"/a\\:b\\,c\\\\d");
    }
}

//! The host's mounts, as `/proc/self/mountinfo` lists them (`man 5 proc_pid_mountinfo`):
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! id │  device │   │      │         │      │    │    │         └ of the file system
//!    parent   root │      │         └──────┘    │    source
//!            mount point  of the mount optional type
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount of the caller's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, unique while it lives.
    pub id: u32,
    /// The mount that it sits on.
    pub parent: u32,
    /// Where it is seen, from the caller's root.
    pub point: PathBuf,
    /// Options of this mount: `ro`, `nosuid`, `nodev`, `noexec`, …
    pub options: String,
    /// The file system's type.
    pub kind: String,
}

/// A mount table that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The table could not be read.
    #[error("cannot read /proc/self/mountinfo: {0}; mount proc on /proc")]
    Read(#[source] std::io::Error),
    /// A line does not have the kernel's form.
    #[error("/proc/self/mountinfo has the line {0:?}, which is not the kernel's form")]
    Line(String),
}

/// Reads the caller's mount table.
///
/// # Errors
/// When `/proc` is not mounted or the table is not of the kernel's form.
pub fn read() -> Result<Vec<Mount>, Error> {
    parse(&std::fs::read("/proc/self/mountinfo").map_err(Error::Read)?)
}

/// Parses a mount table.
///
/// # Errors
/// Shows the first line that is not of the kernel's form.
pub fn parse(table: &[u8]) -> Result<Vec<Mount>, Error> {
    let lines = table
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| {
            parse_line(line).ok_or_else(|| Error::Line(String::from_utf8_lossy(line).into()))
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (_device, _root) = (fields.next()?, fields.next()?);
    let point = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    let options = text(fields.next()?)?;
    // Zero or more optional fields end at a lone dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let kind = text(fields.next()?)?;
    Some(Mount {
        id,
        parent,
        point,
        options,
        kind,
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(field).ok()?.to_owned())
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash (`\040`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

/// The mounts that a path can still reach, parents before children: what is covered by a later mount
/// on the same directory or on one above it is left out. Sorted by path, so the root comes first.
pub fn visible(table: &[Mount]) -> Vec<&Mount> {
    // A tree starts at a mount that sits on nothing in the table: the root, as a rule. In a chroot
    // the root is often no mount at all, and there are several trees.
    let is_listed = |id| table.iter().any(|mount| mount.id == id);
    let is_top = |mount: &&Mount| mount.parent == mount.id || !is_listed(mount.parent);
    let mut found = Vec::new();
    let mut pending: Vec<&Mount> = table.iter().filter(is_top).collect();
    while let Some(mount) = pending.pop() {
        let is_child = |child: &&Mount| child.parent == mount.id && child.id != mount.id;
        let children: Vec<&Mount> = table.iter().filter(is_child).collect();
        if let Some(cover) = children.iter().find(|child| child.point == mount.point) {
            pending.push(cover);
            continue;
        }
        found.push(mount);
        let is_covered = |child: &Mount| {
            children
                .iter()
                .any(|other| other.point != child.point && other.is_above(&child.point))
        };
        pending.extend(children.iter().copied().filter(|child| !is_covered(child)));
    }
    found.sort_by(|a, b| a.point.as_os_str().cmp(b.point.as_os_str()));
    found
}

impl Mount {
    /// Whether `path` is the mount point or below it. The kernel's paths are in their plain form, so
    /// bytes will do, in a fraction of the time that [`Path::starts_with`] takes.
    pub fn is_above(&self, path: &Path) -> bool {
        let (point, path) = (
            self.point.as_os_str().as_bytes(),
            path.as_os_str().as_bytes(),
        );
        match path.strip_prefix(point) {
            Some(rest) => rest.is_empty() || rest[0] == b'/' || point == b"/",
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime shared:2 - devtmpfs devtmpfs rw,size=123k
26 24 0:24 / /dev/pts rw,relatime - devpts devpts rw,mode=600
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
29 26 0:26 / /dev/pts rw,relatime shared:7 master:1 - devpts devpts rw
40 27 8:1 / /mnt/with\\040space ro,nosuid,noexec - vfat /dev/sda1 rw
";

    fn points(table: &[Mount]) -> Vec<(u32, &str)> {
        visible(table)
            .iter()
            .map(|mount| (mount.id, mount.point.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn a_table_parses_with_its_escapes_and_optional_fields() {
        let table = parse(HOST).unwrap();
        assert_eq!(table.len(), 6);
        assert_eq!(table[5].point, Path::new("/mnt/with space"));
        assert_eq!(table[5].options, "ro,nosuid,noexec");
        assert_eq!(table[1].kind, "devtmpfs");
        assert_eq!((table[4].id, table[4].parent), (29, 26));
    }

    #[test]
    fn of_stacked_mounts_only_the_topmost_is_visible() {
        let expected = [
            (27, "/"),
            (24, "/dev"),
            (29, "/dev/pts"),
            (40, "/mnt/with space"),
            (22, "/proc"),
        ];
        assert_eq!(points(&parse(HOST).unwrap()), expected);
    }

    #[test]
    fn a_mount_above_hides_those_below_it() {
        let table = parse(
            b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a/b rw - ext4 b rw\n3 2 0:3 / /a/b/c rw - ext4 c rw\n\
              4 1 0:4 / /a rw - tmpfs d rw\n5 4 0:5 / /a/x rw - tmpfs e rw\n",
        );
        assert_eq!(points(&table.unwrap()), [(1, "/"), (4, "/a"), (5, "/a/x")]);
    }

    #[test]
    fn a_covered_root_hides_its_children() {
        let table = parse(b"1 0 0:1 / / rw - rootfs a rw\n2 1 0:2 / / rw - ext4 b rw\n3 1 0:3 / /old rw - ext4 c rw\n");
        assert_eq!(points(&table.unwrap()), [(2, "/")]);
    }

    #[test]
    fn a_path_is_below_a_mount_by_whole_names() {
        let mount = |point: &str| Mount {
            point: point.into(),
            ..parse(HOST).unwrap()[0].clone()
        };
        assert!(mount("/").is_above("/a".as_ref()) && mount("/").is_above("/".as_ref()));
        assert!(mount("/a").is_above("/a".as_ref()) && mount("/a").is_above("/a/b".as_ref()));
        assert!(!mount("/a").is_above("/ab".as_ref()) && !mount("/a/b").is_above("/a".as_ref()));
    }

    #[test]
    fn a_damaged_line_is_shown() {
        for line in [
            "",
            "x",
            "1 2 3",
            "1 2 0:1 / /a rw",
            "1 2 0:1 / /a rw shared:1 ext4 a rw",
            "-1 2 0:1 / / rw - a b c",
        ] {
            let result = parse(format!("{line}\n").as_bytes());
            match line {
                "" => assert_eq!(result.unwrap(), []),
                _ => assert!(result.unwrap_err().to_string().contains(line)),
            }
        }
    }

    #[test]
    fn a_table_that_loops_ends() {
        let table =
            parse(b"1 2 0:1 / / rw - a b c\n2 1 0:1 / / rw - a b c\n3 3 0:1 / / rw - a b c\n")
                .unwrap();
        assert!(visible(&table).len() <= 3);
    }

    #[test]
    fn this_host_has_a_root() {
        let table = read().unwrap();
        assert_eq!(visible(&table)[0].point, Path::new("/"));
    }
}

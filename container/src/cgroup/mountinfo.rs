//! Reading `/proc/self/mountinfo` and `/proc/self/cgroup`.
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! |  |  |    |     |     |          |        | |    |         super options
//! |  |  |    |     |     |          |        | |    source
//! |  |  |    |     |     |          |        | file-system type
//! |  |  |    |     |     mount      any      end of the optional fields
//! |  |  |    |     mount point      number
//! |  |  |    root: what of the file system is mounted (for cgroups: which group)
//! |  |  st_dev
//! id parent
//! ```
//!
//! Source: `man 5 proc_pid_mountinfo`, `man 7 cgroups`. Space, tab, newline and backslash in paths
//! are written as octal escapes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::{Controllers, Version};

/// A mount, as far as control groups care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub device: (u32, u32),
    pub root: PathBuf,
    pub mount_point: PathBuf,
    pub kind: String,
    pub super_options: String,
}

impl Mount {
    pub fn version(&self) -> Option<Version> {
        match self.kind.as_str() {
            "cgroup" => Some(Version::V1),
            "cgroup2" => Some(Version::V2),
            _ => None,
        }
    }

    /// The name of a named version 1 hierarchy.
    pub fn v1_name(&self) -> Option<&str> {
        name_in(&self.super_options)
    }
}

/// The directory of the group `path` (of `/proc/PID/cgroup`) below a mount that shows the hierarchy
/// from its group `root` on.
pub(super) fn directory_of(
    mount_point: &Path,
    root: &Path,
    path: &Path,
) -> Result<PathBuf, &'static str> {
    let escapes = |c| matches!(c, Component::ParentDir);
    if path.components().any(escapes) || root.components().any(escapes) {
        return Err("outside of this cgroup namespace");
    }
    match path.strip_prefix(root) {
        Ok(rest) if rest.as_os_str().is_empty() => Ok(mount_point.to_owned()),
        Ok(rest) => Ok(mount_point.join(rest)),
        Err(_) => Err("not below what is mounted here"),
    }
}

/// The name in a list of mount options, or in the middle field of `/proc/PID/cgroup`.
fn name_in(list: &str) -> Option<&str> {
    list.split(',')
        .find_map(|option| option.strip_prefix("name="))
}

/// Reads the mounts; lines that do not follow the format are skipped.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

/// What is mounted below a directory of this process's, as seen from there.
pub(crate) fn mounted_in(directory: &Path) -> Vec<PathBuf> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let within = |it: Mount| Some(it.mount_point.strip_prefix(directory).ok()?.to_owned());
    let all = parse(&text).into_iter().filter_map(within);
    all.filter(|it| !it.as_os_str().is_empty()).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ').skip(2);
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    fields.by_ref().find(|f| f == b"-")?;
    let kind = String::from_utf8(fields.next()?.into()).ok()?;
    let super_options = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    Some(Mount {
        device,
        root,
        mount_point,
        kind,
        super_options,
    })
}

/// Undoes the octal escapes; a backslash that starts none stands for itself.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => out.push(first),
        }
    }
    OsString::from_vec(out).into()
}

/// A process's group in one hierarchy, from the contents of `/proc/PID/cgroup`:
///
/// ```text
/// 4:memory:/some/group        version 1: number, controllers or name=…, group
/// 0::/some/group              version 2
/// ```
///
/// A version 1 hierarchy is known by its controllers and its name, if it has one.
pub(super) fn path_in(
    text: &[u8],
    version: Version,
    controllers: Controllers,
    name: Option<&str>,
) -> Result<PathBuf, &'static str> {
    let of_line = |line: &'_ [u8]| -> Option<PathBuf> {
        let mut fields = line.splitn(3, |b| *b == b':');
        let (id, list, path) = (fields.next()?, fields.next()?, fields.next()?);
        let list = std::str::from_utf8(list).ok()?;
        let matches = match version {
            Version::V2 => id == b"0" && list.is_empty(),
            Version::V1 if list.is_empty() => false,
            Version::V1 => {
                Controllers::parse(version, list) == controllers && name_in(list) == name
            }
        };
        matches.then(|| Path::new(std::ffi::OsStr::from_bytes(path)).to_owned())
    };
    let path = text.split(|b| *b == b'\n').find_map(of_line);
    let path = path.ok_or("not listed in /proc/self/cgroup")?;
    // The kernel marks a group that was removed while we are still in it.
    match path.as_os_str().as_bytes().ends_with(b" (deleted)") {
        true => Err("removed already"),
        false => Ok(path),
    }
}

#[cfg(test)]
mod tests;

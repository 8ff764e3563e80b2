//! The container's standard streams, where they lead out of it: whoever restores it gives it others. The images
//! have a list of what they were called, as runc has it, by which criu knows them (`--inherit-fd`,
//! <https://criu.org/Inheriting_FDs_on_restore>).

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Error, file};
use crate::runtime;
use crate::runtime::state::Record;

/// The list: one name for each stream, empty for one that is the container's own.
const LIST: &str = "descriptors.json";

/// The streams of a container that runs: pipes as it was given them, and files of the host's, such as a log.
pub fn of(record: &Record) -> [String; 3] {
    let mounts = mounts(record.pid);
    std::array::from_fn(|number| match record.pipes.get(number) {
        Some(pipe) if !pipe.is_empty() => pipe.clone(),
        _ => outer_file(record.pid, number, &mounts).unwrap_or_default(),
    })
}

/// criu's name for a file that is in no mount of the container's (<https://criu.org/External_files>).
fn outer_file(pid: i32, number: usize, mounts: &HashSet<u32>) -> Option<String> {
    let found = fs::metadata(format!("/proc/{pid}/fd/{number}")).ok()?;
    let (kind, is_memory) = (found.file_type(), nix::sys::stat::major(found.rdev()) == 1);
    if !(kind.is_file() || kind.is_char_device() && is_memory) {
        return None;
    }
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    let mount = mount
        .trim()
        .parse()
        .ok()
        .filter(|it| !mounts.contains(it))?;
    Some(format!("file[{mount:x}:{:x}]", found.ino()))
}

/// The numbers of the mounts that a process sees (`man 5 proc_pid_mountinfo`).
fn mounts(pid: i32) -> HashSet<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let number = |line: &str| line.split(' ').next()?.parse().ok();
    text.lines().filter_map(number).collect()
}

/// Writes the list.
///
/// # Errors
/// [`runtime::Error::File`].
pub fn keep(images: &Path, streams: &[String]) -> Result<(), runtime::Error> {
    let path = images.join(LIST);
    let text = serde_json::Value::from(streams).to_string();
    fs::write(&path, text).map_err(|error| file(&path, error))
}

/// Reads the list.
///
/// # Errors
/// [`Error::NoCheckpoint`] when there is none.
pub fn kept(images: &Path) -> Result<Vec<String>, runtime::Error> {
    let path: PathBuf = images.join(LIST);
    match fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_err(|_| Error::NoCheckpoint { path })?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::NoCheckpoint { path }.into())
        }
        Err(error) => Err(file(&path, error)),
    }
}

/// Those that the caller's own stand for, with their numbers.
pub fn inherited(streams: &[String]) -> impl Iterator<Item = (i32, &str)> {
    let is_outer = |name: &&str| name.starts_with("pipe:") || name.starts_with("file[");
    let named = (0..3).zip(streams.iter().map(String::as_str));
    named.filter(move |(_, name)| is_outer(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leads_out_is_inherited() {
        let images = tempfile::tempdir().unwrap();
        let streams = ["/dev/null", "pipe:[77]", "file[1f:2a]", "pipe:[78]"].map(str::to_owned);
        keep(images.path(), &streams).unwrap();
        let kept = kept(images.path()).unwrap();
        let inherited: Vec<_> = inherited(&kept).collect();
        assert_eq!(inherited, [(1, "pipe:[77]"), (2, "file[1f:2a]")]);
    }

    #[test]
    fn a_directory_without_a_list_is_no_checkpoint() {
        let images = tempfile::tempdir().unwrap();
        for text in [None, Some("{}")] {
            if let Some(text) = text {
                fs::write(images.path().join(LIST), text).unwrap();
            }
            let error = kept(images.path()).unwrap_err().to_string();
            assert!(error.contains("no checkpoint is there"), "{error}");
        }
    }
}

//! What isolation costs in memory: all that the processes around the work hold, but not the work.
//!
//! Counted as PSS, the proportional set size: a page that `n` processes map counts 1/n to each
//! (Documentation/filesystems/proc.rst, `smaps`). So a second container that shares the runtime's
//! code costs less than the first, as it does in truth. Guest memory is counted apart: it is what was
//! asked for, not what the monitor adds.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Memory in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Footprint {
    /// What the supervising processes hold, without guest memory.
    pub overhead_kib: f64,
    /// What the guest's memory holds, if there is a guest.
    pub guest_kib: Option<f64>,
}

/// A file of `/proc` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}; root may read it of every process", path.display())]
pub struct ProcError {
    path: PathBuf,
    source: io::Error,
}

impl ProcError {
    /// Whether this user may not read it. A process that holds what is not its user's (as a
    /// container's init does on its way) is closed to that user too (man 2 prctl, `PR_SET_DUMPABLE`).
    pub fn is_refusal(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// Adds up what `root` and its descendants hold, except the work: every process whose command line
/// is exactly `work`. Mappings whose name begins with `guest_memory` are the guest's.
///
/// # Errors
///
/// [`ProcError`] if a process's memory map cannot be read, unless that process has just ended.
pub fn of_tree(
    root: u32,
    work: &[OsString],
    guest_memory: Option<&str>,
) -> Result<Footprint, ProcError> {
    let mut work_line = Vec::new();
    for word in work {
        work_line.extend_from_slice(word.as_bytes());
        work_line.push(0);
    }
    let mut sum = Footprint {
        overhead_kib: 0.0,
        guest_kib: guest_memory.map(|_| 0.0),
    };
    for process in tree(root)? {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let (Some(line), Some(smaps)) =
            (read(&folder.join("cmdline"))?, read(&folder.join("smaps"))?)
        else {
            continue;
        };
        if line == work_line {
            continue;
        }
        let (guest, rest) = pss_kib(&String::from_utf8_lossy(&smaps), guest_memory);
        sum.overhead_kib += rest;
        if let Some(sum) = &mut sum.guest_kib {
            *sum += guest;
        }
    }
    Ok(sum)
}

/// The file's contents; `None` if its process has ended.
fn read(path: &Path) -> Result<Option<Vec<u8>>, ProcError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(nix::libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(source) => Err(ProcError {
            path: path.to_owned(),
            source,
        }),
    }
}

/// `root` and all that descend from it.
fn tree(root: u32) -> Result<Vec<u32>, ProcError> {
    let proc = Path::new("/proc");
    let entries = fs::read_dir(proc).map_err(|source| ProcError {
        path: proc.to_owned(),
        source,
    })?;
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in entries.flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&String::from_utf8_lossy(&stat)) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        found.extend(children.remove(&process).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

/// The parent's number in a `stat` file (man 5 proc_pid_stat): `pid (name) state ppid …`, where the
/// name may hold anything, parentheses too.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The sums of `Pss` in an `smaps` file, in KiB: of mappings whose name begins with `guest_memory`,
/// and of all others.
fn pss_kib(smaps: &str, guest_memory: Option<&str>) -> (f64, f64) {
    let (mut guest, mut rest) = (0.0, 0.0);
    let mut in_guest = false;
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if let Some(field) = first.strip_suffix(':') {
            let number = line.trim_end_matches(" kB").rsplit(' ').next();
            let kib: f64 = number.and_then(|n| n.parse().ok()).unwrap_or(0.0);
            match (field, in_guest) {
                ("Pss", true) => guest += kib,
                ("Pss", false) => rest += kib,
                _ => {}
            }
        } else if first.contains('-') {
            // start-end rights offset device inode   name
            let name = line.splitn(6, ' ').nth(5).unwrap_or_default().trim_start();
            in_guest = guest_memory.is_some_and(|prefix| name.starts_with(prefix));
        }
    }
    (guest, rest)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const SMAPS: &str = "\
55d0c0a00000-55d0c0b00000 r-xp 00001000 fe:00 131 /usr/bin/ringside
Size:               1024 kB
Rss:                 600 kB
Pss:                 200 kB
Pss_Dirty:           100 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0008000000 rw-s 00000000 00:01 12  /memfd:ringside-guest (deleted)
Rss:              131072 kB
Pss:                4096 kB
VmFlags: rd wr
7f1000000000-7f1000001000 rw-p 00000000 00:00 0
Pss:                   4 kB
7f1000002000-7f1000003000 rw-p 00000000 00:00 0   [anon: /memfd:ringside-guest]
Pss:                   8 kB
";

    #[test]
    fn pss_is_added_up_with_the_guests_apart() {
        assert_eq!(
            pss_kib(SMAPS, Some("/memfd:ringside-guest")),
            (4096.0, 212.0)
        );
        assert_eq!(pss_kib(SMAPS, None), (0.0, 4308.0));
        assert_eq!(pss_kib("", None), (0.0, 0.0));
        assert_eq!(pss_kib("Pss:\nPss: many kB\n", None), (0.0, 0.0));
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent(""), None);
    }

    #[test]
    fn the_work_does_not_count_and_what_is_around_it_does() {
        let line = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        // A shell (the supervisor) around `cat` (the work), which waits for its input to end.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "exec 3<&0; /bin/cat <&3 & wait"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let work = line(&["/bin/cat"]);
        // Until the shell's child is the work, it is a second shell.
        let both = loop {
            let tree = tree(shell.id()).unwrap();
            let is_work =
                |id: &u32| fs::read(format!("/proc/{id}/cmdline")).unwrap() == b"/bin/cat\0";
            if tree.iter().any(is_work) {
                break tree;
            }
        };
        assert_eq!(both.len(), 2);
        let all = of_tree(shell.id(), &line(&["other"]), None).unwrap();
        let without_work = of_tree(shell.id(), &work, None).unwrap();
        assert!(without_work.overhead_kib > 0.0);
        assert!(all.overhead_kib > without_work.overhead_kib);
        assert_eq!(without_work.guest_kib, None);
        // Nothing is left of a process that is nothing but the work.
        assert_eq!(
            of_tree(both[1], &work, Some("x")).unwrap().overhead_kib,
            0.0
        );
        drop(shell.stdin.take());
        shell.wait().unwrap();
        let ended = of_tree(shell.id(), &work, None).unwrap();
        assert_eq!(ended.overhead_kib, 0.0);
    }
}

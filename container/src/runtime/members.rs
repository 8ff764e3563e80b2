//! The processes of a container that has no cgroup, as a rootless one that none was delegated to: those that
//! are in its PID namespace (`man 7 pid_namespaces`), or its init alone where it has none of its own.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Error;
use super::state::Record;
use crate::sys;

/// The numbers of a container's processes, as this PID namespace has them.
pub fn processes(record: &Record) -> Vec<i32> {
    let Some(_init) = record.init() else {
        return Vec::new();
    };
    let theirs = namespace(&record.pid.to_string());
    if theirs.is_none() || theirs == namespace("self") {
        return vec![record.pid];
    }
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let mut members: Vec<i32> = numbers
        .filter(|pid| namespace(&pid.to_string()) == theirs)
        .collect();
    members.sort_unstable();
    members
}

/// Sends a signal to all of them.
///
/// # Errors
/// The kernel's, but not that one has ended meanwhile.
pub fn signal(record: &Record, signal: i32) -> Result<(), Error> {
    let init = record.init().ok_or(Error::NotRunning)?;
    let theirs = namespace(&record.pid.to_string());
    for pid in processes(record) {
        let Ok(process) = sys::pidfd_open(Pid::from_raw(pid)) else {
            continue;
        };
        // Looked at once more: from here on the number cannot become another's.
        if namespace(&pid.to_string()) != theirs {
            continue;
        }
        let whom = if pid == record.pid { &init } else { &process };
        match sys::pidfd_send_signal(whom.as_fd(), signal) {
            Err(Errno::ESRCH) => {}
            sent => sent.map_err(Error::system("pidfd_send_signal"))?,
        }
    }
    Ok(())
}

fn namespace(process: &str) -> Option<OsString> {
    let link = fs::read_link(format!("/proc/{process}/ns/pid")).ok()?;
    Some(link.into_os_string())
}

//! `kill`: signals for a container, and the end of one that is given time.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::Error;
use super::members;
use super::state::{Directory, Status};
use super::status::{group, is_frozen, refuse, resume, state};
use crate::spec::{NamespaceKind, Spec};
use crate::sys;

/// A signal by name, with or without `SIG`, or number.
///
/// # Errors
/// [`Error::Signal`].
pub fn signal_number(name: &str) -> Result<i32, Error> {
    if let Ok(number) = name.parse::<i32>() {
        return if (0..=64).contains(&number) {
            Ok(number)
        } else {
            Err(Error::Signal(name.into()))
        };
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(signal) = format!("SIG{short}").parse::<Signal>() {
        return Ok(signal as i32);
    }
    let offset = |rest: &str| {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.parse::<i32>().ok()
        }
    };
    let real_time = match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest).map(|it| 34 + it),
        (_, Some(rest)) => offset(rest).map(|it| 64 + it),
        _ => None,
    };
    real_time
        .filter(|it| (34..=64).contains(it))
        .ok_or_else(|| Error::Signal(name.into()))
}

/// Sends a signal to a container's init, or with `all` to all of its processes.
///
/// # Errors
/// [`Error::NotRunning`] when it has ended.
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<(), Error> {
    let directory = Directory::open(root, id)?;
    let record = directory.load()?;
    let init = record.init();
    if signal == 0 && all {
        return Ok(());
    }
    // Without a PID namespace of its own there is no init whose end takes the others with it.
    let spec = Spec::read(&directory.path.join("config.json")).unwrap_or_default();
    let pids = spec.namespace(NamespaceKind::Pid);
    let has_init = pids.is_some_and(|it| it.path.is_empty());
    if all || (!has_init && signal == libc::SIGKILL) {
        if record.cgroup_paths.is_empty() && init.is_some() {
            return members::signal(&record, signal);
        }
        let group = group(&record)?;
        if signal == libc::SIGKILL {
            return Ok(group.kill()?);
        }
        let signal = Signal::try_from(signal).map_err(|_| Error::Signal(signal.to_string()))?;
        group.signal(signal)?;
        return Ok(());
    }
    let init = init.ok_or(Error::NotRunning)?;
    match sys::pidfd_send_signal(init.as_fd(), signal) {
        Err(Errno::ESRCH) => return Err(Error::NotRunning),
        other => other.map_err(Error::system("pidfd_send_signal"))?,
    }
    // One that stands still would not die of it (version 1), and a shared PID namespace has no init
    // that takes the others with it.
    if signal == libc::SIGKILL
        && let Ok(group) = group(&record)
        && is_frozen(&group)
    {
        let _ = group.thaw();
    }
    Ok(())
}

/// Asks a container to end, and kills it when it has not ended after `patience`. One that has ended is no
/// error.
///
/// # Errors
/// [`Error::NotFound`], or what the kernel says.
pub fn stop(root: &Path, id: &str, patience: Duration) -> Result<(), Error> {
    let container = state(root, id)?;
    let Some(init) = container.record.init() else {
        return Ok(());
    };
    let ends_within = |time: Duration| {
        let mut ready = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        let milliseconds = time.as_millis().try_into().unwrap_or(u16::MAX);
        poll(&mut ready, PollTimeout::from(milliseconds)).is_ok_and(|count| count > 0)
    };
    let is_over = |sent: Result<(), Error>| match sent {
        Err(Error::NotRunning) => Ok(()),
        other => other,
    };
    is_over(kill(root, id, libc::SIGTERM, false))?;
    if container.status == Status::Paused {
        let _ = resume(root, id);
    }
    // What was never started hears of nothing.
    if container.status != Status::Created && ends_within(patience) {
        return Ok(());
    }
    is_over(kill(root, id, libc::SIGKILL, false))?;
    if ends_within(Duration::from_secs(10)) {
        return Ok(());
    }
    Err(refuse(
        "stop",
        id,
        container.status,
        "; it hangs in the kernel: see /proc/PID/stack",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("RTMIN+1", 35),
            ("SIGRTMAX-2", 62),
            ("0", 0),
        ] {
            assert_eq!(signal_number(name).unwrap(), number, "{name}");
        }
        for name in ["", "65", "-1", "SIGJOY", "RTMIN+99", "RTMAX+1"] {
            assert!(signal_number(name).is_err(), "{name}");
        }
    }
}

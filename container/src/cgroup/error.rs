//! What can go wrong with a control group, each with the path, the value and the way out.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{Absence, Controller, Controllers, Version};

/// Shorthand for results of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on control groups that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of `/proc` or a control file could not be read.
    #[error("cannot read {path}: {}{}", describe(*.source), hint(*.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// The kernel refused a value, or the control file could not be opened for writing.
    #[error("cannot write `{value}` to {path}: {}{}", describe(*.source), hint(*.source))]
    Write {
        /// The control file.
        path: PathBuf,
        /// What was to be written.
        value: Box<str>,
        /// Why.
        source: Errno,
    },
    /// A directory of a group could not be made.
    #[error("cannot create the cgroup {path}: {}{}", describe(*.source), hint(*.source))]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A directory of a group could not be opened, walked or locked.
    #[error("cannot open the cgroup {path}: {}{}", describe(*.source), hint(*.source))]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A directory of a group could not be removed.
    #[error("cannot remove the cgroup {path}: {}{}", describe(*.source), hint(*.source))]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A group still has processes (or its kernel object is still in use) after all retries.
    #[error("the cgroup {path} is still in use by {} (EBUSY: Device or resource busy); end them or wait", pids(.processes))]
    Busy {
        /// The directory.
        path: PathBuf,
        /// The processes that the kernel lists, at most a few.
        processes: Vec<i32>,
    },
    /// A new container's group is there already, with processes that its limits would fall on.
    #[error(
        "container's cgroup is not empty: {} process(es) found in {path} ({}); give another cgroupsPath, or end them",
        .processes.len(), pids(.processes)
    )]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// The processes that the kernel lists.
        processes: Vec<i32>,
    },
    /// A new container's group is there already, and nothing in it would run.
    #[error("container's cgroup unexpectedly frozen: {path}; thaw it, or give another cgroupsPath")]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// A path that should be a cgroup is on another kind of file system.
    #[error(
        "{path} is not on a cgroup file system (its magic is {magic:#x}); nothing was created there; \
         mount the hierarchy or check for a mount on top of it"
    )]
    NotCgroup {
        /// The directory.
        path: PathBuf,
        /// `f_type` of `man 2 statfs`.
        magic: u64,
    },
    /// A control file holds something that this library does not understand.
    #[error("{path} holds `{content}`, expected {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its content, shortened.
        content: Box<str>,
        /// What was expected.
        expected: &'static str,
    },
    /// The host has no such controller where this process could use it.
    #[error("this host lacks the cgroup controller `{controller}`: {absence}")]
    Missing {
        /// The controller.
        controller: Controller,
        /// Why it is absent, and the remedy.
        absence: Absence,
    },
    /// A limit or an operation needs a controller that the group did not join when it was created.
    #[error(
        "the group {path} was created without the controller `{controller}`; ask for it when creating the group"
    )]
    NotJoined {
        /// The controller.
        controller: Controller,
        /// One directory of the group.
        path: PathBuf,
    },
    /// The host's version of cgroups has no such knob.
    #[error("invalid configuration: `{knob}` does not exist in cgroup {version}; {instead}")]
    Unsupported {
        /// The limit.
        knob: &'static str,
        /// The version of the hierarchy that holds the controller.
        version: Version,
        /// What to do instead.
        instead: &'static str,
    },
    /// The kernel took a value and did nothing with it.
    #[error("this kernel ignores `{value}` written to {path}; {instead}")]
    Ignored {
        /// The control file.
        path: PathBuf,
        /// What was written.
        value: Box<str>,
        /// What to do instead.
        instead: &'static str,
    },
    /// A value that no kernel would take.
    #[error("{knob} of {value} is invalid: {expected}")]
    Invalid {
        /// The limit.
        knob: &'static str,
        /// The value.
        value: Box<str>,
        /// What is allowed.
        expected: &'static str,
    },
    /// What a unified key asks for could not be done.
    #[error("unified key `{key}`: {source}")]
    Unified {
        /// The key.
        key: Box<str>,
        /// Why not.
        source: Box<Error>,
    },
    /// A unified key that names no control file (in crun's words).
    #[error(
        "unified: the specified key has not the form CONTROLLER.VALUE `{0}`; name a control file of version 2, such as memory.high"
    )]
    UnifiedKey(Box<str>),
    /// A unified key of a controller that no kernel has (in crun's words).
    #[error(
        "unified: the requested cgroup controller `{0}` is not available; name one of /sys/fs/cgroup/cgroup.controllers"
    )]
    UnifiedController(Box<str>),
    /// Version 2 forbids processes in a group that gives controllers to its children.
    #[error(
        "cannot enable {controllers} below {path}: processes live in that group itself, and cgroup v2 \
         allows them only in leaves; move them to a child first, or start in a group of your own: \
         systemd-run --scope -p Delegate=yes COMMAND (a user: systemd-run --user --scope …)"
    )]
    InternalProcesses {
        /// The group that has both.
        path: PathBuf,
        /// What was to be enabled.
        controllers: Controllers,
    },
    /// The group belongs to another user, and was not delegated to this one.
    #[error(
        "the cgroup {path} is owned by user {owner} and this is user {user}: {}; run as root, or in a \
         delegated group: systemd-run --user --scope -p Delegate=yes COMMAND",
        describe(*.source)
    )]
    NotDelegated {
        /// The directory or file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The caller's effective user.
        user: u32,
        /// What the kernel said.
        source: Errno,
    },
    /// A relative path was given, but the caller's own group cannot be seen from here.
    #[error(
        "cannot place a group below this process's own group in the hierarchy of {hierarchy}: it is \
         {why}; give an absolute cgroup path"
    )]
    NoOwnGroup {
        /// The hierarchy's mount point.
        hierarchy: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A group path that could escape from the hierarchy or that the kernel would refuse.
    #[error("the cgroup path `{path}` is invalid: {why}")]
    Path {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Processes did not freeze, thaw or die in time.
    #[error(
        "the cgroup {path} did not become {wanted} within {tries} tries; its state is `{state}`"
    )]
    Stuck {
        /// The directory.
        path: PathBuf,
        /// `FROZEN`, `THAWED` or `empty`.
        wanted: &'static str,
        /// How often it was looked at.
        tries: u32,
        /// What it was instead.
        state: Box<str>,
    },
    /// The caller is in the group that it wants to freeze or to kill.
    #[error(
        "cannot {what} the cgroup {path}: this process itself is in it; do it from another group"
    )]
    SelfInside {
        /// `freeze` or `kill`.
        what: &'static str,
        /// One directory of the group.
        path: PathBuf,
    },
    /// Device rules could not be turned into what the kernel takes.
    #[error("device rule {index} (`{rule}`): {why}")]
    DeviceRule {
        /// The rule's place in the list, from 0.
        index: usize,
        /// The rule.
        rule: super::DeviceRule,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A step of loading or attaching the device program failed.
    #[error("cannot {step} for {path}: {}{}", describe(*.source), hint(*.source))]
    Bpf {
        /// What was tried, such as `load the device program`.
        step: &'static str,
        /// The group.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// systemd, which was to make the group.
    #[error(transparent)]
    Systemd(#[from] super::systemd::Error),
    /// A system call on a process or an event failed.
    #[error("cannot {what}: {}", describe(*.source))]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: Errno,
    },
}

impl Error {
    /// The kernel's error number, when the kernel said no.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Read { source, .. }
            | Error::Write { source, .. }
            | Error::Create { source, .. }
            | Error::Open { source, .. }
            | Error::Remove { source, .. }
            | Error::NotDelegated { source, .. }
            | Error::Bpf { source, .. }
            | Error::System { source, .. } => Some(*source),
            Error::Busy { .. } => Some(Errno::EBUSY),
            Error::Unified { source, .. } => source.errno(),
            _ => None,
        }
    }

    pub(super) fn invalid(
        knob: &'static str,
        value: impl ToString,
        expected: &'static str,
    ) -> Self {
        Error::Invalid {
            knob,
            value: value.to_string().into(),
            expected,
        }
    }

    pub(super) fn malformed(path: &Path, content: &str, expected: &'static str) -> Self {
        Error::Malformed {
            path: path.into(),
            content: content.chars().take(80).collect::<String>().into(),
            expected,
        }
    }
}

/// The error in the kernel's words, in lower case so that it fits into a sentence.
fn describe(errno: Errno) -> String {
    match errno {
        // libc's words are about mathematics.
        Errno::ERANGE => "out of range".into(),
        _ => errno.desc().to_lowercase(),
    }
}

/// What the reader can do about an error number, as a continuation of the sentence.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EACCES | Errno::EPERM => {
            "; run as root, or in a group delegated to you (systemd-run --user --scope -p Delegate=yes)"
        }
        Errno::ENOENT => "; the group is gone, or this kernel has no such control file",
        Errno::ENODEV => "; there is no such device here, or the group was removed in the meantime",
        Errno::EROFS => "; remount the cgroup file system writable, or give the container its own",
        Errno::EINVAL => "; the kernel does not take this value here (a parent may be stricter)",
        Errno::EBUSY => "; the group holds processes or more than the new limit",
        Errno::ERANGE => "; this machine does not have that much or that many",
        Errno::EOPNOTSUPP => "; this kernel or this kind of group does not support it",
        Errno::ENOSPC => "; the hierarchy's limit of groups is reached, or cpus or mems are empty",
        Errno::EAGAIN => "; the hierarchy's limit of depth or descendants is reached",
        Errno::ENOSYS => "; this kernel is too old or was built without it",
        _ => "",
    }
}

fn pids(list: &[i32]) -> String {
    match list {
        [] => "the kernel (no process is listed)".into(),
        _ => {
            let shown: Vec<String> = list.iter().take(8).map(i32::to_string).collect();
            let what = if list.len() == 1 {
                "process"
            } else {
                "processes"
            };
            let more = if list.len() > 8 { " and more" } else { "" };
            format!("{what} {}{more}", shown.join(", "))
        }
    }
}

//! What a command on a container can run into. The wording of the cases that callers look for is runc's.

use std::path::PathBuf;

use nix::errno::Errno;

use super::bundle::limit_fields;
use super::{checkpoint, hooks, id_maps};
use crate::plan::step::Step;
use crate::spec::named;
use crate::{cgroup, spec};

/// A command that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is none.
    #[error("invalid container ID format: {0:?}{stray}; use letters, digits and _ + - .", stray = stray(.0))]
    Id(String),
    /// Its overlays' marks are `trusted.*` attributes, which only root sets (`man 7 xattr`).
    #[error(
        "a container on the host's own files needs root to be kept; run as root, give a bundle, or try `ringside run --in container`"
    )]
    HostFilesNeedRoot,
    /// The name is taken.
    #[error("container with given ID already exists: {0}; delete it or choose another name")]
    Exists(String),
    /// There is no such container.
    #[error("container does not exist: {0}; `list` names those that do")]
    NotFound(String),
    /// It is not in the state that the command needs.
    #[error("cannot {command} container {id} in the {status} state{remedy}")]
    State {
        /// The command.
        command: &'static str,
        /// The container.
        id: String,
        /// Its state.
        status: &'static str,
        /// What the reader can do, after `; `.
        remedy: &'static str,
    },
    /// It is not in a state in which a process can join it.
    #[error("cannot exec in a {status} container{remedy}")]
    NoExec {
        /// Its state.
        status: &'static str,
        /// What the reader can do.
        remedy: &'static str,
    },
    /// It has ended.
    #[error("container not running")]
    NotRunning,
    /// The configuration is wrong.
    #[error("config.json: {0}")]
    Spec(#[from] spec::Error),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] crate::Error),
    /// The program could not be executed.
    #[error("{}: {runc}: {source}", if *is_there { format!("exec {}", program.display()) } else { format!("exec: {program:?}") })]
    NotExecuted {
        /// The program.
        program: std::ffi::OsString,
        /// Whether the program itself is there.
        is_there: bool,
        /// The words of runc that callers look for.
        runc: &'static str,
        /// The whole reason.
        source: crate::NotExecuted,
    },
    /// A file that an option names is wrong.
    #[error("{}: {source}", path.display())]
    Given {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; fields count from its top.
        source: spec::Error,
    },
    /// A limit that no kernel takes, from a file or an option.
    #[error("cannot limit the container: {0}")]
    Limit(#[source] spec::Error),
    /// A limit that this host refuses.
    #[error("cannot limit the container (`{field}`): {source}")]
    Limited {
        /// The field of a configuration that it is.
        field: String,
        /// Why.
        source: cgroup::Error,
    },
    /// A rootless container that was given no cgroup.
    #[error(
        "cannot {what}: the container has no cgroup of its own; run it as root, or in a group delegated to you: systemd-run --user --scope -p Delegate=yes COMMAND"
    )]
    NoGroup {
        /// What was asked for.
        what: &'static str,
    },
    /// An ordinary user may not make the cgroup that the configuration asks for.
    #[error(
        "unable to apply cgroup configuration (`linux.cgroupsPath`): {source}; or ask for none: rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
    )]
    NotLent {
        /// What was tried.
        source: cgroup::Error,
    },
    /// A cgroup did not do what it should.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// criu could not take a checkpoint, or restore one.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// Users that could not be mapped.
    #[error(transparent)]
    IdMap(#[from] id_maps::Error),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] hooks::Error),
    /// A file could not be read or written.
    #[error("{}: {}", path.display(), reason(source))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A step failed at a file.
    #[error("runtime cannot {what}: {}: {}", path.display(), reason(source))]
    At {
        /// What the step does.
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the runtime's is damaged.
    #[error("{}: {source}; delete the container with --force", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A group that a process could not be put into.
    #[error("error adding pid of the new process to cgroups: {}/cgroup.procs: {}", path.display(), .errno.desc().to_lowercase())]
    Entering {
        /// The group.
        path: PathBuf,
        /// The kernel's reason.
        errno: Errno,
    },
    /// Nobody decides about the calls that a filter asks about.
    #[error(
        "failed to connect with seccomp agent at {} (`linux.seccomp.listenerPath`): {}; start it first",
        path.display(), named(source)
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A group that is not below the container's.
    #[error(
        "bad sub cgroup path: --cgroup {0} is not a sub cgroup path: it leads out of the container's own"
    )]
    SubGroup(String),
    /// A hierarchy that there is not.
    #[error("unknown controller {0:?} in --cgroup: the container is in no such hierarchy")]
    Controller(String),
    /// A signal that there is not.
    #[error("unknown signal {0:?}")]
    Signal(String),
    /// An option that does not fit.
    #[error("{0}")]
    Usage(&'static str),
    /// A system call that no step stands for.
    #[error("{call}: {}", .errno.desc())]
    System {
        /// Its name.
        call: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
}

impl Error {
    /// The reason for people, after the words that callers look for.
    pub(crate) fn not_executed(error: crate::Error) -> Self {
        use crate::NotExecuted::NotFound;
        match error {
            crate::Error::NotExecuted(source) => Self::NotExecuted {
                program: source.program().to_owned(),
                is_there: !matches!(source, NotFound { .. }),
                runc: match &source {
                    NotFound { .. } => "executable file not found in $PATH",
                    crate::NotExecuted::Directory { .. }
                    | crate::NotExecuted::NotExecutable { .. }
                    | crate::NotExecuted::NoExecMount { .. }
                    | crate::NotExecuted::NotFile { .. }
                    | crate::NotExecuted::ForbiddenInterpreter { .. } => "permission denied",
                    crate::NotExecuted::OtherMachine { .. }
                    | crate::NotExecuted::UnknownFormat { .. } => "exec format error",
                    crate::NotExecuted::TooLarge { .. } => "argument list too long",
                    crate::NotExecuted::Circle { .. } => "too many levels of symbolic links",
                    _ => "no such file or directory",
                },
                source,
            },
            other => Self::Step(other),
        }
    }

    /// A container that cannot be started.
    pub(crate) fn not_created(id: String, status: super::state::Status) -> Self {
        Self::State {
            command: "start",
            id,
            status: status.name(),
            remedy: "; only a container that is created can be started",
        }
    }

    /// A container that is being started and ends before it is.
    pub(crate) fn ended_unstarted(id: String) -> Self {
        Self::State {
            command: "start",
            id,
            status: super::state::Status::Stopped.name(),
            remedy: "; it was killed meanwhile: by another command, or look for an out-of-memory kill in the kernel's log",
        }
    }

    /// The kernel's reason; `EINVAL` where it was not the kernel that refused.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Self::File { source, .. } | Self::NoAgent { source, .. } => {
                super::executor::errno_of(source)
            }
            Self::Cgroup(error) | Self::NotLent { source: error } => {
                error.errno().unwrap_or(Errno::EINVAL)
            }
            Self::System { errno, .. } => *errno,
            _ => Errno::EINVAL,
        }
    }

    /// The same, at the step that ran into it. Errors that callers know by their words keep them.
    pub(crate) fn at(self, step: &Step) -> Self {
        match self {
            Self::Cgroup(source) => Self::Step(crate::Error::Cgroup {
                what: match limit_fields::refused(&source) {
                    Some(field) => format!("{} (`{field}`)", step.what),
                    None => step.told(),
                },
                source,
            }),
            Self::File { path, source } => Self::At {
                what: step.told(),
                path,
                source,
            },
            other => other,
        }
    }

    pub(crate) fn system(call: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { call, errno }
    }
}

/// Why a file could not be read or written, by the kernel's name, and what the reader can do.
fn reason(error: &std::io::Error) -> String {
    let remedy = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => "; it is not there: check the path, or make it",
        Some(Errno::ENOTDIR) => "; what should be a directory there is none",
        Some(Errno::EISDIR) => "; name a file, not a directory",
        Some(Errno::EACCES | Errno::EPERM) => {
            "; this user may not: run as root, or name another place"
        }
        Some(Errno::ENOSPC | Errno::EDQUOT) => {
            "; the file system is full: make room, or name another place"
        }
        Some(Errno::EROFS) => "; the file system is read-only: name another place",
        Some(Errno::ENAMETOOLONG) => "; choose a shorter name",
        Some(Errno::ECONNREFUSED) => "; nobody listens there: start who should",
        Some(Errno::ELOOP) => "; its links lead in a circle: mend them",
        _ => "",
    };
    format!("{}{remedy}", named(error))
}

/// Names the first character that an ID may not have.
fn stray(id: &str) -> String {
    let stray = id.chars().find(|it| !super::state::is_of_id(*it));
    stray.map_or_else(String::new, |it| {
        format!(": invalid character `{it}` in the ID")
    })
}

//! Everything that can go wrong with a container, told so that the reader knows what to do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;

use crate::cgroup;
use crate::host;
use crate::plan::step::{Actor, Step};
use crate::plan::{self, Plan};
use crate::process::diagnose::{Cause, Diagnosis};
use crate::process::status::ExitStatus;

/// A container that did not come to be, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is impossible, or this host cannot run it.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// The host could not be looked at.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The kernel refused a step.
    #[error("{actor} cannot {what}: {call}: {errno}{remedy}")]
    Step {
        /// Which of the two processes.
        actor: Actor,
        /// What the step does, and which field asked for it.
        what: String,
        /// The system call, as `strace` shows it.
        call: String,
        /// The configuration's field that asked for it; empty when every container has it.
        field: String,
        /// The kernel's reason.
        errno: Errno,
        /// What the reader can do, beginning with `; `; empty when nobody knows.
        remedy: &'static str,
    },
    /// A cgroup could not be made or limited.
    #[error("runtime cannot {what}: {source}")]
    Cgroup {
        /// What the step does, and which field asked for it.
        what: String,
        /// Why not.
        source: cgroup::Error,
    },
    /// A cgroup could not be read or removed.
    #[error(transparent)]
    Group(#[from] cgroup::Error),
    /// The command could not be executed.
    #[error(transparent)]
    NotExecuted(#[from] NotExecuted),
    /// What init ran for the container failed; in its words.
    #[error("{0}")]
    Said(String),
    /// Init ended before the command ran.
    #[error(
        "the container's init {status} before it could start the command; look for an out-of-memory kill in the kernel's log"
    )]
    InitEnded {
        /// How.
        status: ExitStatus,
    },
    /// The same, and nobody knows how.
    #[error(
        "the container's init ended before it could start the command; look for an out-of-memory kill in the kernel's log"
    )]
    InitLost,
    /// A system call that no step stands for.
    #[error("{call} failed: {}", .errno.desc())]
    System {
        /// Its name.
        call: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
}

/// Why a command could not be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotExecuted {
    /// There is no such program.
    #[error("{program:?} is not there; check its path as the container sees it")]
    Missing {
        /// The path that was tried.
        program: OsString,
    },
    /// None of the directories in `PATH` has such a program.
    #[error("{program:?} is in none of the directories of PATH ({path}); give its path or set PATH", path = .searched.join(", "))]
    NotFound {
        /// The name that was looked for.
        program: OsString,
        /// Where.
        searched: Vec<String>,
    },
    /// It is a directory.
    #[error("{program:?} is a directory; name a program in it")]
    Directory {
        /// Its path.
        program: OsString,
    },
    /// It may not be executed.
    #[error("{program:?} has no permission to be executed; `chmod +x` it")]
    NotExecutable {
        /// Its path.
        program: OsString,
    },
    /// Nothing on its mount may be executed.
    #[error(
        "{program:?} is on a mount with noexec; mount it without, or copy the program elsewhere"
    )]
    NoExecMount {
        /// Its path.
        program: OsString,
    },
    /// The interpreter in its first line may not be executed.
    #[error(
        "{program:?} may be executed, but its interpreter {interpreter:?} may not; `chmod +x` that, or mend the #! line"
    )]
    ForbiddenInterpreter {
        /// Its path.
        program: OsString,
        /// The interpreter.
        interpreter: OsString,
    },
    /// It is for another processor.
    #[error(
        "{program:?} is a program for {machine}, and this machine is {arch}; take the image for {arch}, or register an emulator (binfmt_misc)",
        arch = std::env::consts::ARCH
    )]
    OtherMachine {
        /// Its path.
        program: OsString,
        /// What it is for.
        machine: String,
    },
    /// Its first line ends in a carriage return.
    #[error(
        "{program:?} has Windows line ends, so its interpreter is {interpreter:?} with a carriage return; run `dos2unix` on it"
    )]
    CarriageReturn {
        /// Its path.
        program: OsString,
        /// The interpreter, without the carriage return.
        interpreter: OsString,
    },
    /// The interpreter in its first line is not there.
    #[error(
        "{program:?} is there, but its interpreter {interpreter:?} is not; install it or mend the #! line"
    )]
    MissingInterpreter {
        /// Its path.
        program: OsString,
        /// The interpreter.
        interpreter: OsString,
    },
    /// The loader that it was linked for is not there.
    #[error(
        "{program:?} is there, but its loader {loader:?} is not; install the C library it was built for, or build it statically"
    )]
    MissingLoader {
        /// Its path.
        program: OsString,
        /// The loader.
        loader: OsString,
    },
    /// The kernel does not know what it is.
    #[error(
        "{program:?} is neither a program for this machine nor a script with a #! line; give the interpreter as the command, or begin it with `#!/bin/sh`"
    )]
    UnknownFormat {
        /// Its path.
        program: OsString,
    },
    /// Arguments and environment are too large.
    #[error(
        "the arguments and environment of {program:?} are larger than the kernel takes; pass less, or through a file"
    )]
    TooLarge {
        /// Its path.
        program: OsString,
    },
    /// It is neither a file nor a directory.
    #[error("{program:?} is a FIFO, a socket or a device; name a program")]
    NotFile {
        /// Its path.
        program: OsString,
    },
    /// Links or interpreters that lead to each other.
    #[error(
        "{program:?} leads in a circle, or through too many links or interpreters (ELOOP); mend its link or its #! line"
    )]
    Circle {
        /// Its path.
        program: OsString,
    },
    /// Something else.
    #[error("cannot execute {program:?}: {}", .errno.desc())]
    Other {
        /// Its path.
        program: OsString,
        /// The kernel's reason.
        errno: Errno,
    },
}

impl NotExecuted {
    /// As shells have it: 127 when there is no such program, 126 when it does not execute.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Missing { .. } | Self::NotFound { .. } => 127,
            _ => 126,
        }
    }

    /// The program that it is about.
    pub fn program(&self) -> &std::ffi::OsStr {
        match self {
            Self::Missing { program }
            | Self::NotFound { program, .. }
            | Self::Directory { program }
            | Self::NotExecutable { program }
            | Self::NoExecMount { program }
            | Self::ForbiddenInterpreter { program, .. }
            | Self::OtherMachine { program, .. }
            | Self::CarriageReturn { program, .. }
            | Self::MissingInterpreter { program, .. }
            | Self::MissingLoader { program, .. }
            | Self::UnknownFormat { program }
            | Self::TooLarge { program }
            | Self::NotFile { program }
            | Self::Circle { program }
            | Self::Other { program, .. } => program,
        }
    }
}

impl Error {
    /// What a command line exits with: 127 when there is no such program, 126 when it does not
    /// execute, 125 when the container failed.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotExecuted(error) => error.exit_code(),
            _ => 125,
        }
    }

    pub(crate) fn step(step: &Step, call: u16, errno: Errno) -> Self {
        let call = step.call(usize::from(call));
        Self::Step {
            actor: step.actor,
            what: step.told(),
            call: call.map_or_else(String::new, ToString::to_string),
            field: step.field.to_string(),
            errno,
            remedy: call.map_or("", |call| crate::plan::remedy::remedy(call, errno)),
        }
    }

    pub(crate) fn not_executed(
        plan: &Plan,
        candidate: usize,
        errno: Errno,
        diagnosis: &Diagnosis,
    ) -> Self {
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let program = text(
            plan.candidates
                .get(candidate)
                .map_or(b"", |path| path.to_bytes()),
        );
        let interpreter = text(diagnosis.interpreter());
        Self::NotExecuted(match diagnosis.cause {
            Cause::Missing if plan.candidates.len() > 1 => NotExecuted::NotFound {
                program: text(plan.arguments.first().map_or(b"", |name| name.to_bytes())),
                searched: directories(plan),
            },
            Cause::Missing => NotExecuted::Missing { program },
            Cause::Directory => NotExecuted::Directory { program },
            Cause::NotExecutable => NotExecuted::NotExecutable { program },
            Cause::NoExecMount => NotExecuted::NoExecMount { program },
            Cause::ForbiddenInterpreter => NotExecuted::ForbiddenInterpreter {
                program,
                interpreter,
            },
            Cause::OtherMachine => NotExecuted::OtherMachine {
                program,
                machine: interpreter.to_string_lossy().into_owned(),
            },
            Cause::CarriageReturn => NotExecuted::CarriageReturn {
                program,
                interpreter,
            },
            Cause::MissingInterpreter => NotExecuted::MissingInterpreter {
                program,
                interpreter,
            },
            Cause::MissingLoader => NotExecuted::MissingLoader {
                program,
                loader: interpreter,
            },
            Cause::UnknownFormat => NotExecuted::UnknownFormat { program },
            Cause::TooLarge => NotExecuted::TooLarge { program },
            Cause::NotFile => NotExecuted::NotFile { program },
            Cause::Circle => NotExecuted::Circle { program },
            Cause::Other => NotExecuted::Other { program, errno },
        })
    }
}

/// The directories of the candidates.
fn directories(plan: &Plan) -> Vec<String> {
    let parent = |path: &std::ffi::CString| {
        let path = path.to_string_lossy();
        path.rsplit_once('/')
            .map_or(".".into(), |(directory, _)| directory.to_owned())
    };
    plan.candidates.iter().map(parent).collect()
}

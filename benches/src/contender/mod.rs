//! A contender is a way to run a program: as a process, in a container, in a virtual machine. All of
//! them start a child process, so that all are measured from outside, in the same way.
//!
//! A peer (runc, QEMU, …) joins as one more file here and one more line in [`all`].

mod container;
mod floor;
mod native;
mod vm;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

pub use container::Container;
pub use floor::FloorOf;
pub use native::Native;
pub use vm::Vm;

use crate::floor::Floor;
use crate::sysbench::{self, Request};

/// The contender that the others are compared with.
pub const BASELINE: &str = "native";

/// A way to run a program.
pub trait Contender {
    /// What it is called on the command line and in reports.
    fn name(&self) -> &'static str;

    /// What it is, in one line.
    fn about(&self) -> &'static str;

    /// The command that runs `program` this way, with its standard streams, in the foreground.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if this contender cannot run this program on any host, or needs a kernel that is
    /// not kept. Whether this host can is found out by trying.
    fn command(&self, program: &Program, tools: &Tools) -> Result<Command, Unsupported>;

    /// Whose floor this is, if it is one: a program that makes the same kernel calls by hand.
    fn floor_of(&self) -> Option<&'static str> {
        None
    }

    /// How the mappings of guest memory are called in `/proc/PID/smaps`, if there is a guest.
    fn guest_memory(&self) -> Option<&'static str> {
        None
    }
}

/// Every contender, in the order of a report.
pub fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(Native),
        Box::new(Container),
        Box::new(Vm),
        Box::new(FloorOf::CONTAINER),
        Box::new(FloorOf::VM),
    ]
}

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The program that says when its first instruction ran.
    Stamp,
    /// An embedded piece of work, by its name and arguments (`ringside_work::WORKS`).
    Work(&'static [&'static str]),
    /// The real sysbench, which must be installed, and its words.
    Sysbench(&'static [&'static str]),
    /// As little as a Linux kernel of its own can start.
    Boot,
}

/// The files that commands are made of.
#[derive(Debug)]
pub struct Tools {
    /// The `ringside` executable, for `ringside run` and `ringside workload`.
    pub ringside: PathBuf,
    /// The embedded programs of `floor/`.
    pub floor: Floor,
    /// The kernel of Linux guests, or why there is none.
    pub kernel: Result<String, String>,
}

/// Why a contender cannot run a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// No kernel for a Linux guest.
    #[error("{0}")]
    NoKernel(String),
    /// What has no kernel of its own boots none.
    #[error("does not apply: it shares the host's kernel, which runs already")]
    NoBoot,
    /// sysbench does not know these words.
    #[error(transparent)]
    Sysbench(#[from] sysbench::UsageError),
    /// A floor program.
    #[error("a floor program starts something and does no work")]
    OnlyStarts,
    /// This build has no such floor program.
    #[error("this build of ringside has no floor program `{program}`")]
    NotBuilt {
        /// The program's name.
        program: &'static str,
    },
}

impl Program {
    /// The program as a process of the host: its file, then its arguments.
    ///
    /// # Errors
    ///
    /// [`Unsupported::NotBuilt`] without the `stamp` program; [`Unsupported::NoBoot`].
    pub fn host_command_line(&self, tools: &Tools) -> Result<Vec<OsString>, Unsupported> {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        Ok(match *self {
            Program::Stamp => vec![
                tools
                    .floor
                    .path("stamp")
                    .ok_or(Unsupported::NotBuilt { program: "stamp" })?
                    .into(),
            ],
            Program::Work(work) => {
                let mut line = vec![tools.ringside.clone().into(), "workload".into()];
                line.extend(words(work));
                line
            }
            Program::Sysbench(words) => request(words)?
                .command_line()
                .iter()
                .map(OsString::from)
                .collect(),
            Program::Boot => return Err(Unsupported::NoBoot),
        })
    }
}

/// What a workload asks of sysbench.
fn request(words: &[&str]) -> Result<Request, sysbench::UsageError> {
    Request::read(&words.iter().map(|&word| word.into()).collect::<Vec<_>>())
}

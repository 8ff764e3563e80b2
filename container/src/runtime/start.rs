//! `start`: the program of a container that was created.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::executor::Runtime;
use super::plan;
use super::state::{Directory, Record, Status};
use super::{Error, status};
use crate::Observer;
use crate::execute::take_steps;
use crate::plan::Plan;
use crate::spec::Spec;
use crate::sys;

/// What [`start`] knows before it does anything.
struct Waiting {
    directory: Directory,
    record: Record,
    spec: Spec,
    init: OwnedFd,
    /// What init carries.
    born: Plan,
    plan: Plan,
}

impl Waiting {
    fn open(root: &Path, id: &str) -> Result<Self, Error> {
        let directory = Directory::open(root, id)?;
        let record = directory.load()?;
        let refused = |status| Error::not_created(id.into(), status);
        let init = record.init().ok_or_else(|| refused(Status::Stopped))?;
        // One that stands still would start when it goes on, and whoever waited for that would keep
        // `resume` waiting.
        if status::group(&record).is_ok_and(|group| status::is_frozen(&group)) {
            return Err(refused(Status::Paused));
        }
        let spec = Spec::read(&directory.path.join("config.json"))?;
        if spec.process.is_none() {
            return Err(crate::spec::Error::Missing {
                field: "process".into(),
                why: "name a program to run",
            }
            .into());
        }
        Ok(Self {
            born: plan::born(&spec, &record)?,
            plan: plan::start(&spec, &record, &directory.path)?,
            directory,
            record,
            spec,
            init,
        })
    }
}

/// Starts a container that was created.
///
/// # Errors
/// When it is not there, not waiting, or its program cannot be executed.
pub fn start(root: &Path, id: &str, observer: &mut dyn Observer) -> Result<(), Error> {
    let waiting = Waiting::open(root, id)?;
    let mut runtime = Runtime {
        spec: Some(&waiting.spec),
        record: waiting.record,
        directory: Some(waiting.directory),
        target: Some(waiting.init),
        ..Runtime::new(&waiting.born, observer)
    };
    let taken = take_steps(&mut runtime, &waiting.plan);
    // A container that did not start as it was asked to does not run on.
    if let (Err(Error::Hook(_)), Some(init)) = (&taken, &runtime.target) {
        let _ = sys::pidfd_send_signal(init.as_fd(), libc::SIGKILL);
    }
    taken
}

/// What [`start`] would do.
///
/// # Errors
/// When the container is not there or has ended.
pub fn dry_start(root: &Path, id: &str) -> Result<Plan, Error> {
    Ok(Waiting::open(root, id)?.plan)
}

//! `checkpoint` and `restore`: most of it is criu's, in a single step; around that a container ends, or begins.

use std::path::Path;

use super::create::{confine, remember};
use super::{Facts, delete, life, tell_pid, with_program};
use crate::plan::Plan;
use crate::plan::lifecycle::LifeCall;
use crate::runtime::Error;
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::state::Record;
use crate::spec::Spec;

/// From a container that runs to files; to nothing else, unless it is to go on.
pub fn checkpoint(what: &Checkpoint, spec: &Spec, record: &Record, directory: &Path) -> Plan {
    let path = what.images.path.clone();
    let is_partial = what.is_partial;
    let mut steps = vec![life(
        if is_partial {
            "have criu dump its memory"
        } else {
            "have criu dump its processes"
        },
        "it stands still meanwhile, and the kernel tells what it is made of",
        LifeCall::Dump { path, is_partial },
    )];
    if !is_partial && !what.leaves_running {
        steps.push(life(
            "wait until init has ended",
            "criu has killed it: it goes on elsewhere, and never twice",
            LifeCall::AwaitEnd,
        ));
        steps.extend(delete(Some(spec), record, directory, None).steps);
    }
    with_program(steps, None)
}

/// From files to a container that runs.
pub fn restore(facts: &Facts<'_>, images: &Path) -> Result<Plan, Error> {
    let mut steps = Vec::with_capacity(8);
    remember(&mut steps, facts);
    confine(&mut steps, facts)?;
    steps.push(life(
        "have criu restore its processes",
        "as it makes them, they are as they were; who init is, is written down before they go on",
        LifeCall::Restore {
            path: images.into(),
        },
    ));
    tell_pid(&mut steps, facts.what.pid_file.as_deref());
    Ok(with_program(steps, None))
}

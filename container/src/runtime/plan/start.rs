//! `start`: the word that a created init waits for.

use std::path::Path;

use super::create::init_steps;
use super::{life, poststart, with_program};
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::lifecycle::{LifeCall, Milestone};
use crate::plan::oci::OciCall;
use crate::plan::step::{Otherwise, Step};
use crate::runtime::state::Record;
use crate::runtime::{Error, bundle};
use crate::spec::Spec;

/// From an init that waits to its program. What init still does is part of the plan of [`create`](super::create()).
pub fn start(spec: &Spec, record: &Record, directory: &Path) -> Result<Plan, Error> {
    let socket = directory.join("start");
    let mut steps = vec![
        life(
            "call init",
            "it listens until it is started",
            LifeCall::Connect {
                path: socket.clone(),
            },
        ),
        Step::runtime(
            "let it go on",
            "it has waited for `start`",
            vec![Call::Release],
        ),
    ];
    let awaits = |step: &Step| step.calls.contains(&Call::Oci(OciCall::AwaitStart));
    let init = born(spec, record)?.steps;
    steps.extend(init.into_iter().skip_while(|step| !awaits(step)));
    steps.push(life(
        "wait until the program runs",
        "what goes wrong until then is told by this command",
        LifeCall::Await(Milestone::Program),
    ));
    steps.push(
        life(
            "close the door",
            "a container is started once",
            LifeCall::Unlink { path: socket },
        )
        .or(Otherwise::PassAbsent),
    );
    steps.extend(poststart(spec));
    Ok(with_program(steps, spec.process.as_ref()))
}

/// The half of the plan that the init of a created container carries.
pub fn born(spec: &Spec, record: &Record) -> Result<Plan, Error> {
    let options = bundle::Options {
        waits_for_start: true,
        ..bundle::Options::default()
    };
    Ok(with_program(
        init_steps(spec, &record.bundle, &options)?,
        spec.process.as_ref(),
    ))
}

//! The life of a bundle's container as steps: pure functions from what a command knows to what it will
//! do. Init's half is planned in [`bundle`]; here is the runtime's, and how the two fit together.
//!
//! ```text
//! create: claim ─ config ─ cgroup ─ limits ─ listen ─ join ─ clone3 ─ state ─ maps ─ go ── hooks ── ready
//!                                                              └─▶ init: mounts … ─ wait ─ rights ─ listen
//! start:                                                                        connect ─ go ─▶ execve
//! exec:   clone3 ─▶ enter ─ clone3 ─ go ─▶ execve
//! delete: kill ─ wait ─ rmdir ─ forget ─ hooks
//! ```

mod checkpoint;
mod create;
mod delete;
mod exec;
mod start;

use std::collections::HashSet;
use std::path::Path;

use super::bundle;
use crate::plan::Plan;
use crate::plan::call::{Call, text};
use crate::plan::lifecycle::LifeCall;
use crate::plan::oci::{HookKind, OciCall};
use crate::plan::step::{Actor, Step};
use crate::spec::{Process, Spec};

pub use checkpoint::{checkpoint, restore};
pub use create::{Facts, create, group_path};
pub use delete::delete;
pub use exec::exec;
pub use start::{born, start};

fn life(what: &'static str, why: &'static str, call: LifeCall) -> Step {
    Step::runtime(what, why, vec![Call::Life(call)])
}

/// `processors` are those that it goes to; all that the cgroup has when none are given.
fn enter_group(processors: Option<Vec<usize>>) -> Step {
    Step::init(
        "enter the cgroup",
        "from here on the limits hold",
        vec![
            Call::EnterGroup,
            Call::Oci(OciCall::Affinity { processors }),
        ],
    )
}

/// A plan that ends in the program of `process`.
fn with_program(steps: Vec<Step>, process: Option<&Process>) -> Plan {
    let strings = |list: &[String]| list.iter().map(|it| text(it.as_str())).collect();
    Plan {
        steps,
        candidates: process.map(bundle::process::candidates).unwrap_or_default(),
        arguments: process.map_or(Vec::new(), |it| strings(&it.args)),
        environment: process.map_or(Vec::new(), |it| strings(&last_of_each(&it.env))),
    }
}

/// Of entries with the same name the last.
fn last_of_each(environment: &[String]) -> Vec<String> {
    let mut names = HashSet::new();
    let mut last = Vec::with_capacity(environment.len());
    for entry in environment.iter().rev() {
        let name = entry
            .split_once('=')
            .map_or(entry.as_str(), |(name, _)| name);
        if names.insert(name) {
            last.push(entry.clone());
        }
    }
    last.reverse();
    last
}

fn tell_pid(steps: &mut Vec<Step>, file: Option<&Path>) {
    if let Some(path) = file {
        steps.push(
            life(
                "tell the caller its number",
                "the caller asked for it",
                LifeCall::TellPid { path: path.into() },
            )
            .asked_by("--pid-file"),
        );
    }
}

fn send_descriptor(steps: &mut Vec<Step>, socket: Option<&Path>) {
    if let Some(path) = socket {
        steps.push(
            life(
                "send the caller a descriptor of it",
                "a number may become another's, a descriptor never",
                LifeCall::SendDescriptor { path: path.into() },
            )
            .asked_by("--pidfd-socket"),
        );
    }
}

fn release() -> Step {
    Step::runtime(
        "let it go on",
        "it has waited until it was known",
        vec![Call::Release],
    )
}

fn poststart(spec: &Spec) -> Option<Step> {
    let kind = HookKind::Poststart;
    (!spec.hooks.poststart.is_empty()).then(|| {
        life(
            "run hooks after the start",
            match spec.ends_with_poststart() {
                true => "that one fails ends the container",
                false => "that one fails is told and changes nothing",
            },
            LifeCall::RunHooks { kind },
        )
        .asked_by("hooks.poststart")
    })
}

/// Whether a plan has steps of init's, and so a program at its end.
pub fn execution(plan: &Plan) -> Option<&Step> {
    let last = plan.steps_of(Actor::Init).last()?;
    last.calls
        .contains(&Call::Oci(OciCall::Execute))
        .then_some(last)
}

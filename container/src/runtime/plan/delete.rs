//! `delete`: what there is of a container, or may be, goes.

use std::path::{Path, PathBuf};

use super::{life, with_program};
use crate::plan::Plan;
use crate::plan::lifecycle::LifeCall;
use crate::plan::oci::HookKind;
use crate::runtime::state::Record;
use crate::spec::{NamespaceKind, Spec};

/// From a container, running or not, to nothing. `pid` is that of an init that lives.
pub fn delete(spec: Option<&Spec>, record: &Record, directory: &Path, pid: Option<i32>) -> Plan {
    let mut steps = Vec::with_capacity(8);
    if let Some(pid) = pid {
        steps.push(life(
            "kill its init",
            "the kernel ends the rest of its PID namespace with it",
            LifeCall::KillInit { pid },
        ));
        steps.push(life(
            "kill whoever is left in its cgroup",
            "a PID namespace that it shares with the host has nobody who takes the others along",
            LifeCall::KillGroup,
        ));
        steps.push(life(
            "wait until init has ended",
            "what it holds is free then",
            LifeCall::AwaitEnd,
        ));
    }
    steps.push(if record.pid == 0 {
        life(
            "remove the cgroup that it was to have",
            "its maker did not come as far as to write down who is in there: init ends by itself then",
            LifeCall::RemoveOwnGroup,
        )
    } else {
        life(
            "remove its cgroup",
            "nobody is in it any more",
            LifeCall::RemoveGroup,
        )
    });
    if spec.is_some_and(|spec| !spec.has(NamespaceKind::Mount)) && record.pid != 0 {
        steps.push(life(
            "take off what it mounted",
            "for lack of mounts of its own they are among ours",
            LifeCall::Unmount {
                path: record.rootfs.clone(),
            },
        ));
    }
    steps.push(life(
        "forget the container",
        "its name is free again",
        LifeCall::Forget {
            path: PathBuf::from(directory),
        },
    ));
    if spec.is_some_and(|spec| !spec.hooks.poststop.is_empty()) {
        let kind = HookKind::Poststop;
        steps.push(
            life(
                "run hooks after the end",
                "that one fails is told and changes nothing",
                LifeCall::RunHooks { kind },
            )
            .asked_by("hooks.poststop"),
        );
    }
    with_program(steps, None)
}

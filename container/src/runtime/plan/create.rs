//! `create`, and `run` as well: from a bundle to an init that waits for `start`, or that becomes the program.

use std::path::Path;

use super::{enter_group, life, poststart, release, send_descriptor, tell_pid, with_program};
use crate::cgroup::systemd::{self, Unit};
use crate::cgroup::{self, Controllers, Layout, Limits, Version};
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::lifecycle::{LifeCall, Milestone};
use crate::plan::oci::{HookKind, OciCall};
use crate::plan::step::Step;
use crate::runtime::create::Create;
use crate::runtime::{Error, bundle};
use crate::spec::{IdMapping, NamespaceKind, Spec};

/// What `create` knows before it does anything.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What was asked for on the command line.
    pub what: &'a Create,
    /// The configuration.
    pub spec: &'a Spec,
    /// The bundle's path.
    pub bundle: &'a Path,
    /// The container's directory.
    pub directory: &'a Path,
    /// The host's cgroups.
    pub layout: &'a Layout,
    /// What its cgroup is to hold.
    pub limits: &'a Limits,
    /// Whether `start` is waited for.
    pub waits_for_start: bool,
    /// Whether the runtime is root, who may map groups as well.
    pub is_root: bool,
}

/// From a bundle to an init that waits for `start`, or without `start` to the program.
pub fn create(facts: &Facts<'_>) -> Result<Plan, Error> {
    let spec = facts.spec;
    let options = bundle::Options {
        no_pivot: facts.what.no_pivot,
        no_new_keyring: facts.what.no_new_keyring,
        waits_for_start: facts.waits_for_start,
        is_rootless: !facts.is_root,
        is_relayed: facts.what.console_socket.is_none(),
    };
    let init = init_steps(spec, facts.bundle, &options)?;
    let mut steps = Vec::with_capacity(64);
    remember(&mut steps, facts);
    confine(&mut steps, facts)?;
    take_mounts(&mut steps, &init);
    clone(&mut steps, facts);
    introduce(&mut steps, facts);
    for step in init {
        let calls = |call| step.calls.contains(&Call::Oci(call));
        let (at_hooks, at_start) = (calls(OciCall::AwaitHooks), calls(OciCall::AwaitStart));
        steps.push(step);
        if at_hooks {
            hooks_of_creation(&mut steps, spec);
        }
        if at_start {
            steps.push(life(
                "wait until it is ready",
                "what goes wrong until then is told by this command",
                LifeCall::Await(Milestone::Ready),
            ));
        }
    }
    if !facts.waits_for_start {
        steps.push(life(
            "wait until the program runs",
            "what goes wrong until then is told by this command",
            LifeCall::Await(Milestone::Program),
        ));
        steps.extend(poststart(spec));
    }
    Ok(with_program(steps, spec.process.as_ref()))
}

/// Init's own steps, the first to the last; `start` counts them as `create` did.
pub fn init_steps(
    spec: &Spec,
    bundle: &Path,
    options: &bundle::Options,
) -> Result<Vec<Step>, Error> {
    let mut steps = vec![enter_group(None).asked_by("linux.cgroupsPath")];
    steps.extend(bundle::init_steps(spec, bundle, options)?);
    Ok(steps)
}

pub(super) fn remember(steps: &mut Vec<Step>, facts: &Facts<'_>) {
    steps.push(life(
        "take the container's name",
        "no two have the same, and nobody else works on it meanwhile",
        LifeCall::Claim {
            path: facts.directory.into(),
        },
    ));
    steps.push(life(
        "keep the configuration",
        "from here on `delete` knows what there may be, whenever this command is killed",
        LifeCall::KeepConfig {
            path: facts.directory.join("config.json"),
        },
    ));
}

/// The controllers of a container's cgroup: all that there are, and those that it cannot do without.
fn controllers(limits: &Limits, layout: &Layout) -> Controllers {
    limits.controllers().union(layout.controllers())
}

/// Where the container's cgroup is.
pub fn group_path<'a>(spec: &'a Spec, id: &'a str) -> &'a str {
    match spec.linux.cgroups_path.as_str() {
        "" => id,
        path => path,
    }
}

pub(super) fn confine(steps: &mut Vec<Step>, facts: &Facts<'_>) -> Result<(), Error> {
    let controllers = controllers(facts.limits, facts.layout);
    let make = if facts.what.systemd {
        let is_user = systemd::is_user();
        let path = facts.spec.linux.cgroups_path.as_str();
        let unit = Unit::parse(path, &facts.what.id, is_user).map_err(cgroup::Error::from)?;
        life(
            "ask systemd for a scope",
            "all cgroups are its own here; of this one it leaves the inside to us",
            LifeCall::StartScope {
                unit,
                is_user,
                limits: Box::new(facts.limits.clone()),
                controllers,
            },
        )
    } else {
        Step::runtime(
            "make its cgroup",
            "what its processes use is counted and limited together",
            vec![Call::CreateGroup {
                name: Some(group_path(facts.spec, &facts.what.id).to_owned()),
                controllers,
            }],
        )
    };
    steps.push(make.asked_by("linux.cgroupsPath"));
    if *facts.limits != Limits::default() {
        steps.push(
            Step::runtime(
                "set its limits",
                "before anybody is in it",
                vec![Call::LimitGroup {
                    limits: Box::new(facts.limits.clone()),
                }],
            )
            .asked_by("linux.resources"),
        );
    }
    Ok(())
}

/// What init attaches but could not reach.
fn take_mounts(steps: &mut Vec<Step>, init: &[Step]) {
    let is_detached = |call: &&Call| matches!(call, Call::Oci(OciCall::Mount(mount)) if mount.detached.as_ref().is_some_and(|it| !it.is_of_root));
    let count = init
        .iter()
        .flat_map(|it| &it.calls)
        .filter(is_detached)
        .count();
    if count > 0 {
        steps.push(
            life(
                "take mounts of the host's",
                "root of the container's user namespace may not reach them, or sees other owners",
                LifeCall::TakeMounts { count },
            )
            .asked_by("mounts"),
        );
    }
}

fn clone(steps: &mut Vec<Step>, facts: &Facts<'_>) {
    let spec = facts.spec;
    if facts.waits_for_start {
        steps.push(life(
            "open a door for `start`",
            "as long as init listens there, the container is created and not started",
            LifeCall::Listen {
                path: facts.directory.join("start"),
            },
        ));
    }
    for (index, kind, path) in bundle::joins(spec) {
        steps.push(
            life(
                "join a namespace",
                "the child is born into those of its parent",
                LifeCall::Join {
                    index,
                    kind,
                    path: path.into(),
                },
            )
            .asked_by(format!("linux.namespaces[{index}].path")),
        );
    }
    steps.push(
        Step::runtime(
            "clone a child into namespaces of its own",
            "what it cannot name, it cannot touch",
            vec![Call::Clone3 {
                namespaces: bundle::new_namespaces(spec),
                into_group: is_born_in_group(facts.layout, controllers(facts.limits, facts.layout)),
            }],
        )
        .asked_by("linux.namespaces"),
    );
}

/// Whether one of `controllers` works in version 2, where a child can be born in its group.
fn is_born_in_group(layout: &Layout, controllers: Controllers) -> bool {
    let mut homes = controllers.iter().filter_map(|it| layout.home(it).ok());
    homes.any(|home| home.version == Version::V2)
}

/// What has to be known of the child, and what only its parent may do for it.
fn introduce(steps: &mut Vec<Step>, facts: &Facts<'_>) {
    let spec = facts.spec;
    steps.push(life(
        "write down who it is",
        "from here on every command finds it",
        LifeCall::Save {
            path: facts.directory.join("state.json"),
        },
    ));
    if bundle::is_new(spec, NamespaceKind::User) {
        steps.push(map_users(spec, facts.is_root));
    }
    if let Some(adjustment) = spec.process.as_ref().and_then(|it| it.oom_score_adj) {
        let call = Call::WriteProc {
            file: "oom_score_adj",
            text: adjustment.to_string(),
        };
        steps.push(
            Step::runtime(
                "set how soon it is killed when memory runs out",
                "its children inherit it",
                vec![call],
            )
            .asked_by("process.oomScoreAdj"),
        );
    }
    for (name, device) in &spec.linux.net_devices {
        let inside = match device.name.as_str() {
            "" => name,
            other => other,
        };
        let call = LifeCall::MoveInterface {
            name: name.clone(),
            inside: inside.to_owned(),
        };
        steps.push(
            life(
                "give it an interface of the host's",
                "one is in a single network at a time",
                call,
            )
            .asked_by(format!("linux.netDevices.{name}")),
        );
    }
    tell_pid(steps, facts.what.pid_file.as_deref());
    send_descriptor(steps, facts.what.pidfd_socket.as_deref());
    steps.push(release());
}

/// An ordinary user who maps one group has to give up dropping any, which may be what bars them from a file.
fn map_users(spec: &Spec, is_root: bool) -> Step {
    let (users, groups) = (&spec.linux.uid_mappings, &spec.linux.gid_mappings);
    let map = |file, map: &[IdMapping]| {
        let lines = map
            .iter()
            .map(|it| format!("{} {} {}\n", it.container_id, it.host_id, it.size));
        let text = lines.collect();
        match is_root {
            true => Call::WriteProc { file, text },
            false => Call::Life(LifeCall::MapIds { file, text }),
        }
    };
    let mut calls = vec![map("uid_map", users)];
    if !is_root && matches!(groups[..], [IdMapping { size: 1, .. }]) {
        calls.push(Call::WriteProc {
            file: "setgroups",
            text: "deny".into(),
        });
    }
    calls.push(map("gid_map", groups));
    Step::runtime(
        "map its users",
        "before that nobody in there is anybody",
        calls,
    )
    .asked_by("linux.uidMappings")
}

fn hooks_of_creation(steps: &mut Vec<Step>, spec: &Spec) {
    steps.push(life(
        "wait until its mounts are made",
        "hooks see them",
        LifeCall::Await(Milestone::Hooks),
    ));
    let kinds = [
        (HookKind::Prestart, &spec.hooks.prestart, "hooks.prestart"),
        (
            HookKind::CreateRuntime,
            &spec.hooks.create_runtime,
            "hooks.createRuntime",
        ),
    ];
    for (kind, hooks, field) in kinds {
        if !hooks.is_empty() {
            let what = "run hooks in the runtime's namespaces";
            let why = "they may set up the container's network";
            steps.push(life(what, why, LifeCall::RunHooks { kind }).asked_by(field));
        }
    }
    steps.push(release());
}

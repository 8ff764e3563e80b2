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

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::Error;
use super::bundle;
use super::create::Create;
use super::exec::Exec;
use super::state::Record;
use crate::cgroup::systemd::{self, Unit};
use crate::cgroup::{self, Controllers, Layout, Limits, Version};
use crate::plan::Plan;
use crate::plan::call::{Call, text};
use crate::plan::lifecycle::{LifeCall, Milestone};
use crate::plan::oci::{HookKind, OciCall};
use crate::plan::step::{Actor, Otherwise, Step};
use crate::spec::{IdMapping, NamespaceKind, Process, Spec};

/// What `create` knows before it does anything.
#[derive(Debug)]
pub(super) struct Facts<'a> {
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

fn life(what: &'static str, why: &'static str, call: LifeCall) -> Step {
    Step::runtime(what, why, vec![Call::Life(call)])
}

/// From a bundle to an init that waits for `start`, or without `start` to the program.
pub(super) fn create(facts: &Facts<'_>) -> Result<Plan, Error> {
    let spec = facts.spec;
    let options = bundle::Options {
        no_pivot: facts.what.no_pivot,
        no_new_keyring: facts.what.no_new_keyring,
        waits_for_start: facts.waits_for_start,
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
pub(super) fn init_steps(
    spec: &Spec,
    bundle: &Path,
    options: &bundle::Options,
) -> Result<Vec<Step>, Error> {
    let mut steps = vec![enter_group(None).asked_by("linux.cgroupsPath")];
    steps.extend(bundle::init_steps(spec, bundle, options)?);
    Ok(steps)
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
pub(super) fn with_program(steps: Vec<Step>, process: Option<&Process>) -> Plan {
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

fn remember(steps: &mut Vec<Step>, facts: &Facts<'_>) {
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
pub(super) fn controllers(limits: &Limits, layout: &Layout) -> Controllers {
    limits.controllers().union(layout.controllers())
}

/// Where the container's cgroup is.
pub(super) fn group_path<'a>(spec: &'a Spec, id: &'a str) -> &'a str {
    match spec.linux.cgroups_path.as_str() {
        "" => id,
        path => path,
    }
}

fn confine(steps: &mut Vec<Step>, facts: &Facts<'_>) -> Result<(), Error> {
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
    let is_detached =
        |call: &&Call| matches!(call, Call::Oci(OciCall::Mount(mount)) if mount.detached.is_some());
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
        let lines = |map: &[IdMapping]| -> String {
            map.iter()
                .map(|it| format!("{} {} {}\n", it.container_id, it.host_id, it.size))
                .collect()
        };
        let write = |file, text| Call::WriteProc { file, text };
        let mut calls = vec![write("uid_map", lines(&spec.linux.uid_mappings))];
        if !facts.is_root {
            calls.push(write("setgroups", "deny".into()));
        }
        calls.push(write("gid_map", lines(&spec.linux.gid_mappings)));
        steps.push(
            Step::runtime(
                "map its users",
                "before that nobody in there is anybody",
                calls,
            )
            .asked_by("linux.uidMappings"),
        );
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

fn poststart(spec: &Spec) -> Option<Step> {
    let kind = HookKind::Poststart;
    (!spec.hooks.poststart.is_empty()).then(|| {
        life(
            "run hooks after the start",
            "that one fails is told and changes nothing",
            LifeCall::RunHooks { kind },
        )
        .asked_by("hooks.poststart")
    })
}

/// From an init that waits to its program. What init still does is part of the plan of [`create`].
pub(super) fn start(spec: &Spec, record: &Record, directory: &Path) -> Result<Plan, Error> {
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
pub(super) fn born(spec: &Spec, record: &Record) -> Result<Plan, Error> {
    let options = bundle::Options {
        waits_for_start: true,
        ..bundle::Options::default()
    };
    Ok(with_program(
        init_steps(spec, &record.bundle, &options)?,
        spec.process.as_ref(),
    ))
}

/// A process more in a container that runs.
pub(super) fn exec(
    process: &Process,
    spec: &Spec,
    what: &Exec,
    is_born_in_group: bool,
) -> Result<Plan, Error> {
    let mut steps = Vec::with_capacity(16);
    steps.push(Step::runtime(
        "clone a child",
        "it enters the container and has another one born there",
        vec![Call::Clone3 {
            namespaces: Default::default(),
            into_group: is_born_in_group,
        }],
    ));
    steps.push(life(
        "wait until the other one is born",
        "the first is gone then",
        LifeCall::Await(Milestone::Birth),
    ));
    tell_pid(&mut steps, what.pid_file.as_deref());
    send_descriptor(&mut steps, what.pidfd_socket.as_deref());
    steps.push(release());
    join(&mut steps, process, spec, what.console_socket.is_none())?;
    steps.push(life(
        "wait until the program runs",
        "what goes wrong until then is told by this command",
        LifeCall::Await(Milestone::Program),
    ));
    Ok(with_program(steps, Some(process)))
}

/// The steps of the child of `exec`.
fn join(
    steps: &mut Vec<Step>,
    process: &Process,
    spec: &Spec,
    is_relayed: bool,
) -> Result<(), Error> {
    let processors = |field: &str, list: &str| match list {
        "" => Ok(None),
        list => {
            let field = format!("process.execCPUAffinity.{field}");
            bundle::process::processors(&field, list).map(Some)
        }
    };
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    // Whoever takes its place inherits the label, and could not write it: the file is the opener's own.
    bundle::label::open(steps, process)?;
    bundle::label::write(steps, process)?;
    if let Some(initial) = processors("initial", &affinity.initial)? {
        let call = OciCall::Affinity {
            processors: Some(initial),
        };
        steps.push(
            Step::init(
                "go to its first processors",
                "entering the group is work as well",
                vec![Call::Oci(call)],
            )
            .asked_by("process.execCPUAffinity.initial"),
        );
    }
    steps.push(enter_group(processors("final", &affinity.last)?));
    steps.push(Step::init(
        "let go of the host's descriptors",
        "an open directory of the host is a way out",
        vec![
            Call::CloseDescriptors,
            Call::NotDumpable,
            Call::DieWithRuntime,
        ],
    ));
    let kinds = spec.linux.namespaces.iter().map(|it| it.kind.kernel());
    steps.push(
        Step::init(
            "enter the container's namespaces",
            "it is to see what init sees, and to be seen only now",
            vec![
                Call::Oci(OciCall::JoinInit {
                    namespaces: kinds.collect(),
                }),
                Call::Oci(OciCall::BeReplaced),
            ],
        )
        .asked_by("linux.namespaces"),
    );
    steps.push(Step::init(
        "wait until it is written down",
        "callers look for its number",
        vec![Call::DieWithRuntime, Call::AwaitRelease],
    ));
    steps.push(Step::init(
        "begin a session",
        "the caller's terminal stays behind",
        vec![Call::Oci(OciCall::NewSession)],
    ));
    if spec.has(NamespaceKind::User) {
        steps.push(Step::init(
            "become root of its user namespace",
            "the caller is nobody there",
            vec![Call::Oci(OciCall::BecomeRoot), Call::NotDumpable],
        ));
    }
    if process.terminal {
        let size = process.console_size.map(|size| (size.height, size.width));
        let call = OciCall::Terminal {
            owner: process.user.uid,
            size,
            is_relayed,
        };
        steps.push(
            Step::init(
                "give it a terminal",
                "programs for people need one",
                vec![Call::Oci(call)],
            )
            .asked_by("process.terminal"),
        );
    }
    let alone = Spec {
        hooks: Default::default(),
        ..spec.clone()
    };
    let labelled = Process {
        apparmor_profile: String::new(),
        selinux_label: String::new(),
        ..process.clone()
    };
    Ok(bundle::process::steps(
        steps,
        &labelled,
        &alone,
        &bundle::Options::default(),
    )?)
}

/// From a container, running or not, to nothing. `pid` is that of an init that lives.
pub(super) fn delete(
    spec: Option<&Spec>,
    record: &Record,
    directory: &Path,
    pid: Option<i32>,
) -> Plan {
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

/// Whether a plan has steps of init's, and so a program at its end.
pub(super) fn execution(plan: &Plan) -> Option<&Step> {
    let last = plan.steps_of(Actor::Init).last()?;
    last.calls
        .contains(&Call::Oci(OciCall::Execute))
        .then_some(last)
}

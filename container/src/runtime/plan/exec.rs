//! `exec`: one more process in a container that runs.

use super::{enter_group, life, release, send_descriptor, tell_pid, with_program};
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::lifecycle::{LifeCall, Milestone};
use crate::plan::oci::OciCall;
use crate::plan::step::Step;
use crate::runtime::exec::Exec;
use crate::runtime::{Error, bundle};
use crate::spec::{NamespaceKind, Process, Spec};

/// A process more in a container that runs.
pub fn exec(
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

//! The steps by which a process, init or one that joins by `exec`, gives up its rights and becomes its
//! program (`config.md`, "Process").

use std::ffi::CString;

use super::super::rlimit::rlimit_number;
use super::{Options, c, label, oci};
use crate::plan::call::{Call, text};
use crate::plan::oci::{HookKind, OciCall, SchedulerSettings};
use crate::plan::step::Step;
use crate::spec::{
    Capabilities, Error, NamespaceKind, Process, Scheduler, Spec, capability_number,
};

/// Where a program without a slash is looked for when its environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Steps from a ready root to the program.
///
/// # Errors
/// A field that this runtime or the kernel cannot do.
pub fn steps(
    steps: &mut Vec<Step>,
    process: &Process,
    spec: &Spec,
    options: &Options,
) -> Result<(), Error> {
    for (index, limit) in process.rlimits.iter().enumerate() {
        let resource = rlimit_number(&limit.kind).unwrap_or(u32::MAX);
        let call = OciCall::Rlimit {
            resource,
            soft: limit.soft,
            hard: limit.hard,
        };
        steps.push(
            oci(
                "limit a resource",
                "the limit holds for each of its processes",
                vec![call],
            )
            .asked_by(format!("process.rlimits[{index}]")),
        );
    }
    if let Some(personality) = &spec.linux.personality {
        let domain = if personality.domain == "LINUX32" {
            8
        } else {
            0
        };
        steps.push(
            oci(
                "choose an execution domain",
                "old programs see an old machine",
                vec![OciCall::Personality { domain }],
            )
            .asked_by("linux.personality"),
        );
    }
    if let Some(policy) = &spec.linux.memory_policy {
        let (mode, nodes) = policy.kernel()?;
        steps.push(
            oci(
                "choose memory nodes",
                "memory of another processor is farther away",
                vec![OciCall::MemoryPolicy { mode, nodes }],
            )
            .asked_by("linux.memoryPolicy"),
        );
    }
    if let Some(scheduler) = &process.scheduler {
        let call = OciCall::Scheduler(scheduler_settings(scheduler)?);
        steps.push(
            oci(
                "choose how it is scheduled",
                "before it may not any more",
                vec![call],
            )
            .asked_by("process.scheduler"),
        );
    }
    if let Some(priority) = &process.io_priority {
        let class = match priority.class.as_str() {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            other => {
                return Err(Error::field(
                    "process.ioPriority.class",
                    other,
                    "give IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE",
                ));
            }
        };
        let level = u16::try_from(priority.priority)
            .ok()
            .filter(|it| *it < 8)
            .ok_or_else(|| {
                Error::field(
                    "process.ioPriority.priority",
                    priority.priority,
                    "give 0 to 7",
                )
            })?;
        steps.push(
            oci(
                "choose its I/O priority",
                "before it may not any more",
                vec![OciCall::IoPriority { class, level }],
            )
            .asked_by("process.ioPriority"),
        );
    }
    label::write(steps, process)?;
    // Root of a user namespace may do everything only with files whose user and group it has.
    let may_be_barred = spec.has(NamespaceKind::User) && process.user.uid != 0;
    steps.push(
        oci(
            "go to its directory",
            "before a filter forbids to ask whether that is in the root",
            vec![OciCall::ChangeDirectory {
                path: c(&process.cwd),
                may_be_barred,
            }],
        )
        .asked_by("process.cwd"),
    );
    // Without no_new_privs only the privileged may load a filter, so it comes before the rights go; with
    // it, it comes last, and needs to allow nothing but `execve`.
    let filter = spec
        .linux
        .seccomp
        .as_ref()
        .map(super::seccomp::compile)
        .transpose()?;
    let mut filter = filter.map(|(program, flags)| {
        let call = OciCall::Seccomp { program, flags };
        oci(
            "filter system calls",
            "what it does not need, it cannot misuse",
            vec![call],
        )
        .asked_by("linux.seccomp")
    });
    if !process.no_new_privileges {
        steps.extend(filter.take());
    }
    let mut homes = process
        .env
        .iter()
        .rev()
        .filter_map(|it| it.strip_prefix("HOME="));
    if homes.next().is_none_or(str::is_empty) {
        let uid = process.user.uid;
        steps.push(oci(
            "find out where its user is at home",
            "programs expect HOME",
            vec![OciCall::FindHome { uid }],
        ));
    }
    confine(steps, process, keeps_groups(spec));
    if may_be_barred {
        steps.push(
            oci(
                "go to its directory, if root was barred from it",
                "its user may enter what root of a user namespace may not",
                vec![OciCall::ChangeDirectoryAsUser {
                    path: c(&process.cwd),
                }],
            )
            .asked_by("process.cwd"),
        );
    }
    // Whoever decides about calls has the listener once the container is created.
    if spec
        .linux
        .seccomp
        .as_ref()
        .is_some_and(|it| !it.listener_path.is_empty())
    {
        steps.extend(filter.take());
    }
    if options.waits_for_start {
        steps.push(oci(
            "wait for start",
            "everything is ready",
            vec![OciCall::AwaitStart],
        ));
    }
    // A filter may forbid what this takes.
    steps.push(oci(
        "tell that it is about to become the program",
        "from here on an end without a word is the program's",
        vec![OciCall::Announce],
    ));
    steps.extend(filter);
    if !spec.hooks.start_container.is_empty() {
        steps.push(
            oci(
                "run hooks in the container",
                "right before its program starts",
                vec![OciCall::RunHooks {
                    kind: HookKind::StartContainer,
                }],
            )
            .asked_by("hooks.startContainer"),
        );
    }
    steps.push(
        oci(
            "start the program",
            "all this was for it",
            vec![OciCall::Execute],
        )
        .asked_by("process.args"),
    );
    Ok(())
}

/// The annotation that podman hands to its runtimes for `podman run --group-add keep-groups`.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Whether the caller's groups stay, which files of its own may be shared with: no field of the
/// specification asks for it, but an annotation does.
fn keeps_groups(spec: &Spec) -> bool {
    let asked = spec.annotations.get(KEEP_GROUPS);
    asked.is_some_and(|value| value == "1")
}

/// User, groups and capabilities.
fn confine(steps: &mut Vec<Step>, process: &Process, keeps_groups: bool) {
    let none = Capabilities::default();
    let sets = process.capabilities.as_ref().unwrap_or(&none);
    let bits = |names: &[String]| {
        // What this kernel does not have cannot be granted, and is no error.
        names
            .iter()
            .filter_map(|name| capability_number(name))
            .fold(0u64, |set, number| set | 1 << number)
    };
    let user = &process.user;
    let umask = Call::Umask {
        mask: user.umask.unwrap_or(0o022),
    };
    let mut calls = vec![
        umask,
        Call::Oci(OciCall::Bound {
            keep: bits(&sets.bounding),
        }),
        Call::Oci(OciCall::BecomeUser {
            uid: user.uid,
            gid: user.gid,
            groups: (!keeps_groups).then(|| user.additional_gids.clone()),
        }),
        Call::Oci(OciCall::Capabilities {
            effective: bits(&sets.effective),
            permitted: bits(&sets.permitted),
            inheritable: bits(&sets.inheritable),
            ambient: bits(&sets.ambient),
        }),
    ];
    if process.no_new_privileges {
        calls.push(Call::NoNewPrivileges);
    }
    steps.push(
        Step::init(
            "give up rights",
            "root in a container is not root of the host",
            calls,
        )
        .asked_by("process"),
    );
}

fn scheduler_settings(scheduler: &Scheduler) -> Result<SchedulerSettings, Error> {
    let policy = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => {
            return Err(Error::field(
                "process.scheduler.policy",
                other,
                "give SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE or SCHED_DEADLINE",
            ));
        }
    };
    for (name, value, range) in [
        ("nice", scheduler.nice, -20..=19),
        ("priority", scheduler.priority, 0..=99),
    ] {
        if !range.contains(&value) {
            let why = "give a nice value of -20 to 19, a priority of 0 to 99";
            return Err(Error::field(
                format!("process.scheduler.{name}"),
                value,
                why,
            ));
        }
    }
    let is_real_time = matches!(policy, 1 | 2);
    if is_real_time != (scheduler.priority > 0) {
        let why = "SCHED_FIFO and SCHED_RR have a priority of 1 to 99, and no other has one";
        return Err(Error::field(
            "process.scheduler.priority",
            scheduler.priority,
            why,
        ));
    }
    let mut flags = 0;
    for (index, flag) in scheduler.flags.iter().enumerate() {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 1,
            "SCHED_FLAG_RECLAIM" => 2,
            "SCHED_FLAG_DL_OVERRUN" => 4,
            "SCHED_FLAG_KEEP_POLICY" => 8,
            "SCHED_FLAG_KEEP_PARAMS" => 16,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 32,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 64,
            other => {
                return Err(Error::field(
                    format!("process.scheduler.flags[{index}]"),
                    other,
                    "there is no such flag; see man 2 sched_setattr",
                ));
            }
        };
    }
    deadlines(scheduler)?;
    Ok(SchedulerSettings {
        policy,
        flags,
        nice: scheduler.nice,
        priority: scheduler.priority as u32,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    })
}

/// The times of `SCHED_DEADLINE` (`man 7 sched`).
fn deadlines(scheduler: &Scheduler) -> Result<(), Error> {
    let Scheduler {
        runtime,
        deadline,
        period,
        ..
    } = *scheduler;
    if scheduler.policy != "SCHED_DEADLINE" {
        return Ok(());
    }
    let fail = |name: &str, time: u64, why| {
        Err(Error::field(format!("process.scheduler.{name}"), time, why))
    };
    if runtime < 1024 {
        return fail("runtime", runtime, "give 1024 ns or more");
    }
    if deadline < runtime {
        return fail("deadline", deadline, "give no less than `runtime`");
    }
    if period != 0 && period < deadline {
        return fail("period", period, "give no less than `deadline`");
    }
    Ok(())
}

/// The processors of a list such as `0-3,7`.
///
/// # Errors
/// The field `at` when it is no such list.
pub fn processors(at: &str, list: &str) -> Result<Vec<usize>, Error> {
    crate::spec::numbers(at, list, "give processors such as 0-3,7, below 1024")
}

/// Where the program may be, in the order of the search.
pub fn candidates(process: &Process) -> Vec<CString> {
    let Some(program) = process.args.first() else {
        return Vec::new();
    };
    if program.contains('/') {
        return vec![c(program)];
    }
    let path = process
        .env
        .iter()
        .rev()
        .find_map(|it| it.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    path.split(':')
        .map(|directory| {
            let directory = if directory.is_empty() { "." } else { directory };
            text(format!("{directory}/{program}"))
        })
        .collect()
}

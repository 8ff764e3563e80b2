//! Checks 10.4 to 10.6: `spawn`, `exec` and `reap` on the kernel that only writes down.

use lab10::{Ended, Errno, Namespace, Pid, Plan, Step};
use ringside_lab_harness::{Context, Failure, Outcome, attempt, compare, ensure};

use crate::recorder::{Event, FIRST_CHILD, Recorder};
use crate::sample;

/// A plan that nobody would make, so that nothing but this plan passes.
fn odd_plan(context: &Context) -> Plan {
    let mut random = context.seed.rng("odd plan");
    let mut steps: Vec<Step> = (0..4)
        .map(|number| Step::ChangeDirectory(format!("/{number}/{}", random.below(1000)).into()))
        .collect();
    steps.insert(2, Step::SetHostname(context.seed.word("odd plan")));
    Plan {
        namespaces: vec![Namespace::Uts, Namespace::Pid],
        steps,
    }
}

fn spawned(
    recorder: &mut Recorder,
    plan: &Plan,
    status: i32,
    look: &str,
) -> Result<Result<Pid, Errno>, Failure> {
    let mut marked = Vec::new();
    let ran = || format!("spawn of {plan:?}");
    let result = attempt(ran, look, || {
        lab10::spawn(recorder, plan, &mut |system| {
            system.report("then"); // the only call that changes nothing
            marked.push(());
            status
        })
    });
    for _ in marked {
        recorder.mark("then");
    }
    result
}

pub fn spawn(context: &Context) -> Outcome {
    let plan = odd_plan(context);
    let look = "`spawn` in src/lib.rs: one clone; the closure is the child's whole life";
    let steps = || plan.steps.iter().cloned().map(Event::Perform);
    let ran = format!("spawn of {plan:?}");

    let mut recorder = Recorder::default();
    let result = spawned(&mut recorder, &plan, 77, look)?;
    compare(format!("{ran}: its value"), Ok(FIRST_CHILD), result, look)?;
    let parent = [Event::Clone(plan.namespaces.clone()), Event::Mark("then")];
    let child: Vec<_> = steps().chain([Event::End(77)]).collect();
    let record = recorder.to_string();
    ensure(
        recorder.of(1) == parent.iter().collect::<Vec<_>>(),
        ran.as_str(),
        format!(
            "process 1 makes a child in {:?} and nothing else; `then` runs once",
            plan.namespaces
        ),
        || record.clone(),
        look,
    )?;
    ensure(
        recorder.of(FIRST_CHILD) == child.iter().collect::<Vec<_>>(),
        ran.as_str(),
        format!(
            "process {FIRST_CHILD}, the child, takes all steps in order and ends with 77, as `then` says"
        ),
        || record,
        look,
    )?;

    for refused in 0..plan.steps.len() {
        let mut recorder = Recorder {
            refuse: Some((refused, Errno::EPERM)),
            ..Recorder::default()
        };
        let _ = spawned(&mut recorder, &plan, 77, look)?;
        let taken = steps().take(refused + 1).chain([Event::End(125)]);
        let taken: Vec<_> = taken.collect();
        let record = recorder.to_string();
        let alone = recorder.of(1) == [&Event::Clone(plan.namespaces.clone())];
        ensure(
            alone && recorder.of(FIRST_CHILD) == taken.iter().collect::<Vec<_>>(),
            format!("{ran}, where the kernel refuses step {refused} with EPERM"),
            "the child stops there with status 125 and does not do `then`",
            || record.clone(),
            "`spawn`: a container that is half made must not run anything",
        )?;
        ensure(
            !recorder.reports().is_empty(),
            format!("{ran}, where the kernel refuses step {refused} with EPERM"),
            "a report of which step it was",
            || record,
            "`spawn`: system.report, or nobody will ever know",
        )?;
    }

    let mut recorder = Recorder {
        no_child: Some(Errno::EPERM),
        ..Recorder::default()
    };
    let result = spawned(&mut recorder, &plan, 77, look)?;
    compare(
        format!("{ran}, where clone says EPERM"),
        Err(Errno::EPERM),
        result,
        look,
    )
}

pub fn exec(context: &Context) -> Outcome {
    let command = sample::config(context.seed).command;
    let look = "`exec` in src/lib.rs: close, then execve";
    let run = |recorder: &mut Recorder| {
        let ran = || format!("exec of {command:?}");
        attempt(ran, look, || {
            recorder.process(|system| lab10::exec(system, &command))
        })
    };
    let mut recorder = Recorder::default();
    run(&mut recorder)?;
    let record = recorder.to_string();
    let close = Event::CloseFrom(3);
    let execve = Event::Execve(command.clone());
    ensure(
        recorder.of(1) == [&close, &execve],
        format!("exec of {command:?}"),
        "every descriptor from 3 on closed, then execve of exactly this command",
        || record,
        "`exec`: a directory of the host's that is left open is a door (CVE-2024-21626)",
    )?;
    for (errno, status) in [
        (Errno::ENOENT, 127),
        (Errno::EACCES, 126),
        (Errno::ENOEXEC, 126),
    ] {
        let mut recorder = Recorder {
            no_exec: Some(errno),
            ..Recorder::default()
        };
        let ran = format!(
            "exec of {}, where execve says {errno:?}",
            command.program.display()
        );
        let got = run(&mut recorder)?;
        compare(
            ran.as_str(),
            Some(status),
            got,
            "`exec`: 127 is not there, 126 is there and cannot",
        )?;
        let said = !recorder.reports().is_empty();
        ensure(
            said,
            ran,
            "a report of what went wrong",
            || "nothing".into(),
            look,
        )?;
    }
    let mut recorder = Recorder {
        no_close: Some(Errno::ENOSYS),
        ..Recorder::default()
    };
    let got = run(&mut recorder)?;
    let record = recorder.to_string();
    ensure(
        got == Some(126) && !recorder.of(1).contains(&&execve),
        "exec where close_range says ENOSYS",
        "no execve, and status 126: better no command than one with the host's descriptors",
        || record,
        look,
    )
}

pub fn reap(context: &Context) -> Outcome {
    let mut random = context.seed.rng("reap");
    let main = random.range(3..50) as Pid;
    let orphan = |random: &mut ringside_lab_harness::Rng| {
        let pid = main + random.range(1..50) as Pid;
        let ended = if random.one_in(2) {
            Ended::Exited(random.below(256) as i32)
        } else {
            Ended::Killed(9)
        };
        Ok((pid, ended))
    };
    let status = random.range(1..126) as i32;
    let signal = random.range(1..16) as i32;
    let look = "`reap` in src/lib.rs: a loop around wait, left when `main` has ended";
    let ends = [
        (Ended::Exited(status), status),
        (Ended::Exited(0), 0),
        (Ended::Killed(signal), 128 + signal),
    ];
    for (ended, expected) in ends {
        let mut waits = vec![orphan(&mut random), Err(Errno::EINTR), orphan(&mut random)];
        waits.push(Ok((main, ended)));
        let count = waits.len();
        waits.push(orphan(&mut random)); // after main: the kernel ends whoever is left
        let ran = || format!("reap of {main}, where wait says {waits:?}");
        let mut recorder = Recorder {
            waits: waits.clone().into(),
            ..Recorder::default()
        };
        let got = attempt(ran, look, || lab10::reap(&mut recorder, main))?;
        compare(ran(), expected, got, look)?;
        let waited = recorder.of(1).len();
        compare(
            format!("{}: how often it waits", ran()),
            count,
            waited,
            look,
        )?;
    }
    let mut recorder = Recorder::default();
    let ran = "reap where wait says ECHILD";
    let got = attempt(|| ran.into(), look, || lab10::reap(&mut recorder, main))?;
    compare(
        ran,
        125,
        got,
        "`reap`: without children it would wait for ever",
    )
}

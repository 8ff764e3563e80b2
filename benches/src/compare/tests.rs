//! The comparison with contenders and workloads that are shell scripts, so that all is known.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;

use super::*;
use crate::contender::Unsupported;
use crate::floor::Floor;
use crate::host::{CgroupLayout, KvmLabel};
use crate::workload::{Method, WORKLOADS};

/// Runs the embedded `stamp`, and instead of any work a script that is told the contender's name and
/// the work's.
struct Scripted {
    name: &'static str,
    script: &'static str,
    floor_of: Option<&'static str>,
}

impl Contender for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        "a script"
    }
    fn command(&self, program: &Program, tools: &Tools) -> Result<Command, Unsupported> {
        match program {
            Program::Stamp if self.script == "broken" => {
                let mut command = Command::new("/bin/sh");
                command.args([
                    "-c",
                    "echo 'ringside: cannot open /dev/none: gone' >&2; exit 1",
                ]);
                Ok(command)
            }
            Program::Stamp => Ok(Command::new(&program.host_command_line(tools)?[0])),
            Program::Sysbench(_) => Err(Unsupported::NoKernel("no kernel is kept".into())),
            Program::Boot => Err(Unsupported::NoBoot),
            Program::Work(_) if self.floor_of.is_some() => Err(Unsupported::OnlyStarts),
            Program::Work(line) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", self.script, self.name, line[0]]);
                Ok(command)
            }
        }
    }
    fn floor_of(&self) -> Option<&'static str> {
        self.floor_of
    }
}

fn scripted(name: &'static str, script: &'static str) -> Box<dyn Contender> {
    Box::new(Scripted {
        name,
        script,
        floor_of: name.strip_prefix("floor-"),
    })
}

fn work(name: &'static str) -> Workload {
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    *found.unwrap()
}

fn run(plan: &Plan, tell: &mut dyn FnMut(Progress<'_>)) -> Report {
    let parent = tempfile::tempdir().unwrap();
    let tools = Tools {
        ringside: "/no/such/ringside".into(),
        floor: Floor::extract(parent.path()).unwrap(),
        kernel: Err("no kernel is kept".into()),
    };
    let host = HostLabel {
        kernel: String::new(),
        cpu: String::new(),
        cores: 1,
        kvm: KvmLabel::Uncalibrated,
        cgroups: CgroupLayout::None,
        versions: BTreeMap::new(),
    };
    compare(plan, host, &tools, &Interrupt::never().unwrap(), tell)
}

#[test]
fn figures_are_sorted_into_contenders_and_compared() {
    let plan = Plan {
        contenders: vec![
            scripted("native", "echo call_ns 100"),
            scripted("vm", "echo call_ns 250"),
            scripted("floor-vm", ""),
        ],
        workloads: vec![work("start"), work("call")],
        runs: 4,
        time_limit: None,
        seed: 3,
    };
    let told = RefCell::new(Vec::new());
    let report = run(&plan, &mut |progress| {
        told.borrow_mut().push((progress.done, progress.total));
    });
    assert!(!report.has_failures(), "{:?}", report.workloads);
    let call = report.result("call", "call_ns", "vm").unwrap();
    assert_eq!(call.values(), [250.0; 4]);
    let rounds: Vec<u32> = call.samples.iter().map(|sample| sample.round).collect();
    assert_eq!(rounds, [1, 2, 3, 4]);
    assert_eq!(call.ratios.len(), 1);
    assert_eq!(call.ratios[0].ratio.value, 2.5);
    assert!(
        report
            .result("call", "call_ns", "native")
            .unwrap()
            .ratios
            .is_empty()
    );

    // The floor takes part in the start and in nothing else, and nobody misses it there.
    let start = report.result("start", "time", "vm").unwrap();
    let compared: Vec<&str> = start
        .ratios
        .iter()
        .map(|ratio| ratio.to_contender.as_str())
        .collect();
    assert_eq!(compared, ["native", "floor-vm"]);
    assert_eq!(report.workloads[1].metrics[0].results.len(), 2);
    assert!(report.workloads[1].not_run.is_empty());

    // Three tries of contenders, then five rounds of two calls and three times three starts.
    let told = told.into_inner();
    assert_eq!(told.len(), 3 + 5 * 11);
    let rest: Vec<_> = (0..55).map(|done| (done, 55)).collect();
    assert_eq!(told[3..], rest);
    assert_eq!(start.samples.len(), 4 * 3);
}

#[test]
fn who_cannot_start_is_reported_with_its_own_words_and_the_others_run() {
    let plan = Plan {
        contenders: vec![
            scripted("vm", "broken"),
            scripted("native", "echo call_ns 1"),
        ],
        workloads: vec![work("call")],
        runs: 1,
        time_limit: None,
        seed: 3,
    };
    let report = run(&plan, &mut |_| {});
    let reason = report.contenders[0].unavailable.as_deref();
    assert_eq!(reason, Some("cannot open /dev/none: gone"));
    assert_eq!(report.contenders[1].unavailable, None);
    assert!(report.result("call", "call_ns", "vm").is_none());
    assert_eq!(
        report.result("call", "call_ns", "native").unwrap().values(),
        [1.0]
    );
    assert!(!report.has_failures());
}

#[test]
fn a_contender_that_keeps_failing_is_not_tried_for_ever() {
    let plan = Plan {
        contenders: vec![
            scripted("native", "echo call_ns much"),
            scripted("vm", "echo call_ns 2"),
        ],
        workloads: vec![work("call")],
        runs: 6,
        time_limit: None,
        seed: 3,
    };
    let report = run(&plan, &mut |_| {});
    let failures = &report.workloads[0].failures;
    assert_eq!(failures.len(), FAILURES_ENOUGH);
    assert_eq!((failures[0].round, failures[1].round), (0, 1));
    assert_eq!(
        failures[0].reason,
        "printed no call_ns but \"call_ns much\\n\""
    );
    assert_eq!(
        report.result("call", "call_ns", "vm").unwrap().values(),
        [2.0; 6]
    );
    assert!(report.has_failures());
}

#[test]
fn a_twin_is_compared_within_the_same_contender() {
    let twin = Workload {
        name: "twin",
        program: Program::Work(&["twin"]),
        method: Method::Sysbench,
        twin: Some("primes"),
        ..work("primes")
    };
    let script =
        r#"case $1 in twin) echo events per second: 40;; *) echo events_per_second 50;; esac"#;
    let plan = Plan {
        contenders: vec![scripted("native", script)],
        workloads: vec![work("primes"), twin],
        runs: 2,
        time_limit: None,
        seed: 3,
    };
    let report = run(&plan, &mut |_| {});
    let primes = report
        .result("primes", "events_per_second", "native")
        .unwrap();
    assert_eq!(primes.ratios.len(), 1, "{primes:?}");
    assert_eq!(primes.ratios[0].to_workload, "twin");
    assert_eq!(primes.ratios[0].ratio.value, 1.25);
}

#[test]
fn a_program_that_a_contender_never_runs_is_reported_as_such() {
    let plan = Plan {
        contenders: vec![scripted("vm", "")],
        workloads: vec![work("sysbench-cpu")],
        runs: 1,
        time_limit: None,
        seed: 3,
    };
    let report = run(&plan, &mut |_| {});
    assert!(report.is_empty());
    assert_eq!(report.workloads[0].not_run.len(), 1);
    assert!(
        report.workloads[0].not_run[0]
            .reason
            .contains("no kernel is kept")
    );
}

#[test]
fn the_footprint_is_taken_while_the_work_waits() {
    // The script is a supervisor here: its own memory counts, as it is not the work.
    let plan = Plan {
        contenders: vec![scripted(
            "container",
            "echo ready 1.000; read nothing; exit 0",
        )],
        workloads: vec![work("footprint")],
        runs: 1,
        time_limit: None,
        seed: 3,
    };
    let report = run(&plan, &mut |_| {});
    let held = report.result("footprint", "overhead", "container").unwrap();
    assert!(held.summary.median > 0.0);
    assert!(
        report
            .result("footprint", "guest_memory", "container")
            .is_none()
    );
    assert!(!report.has_failures(), "{:?}", report.workloads[0].failures);
}

#[test]
fn when_time_is_up_no_further_round_begins() {
    let plan = Plan {
        contenders: vec![scripted("native", "echo call_ns 1")],
        workloads: vec![work("call")],
        runs: 1000,
        time_limit: Some(Duration::ZERO),
        seed: 3,
    };
    let report = run(&plan, &mut |_| {});
    assert!(report.out_of_time && !report.interrupted);
    assert_eq!(report.runs, 1);
    let result = report.result("call", "call_ns", "native").unwrap();
    assert_eq!(result.samples.len(), 1);

    let enough = Plan {
        runs: 2,
        time_limit: Some(Duration::from_secs(600)),
        ..plan
    };
    let report = run(&enough, &mut |_| {});
    assert!(!report.out_of_time);
    assert_eq!(report.runs, 2);
}

//! The comparison: who can take part, every run in its turn, and the report.

use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::contender::{BASELINE, Contender, Program, Tools};
use crate::host::HostLabel;
use crate::interrupt::Interrupt;
use crate::measure::{MeasureError, measure};
use crate::peers;
use crate::report::{
    self, ContenderReport, Failure, MetricReport, NotRun, RatioReport, Report, ResultReport,
    SCHEMA_VERSION, Sample, WorkloadReport,
};
use crate::schedule::Schedule;
use crate::stats;
use crate::workload::{Metric, START, Workload};

/// A workload that failed so often under a contender is not tried again: a hang costs half a minute
/// each time.
const FAILURES_ENOUGH: usize = 2;

/// What to compare, and how.
pub struct Plan {
    /// The contenders, in the order of the report.
    pub contenders: Vec<Box<dyn Contender>>,
    /// The workloads, in the order of the report.
    pub workloads: Vec<Workload>,
    /// Rounds that count.
    pub runs: u32,
    /// Begin no round that is likely to end after this; one is run in any case.
    pub time_limit: Option<Duration>,
    /// Decides the order of runs, and the resampling.
    pub seed: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Runs that are done.
    pub done: usize,
    /// Runs that there will be, as far as is known.
    pub total: usize,
    /// The workload that runs next.
    pub workload: &'a str,
    /// The contender that runs it.
    pub contender: &'a str,
}

/// Compares; `tell` hears of each run before it begins.
///
/// Nothing that goes wrong with a contender ends this: it becomes part of the report. An interrupt
/// ends it early, with what there is.
pub fn compare(
    plan: &Plan,
    host: HostLabel,
    tools: &Tools,
    interrupt: &Interrupt,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Report {
    let started_unix_s = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs());
    let started = Instant::now();
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        started_unix_s,
        elapsed_s: 0.0,
        seed: plan.seed,
        runs: 0,
        interrupted: false,
        out_of_time: false,
        host,
        contenders: try_contenders(plan, tools, interrupt, tell),
        workloads: plan.workloads.iter().map(empty_report).collect(),
        warnings: Vec::new(),
    };
    let mut samples = Vec::new();
    let pairs = pairs(plan, tools, &mut report);
    let total = pairs.len() * (plan.runs as usize + 1);
    let mut done = 0;
    let first_round = Instant::now();
    'rounds: for round in Schedule::new(pairs, plan.runs, plan.seed) {
        // As long as the rounds so far, the warm-up among them, took on average.
        let next_takes = first_round.elapsed() / round.number.max(1);
        let ends_late = |limit| started.elapsed() + next_takes > limit;
        if round.number > 1 && plan.time_limit.is_some_and(ends_late) {
            report.out_of_time = true;
            break;
        }
        for pair in round.entries {
            if interrupt.signal().is_some() {
                break 'rounds;
            }
            let (workload, contender) = (
                &plan.workloads[pair.workload],
                &plan.contenders[pair.contender],
            );
            tell(Progress {
                done,
                total,
                workload: workload.name,
                contender: contender.name(),
            });
            done += 1;
            let record = &mut report.workloads[pair.workload];
            if is_given_up(record, contender.name()) {
                continue;
            }
            match measure(workload, contender.as_ref(), tools, interrupt) {
                Ok(figures) if round.number > 0 => samples.push((round.number, pair, figures)),
                Ok(_warm_up) => {}
                Err(error) if error.is_interrupt() => break 'rounds,
                Err(error) if error.is_refusal() => record.not_run.push(NotRun {
                    contender: contender.name().to_owned(),
                    reason: reason(&error),
                }),
                Err(error) => record.failures.push(Failure {
                    contender: contender.name().to_owned(),
                    round: round.number,
                    reason: reason(&error),
                }),
            }
        }
        report.runs = round.number;
    }
    report.interrupted = interrupt.signal().is_some();
    sum_up(plan, &samples, &mut report);
    report.warnings = report::doubt::warnings(&report);
    report.elapsed_s = started.elapsed().as_secs_f64();
    report
}

/// A workload under a contender, as indices into the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    workload: usize,
    contender: usize,
}

/// Whether a contender is not to try a workload again: it may not, or it failed too often.
fn is_given_up(workload: &WorkloadReport, contender: &str) -> bool {
    let mut refusals = workload.not_run.iter();
    let failures = workload.failures.iter();
    refusals.any(|not_run| not_run.contender == contender)
        || failures
            .filter(|failure| failure.contender == contender)
            .count()
            >= FAILURES_ENOUGH
}

/// One run's round, place and figures, one for each metric.
type Run = (u32, Pair, Vec<Option<f64>>);

/// Starts the smallest program there is under each contender: who fails at that is unavailable, and
/// its own last words say why, for it knows best.
fn try_contenders(
    plan: &Plan,
    tools: &Tools,
    interrupt: &Interrupt,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Vec<ContenderReport> {
    let mut attempt = |contender: &dyn Contender| {
        tell(Progress {
            done: 0,
            total: 0,
            workload: START.name,
            contender: contender.name(),
        });
        // Who was not let finish is not unable to.
        let outcome = measure(&START, contender, tools, interrupt);
        let failure = outcome.err().filter(|error| !error.is_interrupt());
        ContenderReport {
            name: contender.name().to_owned(),
            about: contender.about().to_owned(),
            floor_of: contender.floor_of().map(str::to_owned),
            unavailable: failure.map(|error| reason(&error)),
        }
    };
    let contenders = plan.contenders.iter();
    contenders
        .map(|contender| attempt(contender.as_ref()))
        .collect()
}

fn reason(error: &MeasureError) -> String {
    match error {
        MeasureError::Child(error) => error.message(),
        error => error.to_string(),
    }
}

fn empty_report(workload: &Workload) -> WorkloadReport {
    let empty = |metric: &Metric| MetricReport {
        name: metric.name.to_owned(),
        title: metric.title.to_owned(),
        unit: metric.unit.to_owned(),
        better: metric.better,
        results: Vec::new(),
    };
    WorkloadReport {
        name: workload.name.to_owned(),
        about: workload.about.to_owned(),
        metrics: workload.metrics.iter().map(empty).collect(),
        not_run: Vec::new(),
        failures: Vec::new(),
    }
}

/// What can run at all; what cannot is reported, but for floors, which are there for the start.
fn pairs(plan: &Plan, tools: &Tools, report: &mut Report) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (workload, what) in plan.workloads.iter().enumerate() {
        let missing = missing(&what.program);
        for (contender, who) in plan.contenders.iter().enumerate() {
            if report.contenders[contender].unavailable.is_some() {
                continue;
            }
            let refusal = match who.command(&what.program, tools) {
                Err(unsupported) => Some(unsupported.to_string()),
                Ok(_) => missing.clone(),
            };
            match refusal {
                None => pairs.extend((0..what.repeats).map(|_| Pair {
                    workload,
                    contender,
                })),
                Some(_) if who.floor_of().is_some() => {}
                Some(reason) => report.workloads[workload].not_run.push(NotRun {
                    contender: who.name().to_owned(),
                    reason,
                }),
            }
        }
    }
    pairs
}

/// Why a program is not installed, if it is not.
fn missing(program: &Program) -> Option<String> {
    let Program::Sysbench(_) = program else {
        return None;
    };
    let peer = peers::PEERS.iter().find(|peer| peer.name == "sysbench")?;
    let error = peers::find(*peer).err()?;
    Some(format!("{}: {error}", peer.name))
}

/// Sorts figures into results, sums these up and compares them.
fn sum_up(plan: &Plan, runs: &[Run], report: &mut Report) {
    let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
    for (workload, what) in plan.workloads.iter().enumerate() {
        for metric in 0..what.metrics.len() {
            for (contender, who) in plan.contenders.iter().enumerate() {
                let pair = Pair {
                    workload,
                    contender,
                };
                let samples: Vec<Sample> = runs
                    .iter()
                    .filter(|(_, of, _)| *of == pair)
                    .filter_map(|(round, _, figures)| {
                        let (round, value) = (*round, figures[metric]?);
                        Some(Sample { round, value })
                    })
                    .collect();
                let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
                let Some(summary) = stats::summarize(&values, &mut random) else {
                    continue;
                };
                let results = &mut report.workloads[workload].metrics[metric].results;
                results.push(ResultReport {
                    contender: who.name().to_owned(),
                    samples,
                    summary,
                    ratios: Vec::new(),
                });
            }
        }
    }
    for (workload, what) in plan.workloads.iter().enumerate() {
        for (metric, figure) in what.metrics.iter().enumerate() {
            for index in 0..report.workloads[workload].metrics[metric].results.len() {
                let result = &report.workloads[workload].metrics[metric].results[index];
                let ratios = ratios(plan, report, what, figure, result, &mut random);
                report.workloads[workload].metrics[metric].results[index].ratios = ratios;
            }
        }
    }
}

/// How a result compares: with the baseline, with its floor, and with the workload that it is the
/// twin of.
fn ratios(
    plan: &Plan,
    report: &Report,
    workload: &Workload,
    metric: &Metric,
    result: &ResultReport,
    random: &mut ChaCha8Rng,
) -> Vec<RatioReport> {
    let who = result.contender.as_str();
    let mut others = Vec::new();
    if who != BASELINE {
        others.push((workload.name, BASELINE));
    }
    let floors = plan
        .contenders
        .iter()
        .filter(|other| other.floor_of() == Some(who));
    others.extend(floors.map(|floor| (workload.name, floor.name())));
    let twins = plan
        .workloads
        .iter()
        .filter(|other| other.twin == Some(workload.name));
    others.extend(twins.map(|twin| (twin.name, who)));

    let mut ratios = Vec::new();
    for (to_workload, to_contender) in others {
        let Some(other) = report.result(to_workload, metric.name, to_contender) else {
            continue;
        };
        if let Some(ratio) = stats::ratio(&result.values(), &other.values(), random) {
            ratios.push(RatioReport {
                to_contender: to_contender.to_owned(),
                to_workload: to_workload.to_owned(),
                ratio,
            });
        }
    }
    ratios
}

#[cfg(test)]
mod tests;

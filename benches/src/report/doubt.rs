//! What a report must not leave unsaid: where the machine was too noisy, and what would help.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{MetricReport, Report, ResultReport};
use crate::stats;

/// Contenders this close are told apart: two medians that differ by less may as well be equal.
const TELLABLE: f64 = 0.10;

/// A spread (between quartiles, over the median) above which a median is not much to go by.
const WIDE: f64 = 0.5;

/// With fewer runs an interval is little more than the range of the samples.
const FEW_RUNS: u32 = 8;

/// No patience suffices for more runs than this.
const MOST_RUNS: f64 = 1000.0;

/// Something that a reader should know before quoting a figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What is wrong.
    pub kind: Kind,
    /// The workload, where it is about one.
    pub workload: Option<String>,
    /// The metric, where it is about one.
    pub metric: Option<String>,
    /// The contenders that it is about.
    pub contenders: Vec<String>,
    /// How many runs might settle it, where that is a matter of runs and of patience.
    pub runs_needed: Option<u32>,
    /// The whole of it for people, with what to do.
    pub message: String,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Two contenders may be equal or far apart: the figures do not say.
    CannotTell,
    /// A contender's figures differ too much among themselves.
    WideSpread,
    /// There are too few runs for an interval.
    FewRuns,
}

/// Finds what to warn of; resampling is seeded by the report's own seed.
pub fn warnings(report: &Report) -> Vec<Warning> {
    let mut random = ChaCha8Rng::seed_from_u64(report.seed);
    let mut found = Vec::new();
    if report.runs < FEW_RUNS {
        found.push(Warning {
            kind: Kind::FewRuns,
            workload: None,
            metric: None,
            contenders: Vec::new(),
            runs_needed: Some(FEW_RUNS),
            message: format!(
                "{} runs are too few for intervals to mean much; give --runs {FEW_RUNS} or more",
                report.runs
            ),
        });
    }
    for workload in &report.workloads {
        for metric in &workload.metrics {
            let mut warn = |kind, contenders: Vec<String>, runs_needed, message: String| {
                found.push(Warning {
                    kind,
                    workload: Some(workload.name.clone()),
                    metric: Some(metric.name.clone()),
                    contenders,
                    runs_needed,
                    message: format!("{}: {message}", metric.title),
                });
            };
            let wide: Vec<String> = metric
                .results
                .iter()
                .filter(|result| is_wide(result))
                .map(|result| result.contender.clone())
                .collect();
            if !wide.is_empty() {
                let message = format!(
                    "figures of {} are spread widely (half of them over more than {:.0} % of the median); see what else runs on this machine",
                    wide.join(", "),
                    WIDE * 100.0
                );
                warn(Kind::WideSpread, wide, None, message);
            }
            for (one, other) in pairs(report, metric) {
                if let Some((runs, message)) = cannot_tell(report.runs, one, other, &mut random) {
                    let contenders = vec![one.contender.clone(), other.contender.clone()];
                    warn(Kind::CannotTell, contenders, runs, message);
                }
            }
        }
    }
    found
}

fn is_wide(result: &ResultReport) -> bool {
    let summary = &result.summary;
    summary.median > 0.0 && summary.quartiles.width() / summary.median > WIDE
}

/// The results that a reader compares: each two contenders, and each contender with its own floor.
fn pairs<'r>(
    report: &Report,
    metric: &'r MetricReport,
) -> Vec<(&'r ResultReport, &'r ResultReport)> {
    let floor_of = |result: &ResultReport| {
        let mut contenders = report.contenders.iter();
        contenders
            .find(|contender| contender.name == result.contender)
            .and_then(|contender| contender.floor_of.clone())
    };
    let mut pairs = Vec::new();
    for (index, one) in metric.results.iter().enumerate() {
        for other in &metric.results[index + 1..] {
            let compared = match (floor_of(one), floor_of(other)) {
                (None, None) => true,
                (None, Some(floored)) => floored == one.contender,
                (Some(floored), None) => floored == other.contender,
                (Some(_), Some(_)) => false,
            };
            if compared {
                pairs.push((one, other));
            }
        }
    }
    pairs
}

/// What to say if the ratio of the two may be 1 and may be far from it, and how many runs instead of
/// `runs` would tell. A narrow interval around 1 is a result (they are equal), not a doubt.
fn cannot_tell(
    runs: u32,
    one: &ResultReport,
    other: &ResultReport,
    random: &mut ChaCha8Rng,
) -> Option<(Option<u32>, String)> {
    let ratio = stats::ratio(&other.values(), &one.values(), random)?;
    let width = ratio.interval.width() / ratio.value;
    if !ratio.interval.contains(1.0) || width <= TELLABLE {
        return None;
    }
    // An interval narrows with the square root of the number of runs.
    let enough = (f64::from(runs.max(1)) * (width / TELLABLE).powi(2) / 10.0).ceil() * 10.0;
    let runs_needed = (enough <= MOST_RUNS).then_some(enough as u32);
    let message = format!(
        "too noisy to tell {} from {}: their ratio is anything from {:.2} to {:.2}; {}",
        other.contender,
        one.contender,
        ratio.interval.low,
        ratio.interval.high,
        advice(runs_needed)
    );
    Some((runs_needed, message))
}

/// What to do about noise.
pub(super) fn advice(runs_needed: Option<u32>) -> String {
    match runs_needed {
        Some(runs) => format!("quiet the machine, or give --runs {runs}"),
        None => "quiet the machine: no number of runs makes up for this".to_owned(),
    }
}

#[cfg(test)]
mod tests;

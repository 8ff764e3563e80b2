//! A comparison as data. The terminal's table, the JSON file and the CSV file are renderings of it.
//!
//! `SCHEMA.md` beside this crate documents every field; a test holds the two together.

pub mod csv;
pub mod doubt;
pub mod json;
pub mod table;

use serde::{Deserialize, Serialize};

use crate::host::HostLabel;
use crate::stats::{Ratio, Summary};
use crate::workload::Better;

pub use doubt::Warning;

/// Goes up when a field changes its meaning or goes away; new fields leave it.
pub const SCHEMA_VERSION: u32 = 1;

/// All that came of one `compare`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// When it began: seconds since 1970, UTC.
    pub started_unix_s: u64,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
    /// What decided the order of runs and the resampling.
    pub seed: u64,
    /// Rounds that were completed; a warm-up round came before them and is left out everywhere.
    pub runs: u32,
    /// Whether somebody stopped it before all rounds were done.
    pub interrupted: bool,
    /// Whether time was up before all rounds were done.
    pub out_of_time: bool,
    /// Where it was measured.
    pub host: HostLabel,
    /// Who took part, in the order of a table's columns.
    pub contenders: Vec<ContenderReport>,
    /// What was measured, in the order of a table's rows.
    pub workloads: Vec<WorkloadReport>,
    /// What a reader should know before quoting a figure.
    pub warnings: Vec<Warning>,
}

/// A way to run things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContenderReport {
    /// Its name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// The contender that this is the floor of, if it is one.
    pub floor_of: Option<String>,
    /// Why this host cannot run it, if it cannot.
    pub unavailable: Option<String>,
}

/// Something that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadReport {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub about: String,
    /// Its figures.
    pub metrics: Vec<MetricReport>,
    /// Available contenders that cannot run it.
    pub not_run: Vec<NotRun>,
    /// Runs that gave no figures.
    pub failures: Vec<Failure>,
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// Its name.
    pub name: String,
    /// The heading of its row in a table.
    pub title: String,
    /// The unit of all values.
    pub unit: String,
    /// Which direction is better.
    pub better: Better,
    /// A result for each contender that gave at least one sample.
    pub results: Vec<ResultReport>,
}

/// A contender's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultReport {
    /// The contender's name.
    pub contender: String,
    /// Every figure, in the order of rounds.
    pub samples: Vec<Sample>,
    /// What they come to.
    pub summary: Summary,
    /// How they compare with others.
    pub ratios: Vec<RatioReport>,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The round that it is from, counted from 1.
    pub round: u32,
    /// The figure, in the metric's unit.
    pub value: f64,
}

/// A result divided by another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioReport {
    /// The other one's contender.
    pub to_contender: String,
    /// The other one's workload: another than this result's only for a twin.
    pub to_workload: String,
    /// The ratio of the medians.
    #[serde(flatten)]
    pub ratio: Ratio,
}

/// A workload that a contender does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// The contender's name.
    pub contender: String,
    /// Why.
    pub reason: String,
}

/// A run that gave no figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The contender's name.
    pub contender: String,
    /// The round; 0 is the warm-up.
    pub round: u32,
    /// Why.
    pub reason: String,
}

impl Report {
    /// The result of `contender` in a metric of a workload, if there is one.
    pub fn result(&self, workload: &str, metric: &str, contender: &str) -> Option<&ResultReport> {
        let workload = self
            .workloads
            .iter()
            .find(|report| report.name == workload)?;
        let metric = workload
            .metrics
            .iter()
            .find(|report| report.name == metric)?;
        metric.result(contender)
    }

    /// Whether nothing at all was measured.
    pub fn is_empty(&self) -> bool {
        let mut metrics = self.workloads.iter().flat_map(|workload| &workload.metrics);
        metrics.all(|metric| metric.results.is_empty())
    }

    /// Whether a run of a contender that this host can run gave no figures.
    pub fn has_failures(&self) -> bool {
        self.workloads
            .iter()
            .any(|workload| !workload.failures.is_empty())
    }
}

impl MetricReport {
    /// The result of `contender`, if there is one.
    pub fn result(&self, contender: &str) -> Option<&ResultReport> {
        self.results
            .iter()
            .find(|result| result.contender == contender)
    }
}

impl ResultReport {
    /// The values of all samples.
    pub fn values(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.value).collect()
    }
}

#[cfg(test)]
mod tests;

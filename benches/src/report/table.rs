//! The report for people: a table that reads from the back row, and below it what one must know.

use std::fmt::Write;

use comfy_table::presets::{ASCII_HORIZONTAL_ONLY, UTF8_HORIZONTAL_ONLY};
use comfy_table::{Attribute, Cell, ContentArrangement, Table};

use super::doubt::{self, Kind, Warning};
use super::{ContenderReport, MetricReport, RatioReport, Report, ResultReport, WorkloadReport};
use crate::contender::BASELINE;
use crate::stats::Interval;
use crate::workload::Better;

/// Where the table goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// To a terminal: with lines and bold headings, and no wider than it is if that can be had.
    Terminal,
    /// To a file or a pipe: no escape sequences, lines as long as they are.
    Plain,
}

/// The label, the table, the notes.
pub fn render(report: &Report, look: Look) -> String {
    let mut text = format!("{}\n\n", report.host);
    let reasons = report.workloads.iter().any(|of| !of.not_run.is_empty());
    if report.is_empty() {
        text.push_str("nothing was measured\n");
    }
    if reasons || !report.is_empty() {
        // Lines end where their text ends.
        for line in table(report, look).lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text.push('\n');
    notes(report, &mut text);
    text
}

/// Where an interval stands: beside its figure, or beneath it to save width.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intervals {
    Beside,
    Beneath,
}

fn table(report: &Report, look: Look) -> Table {
    let wide = arranged(report, look, Intervals::Beside);
    // Of the line above the headings, for those are bold, which takes characters but no columns.
    let width = wide.lines().next().map(|line| line.chars().count());
    // Asked of the terminal; some claim to be no columns wide.
    let room = match look {
        Look::Terminal => wide.width().filter(|&columns| columns > 0),
        Look::Plain => None,
    };
    match (width, room) {
        (Some(width), Some(room)) if width > usize::from(room) => {
            arranged(report, look, Intervals::Beneath)
        }
        _ => wide,
    }
}

fn arranged(report: &Report, look: Look, intervals: Intervals) -> Table {
    let is_column = |contender: &&ContenderReport| !is_beneath_another(report, contender);
    let columns: Vec<&ContenderReport> = report.contenders.iter().filter(is_column).collect();
    let mut table = Table::new();
    match look {
        Look::Terminal => table.load_style(UTF8_HORIZONTAL_ONLY),
        Look::Plain => table.load_style(ASCII_HORIZONTAL_ONLY).force_no_tty(),
    };
    table.set_content_arrangement(ContentArrangement::Disabled);
    let heading = |text: &str| Cell::new(text).add_attribute(Attribute::Bold);
    let mut header = vec![heading("")];
    header.extend(columns.iter().map(|contender| heading(&contender.name)));
    table.set_header(header);
    for workload in &report.workloads {
        for metric in &workload.metrics {
            // Reasons stand in the first row.
            let has_reasons =
                metric.name == workload.metrics[0].name && !workload.not_run.is_empty();
            if metric.results.is_empty() && !has_reasons {
                continue;
            }
            let mut row = vec![Cell::new(row_heading(metric))];
            for contender in &columns {
                let text = cell(report, workload, metric, &contender.name, intervals);
                row.push(Cell::new(text));
            }
            table.add_row(row);
        }
    }
    table
}

/// A floor is shown beneath what it is the floor of, if that is there.
fn is_beneath_another(report: &Report, floor: &ContenderReport) -> bool {
    let mut contenders = report.contenders.iter();
    contenders.any(|contender| Some(&contender.name) == floor.floor_of.as_ref())
}

fn row_heading(metric: &MetricReport) -> String {
    let better = match metric.better {
        Better::Higher => "more",
        Better::Lower => "less",
    };
    format!("{}\n{}, {better} is better", metric.title, metric.unit)
}

/// A contender's result, how it compares, and its floor.
fn cell(
    report: &Report,
    workload: &WorkloadReport,
    metric: &MetricReport,
    contender: &str,
    intervals: Intervals,
) -> String {
    let mut lines = Vec::new();
    let mut add = |before: &str, (value, interval): (String, String), after: &str| match intervals {
        Intervals::Beside => lines.push(format!("{before}{value} {interval}{after}")),
        Intervals::Beneath => lines.extend([format!("{before}{value}{after}"), interval]),
    };
    let result = metric.result(contender);
    if let Some(result) = result {
        let (value, interval) = median(result);
        let value = format!("{value} ±{}", spread(result));
        add("", (value, interval), "");
        for ratio in &result.ratios {
            if ratio.to_workload != workload.name {
                add("", times(ratio), &format!(" {}", ratio.to_workload));
            } else if ratio.to_contender == BASELINE {
                add("", times(ratio), "");
            }
        }
    }
    let floored = |floor: &&ContenderReport| floor.floor_of.as_deref() == Some(contender);
    for floor in report.contenders.iter().filter(floored) {
        let Some(by_hand) = metric.result(&floor.name) else {
            continue;
        };
        add("by hand ", median(by_hand), "");
        let mut ratios = result.iter().flat_map(|result| &result.ratios);
        if let Some(ratio) = ratios.find(|ratio| ratio.to_contender == floor.name) {
            add("", times(ratio), " by hand");
        }
    }
    let refusal = workload
        .not_run
        .iter()
        .find(|not| not.contender == contender);
    match refusal {
        _ if !lines.is_empty() => lines.join("\n"),
        Some(refusal) if metric.name == workload.metrics[0].name => wrapped(&refusal.reason),
        _ => "-".to_owned(),
    }
}

/// Columns of a cell's words.
const CELL: usize = 26;

/// A reason in lines as long as a figure is wide.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= CELL => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// A median and its interval.
fn median(result: &ResultReport) -> (String, String) {
    let summary = &result.summary;
    let decimals = decimals(summary.median);
    let value = number(summary.median, decimals);
    (value, interval(summary.interval, decimals))
}

/// How far figures are from their median, with as many decimals as that.
fn spread(result: &ResultReport) -> String {
    let summary = &result.summary;
    number(summary.deviation, decimals(summary.median))
}

/// A ratio and its interval.
fn times(ratio: &RatioReport) -> (String, String) {
    let decimals = decimals(ratio.ratio.value);
    let value = number(ratio.ratio.value, decimals) + "×";
    (value, interval(ratio.ratio.interval, decimals))
}

fn interval(ends: Interval, decimals: usize) -> String {
    let (low, high) = (number(ends.low, decimals), number(ends.high, decimals));
    format!("({low}–{high})")
}

/// As many decimals as make three significant digits, but no more than three.
fn decimals(value: f64) -> usize {
    match value.abs() {
        0.0 => 0,
        magnitude if magnitude < 1.0 => 3,
        magnitude if magnitude < 10.0 => 2,
        magnitude if magnitude < 100.0 => 1,
        _ => 0,
    }
}

/// With a comma between thousands.
fn number(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// What the figures are, what is missing and why, and what to beware of.
fn notes(report: &Report, text: &mut String) {
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    if report.interrupted {
        line("interrupted: this is what there was by then".to_owned());
    }
    if report.out_of_time {
        line(
            "time was up before all rounds were done; --runs N takes the time that it takes"
                .to_owned(),
        );
    }
    for contender in &report.contenders {
        if let Some(reason) = &contender.unavailable {
            line(format!(
                "{} cannot run on this host: {reason}",
                contender.name
            ));
        }
    }
    for workload in &report.workloads {
        for failure in &workload.failures {
            line(format!(
                "{} under {} failed in round {}: {}",
                workload.name, failure.contender, failure.round, failure.reason
            ));
        }
    }
    doubts(report).into_iter().for_each(&mut line);
    let mut about = String::new();
    // A string grows without errors.
    let _ = write!(
        about,
        "{} runs: median ± median absolute deviation (95 % confidence interval of the median); × is the ratio to {BASELINE}. Seed {}, {:.0} s.",
        report.runs, report.seed, report.elapsed_s
    );
    line(about);
}

/// The warnings, those of one kind together: on a noisy machine there is one for nearly every figure,
/// and the data has them all.
fn doubts(report: &Report) -> Vec<String> {
    let of_kind = |kind| {
        let warnings = report.warnings.iter();
        warnings.filter(move |warning: &&Warning| warning.kind == kind)
    };
    let mut lines: Vec<String> = of_kind(Kind::FewRuns)
        .map(|warning| format!("warning: {}", warning.message))
        .collect();

    // Who cannot be told from whom, and in which figures.
    let mut pairs: Vec<(&[String], Vec<&str>)> = Vec::new();
    for warning in of_kind(Kind::CannotTell) {
        let title = title(report, warning);
        match pairs
            .iter_mut()
            .find(|(pair, _)| *pair == warning.contenders)
        {
            Some((_, titles)) => titles.push(title),
            None => pairs.push((&warning.contenders, vec![title])),
        }
    }
    if !pairs.is_empty() {
        let pairs = pairs
            .iter()
            .map(|(pair, titles)| format!("{} in {}", pair.join(" and "), titles.join(", ")));
        let pairs: Vec<String> = pairs.collect();
        let needed = of_kind(Kind::CannotTell).map(|warning| warning.runs_needed);
        // One that no number of runs settles makes the greatest number pointless.
        let needed = needed
            .collect::<Option<Vec<u32>>>()
            .and_then(|runs| runs.into_iter().max());
        lines.push(format!(
            "warning: too noisy to tell apart: {}; {}",
            pairs.join("; "),
            doubt::advice(needed)
        ));
    }

    let wide = of_kind(Kind::WideSpread).map(|warning| {
        format!(
            "{} in {}",
            warning.contenders.join(", "),
            title(report, warning)
        )
    });
    let wide: Vec<String> = wide.collect();
    if !wide.is_empty() {
        lines.push(format!(
            "warning: widely spread figures: {}; see what else runs on this machine",
            wide.join("; ")
        ));
    }
    lines
}

/// The heading of the row that a warning is about.
fn title<'r>(report: &'r Report, warning: &Warning) -> &'r str {
    let workloads = report.workloads.iter();
    let metrics = workloads
        .filter(|workload| Some(&workload.name) == warning.workload.as_ref())
        .flat_map(|workload| &workload.metrics);
    let mut titles = metrics
        .filter(|metric| Some(&metric.name) == warning.metric.as_ref())
        .map(|metric| metric.title.as_str());
    titles.next().unwrap_or_default()
}

#[cfg(test)]
mod tests;

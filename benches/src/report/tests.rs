//! Reports for the renderers' tests, and the schema.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::*;
use crate::host::{CgroupLayout, GuestSpeed, KvmLabel};
use crate::stats;

/// `count` equal figures.
pub fn constant(value: f64, count: u32) -> Vec<f64> {
    (0..count).map(|_| value).collect()
}

/// A report of `start` with these figures, and with ratios to `native` and to floors.
pub fn report_of(figures: &[(&str, Vec<f64>)]) -> Report {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let contenders = figures.iter().map(|(name, _)| ContenderReport {
        name: (*name).to_owned(),
        about: format!("the contender {name}"),
        floor_of: name.strip_prefix("floor-").map(str::to_owned),
        unavailable: None,
    });
    let mut results = Vec::new();
    for (name, values) in figures.iter().filter(|(_, values)| !values.is_empty()) {
        let others = figures.iter().filter(|(other, _)| {
            (*other == "native" && *name != "native") || other.strip_prefix("floor-") == Some(name)
        });
        let ratios = others.filter_map(|(other, values_of_other)| {
            Some(RatioReport {
                to_contender: (*other).to_owned(),
                to_workload: "start".to_owned(),
                ratio: stats::ratio(values, values_of_other, &mut random)?,
            })
        });
        let ratios = ratios.collect();
        let samples = (1..)
            .zip(values)
            .map(|(round, &value)| Sample { round, value });
        results.push(ResultReport {
            contender: (*name).to_owned(),
            samples: samples.collect(),
            summary: stats::summarize(values, &mut random).unwrap(),
            ratios,
        });
    }
    Report {
        schema_version: SCHEMA_VERSION,
        started_unix_s: 1_700_000_000,
        elapsed_s: 12.5,
        seed: 7,
        runs: figures
            .iter()
            .map(|(_, values)| values.len())
            .max()
            .unwrap_or(20) as u32,
        interrupted: false,
        out_of_time: false,
        host: HostLabel {
            kernel: "Linux 6.1.0".to_owned(),
            cpu: "A CPU, \"quoted\"".to_owned(),
            cores: 2,
            kvm: KvmLabel::Software(GuestSpeed {
                ring0_instructions_per_second: 1e6,
                ring3_instructions_per_second: 2e9,
            }),
            cgroups: CgroupLayout::Hybrid,
            versions: BTreeMap::from([("ringside".to_owned(), "ringside 0.1.0".to_owned())]),
        },
        contenders: contenders.collect(),
        workloads: vec![WorkloadReport {
            name: "start".to_owned(),
            about: "the start".to_owned(),
            metrics: vec![MetricReport {
                name: "time".to_owned(),
                title: "start".to_owned(),
                unit: "ms".to_owned(),
                better: Better::Lower,
                results,
            }],
            not_run: Vec::new(),
            failures: Vec::new(),
        }],
        warnings: Vec::new(),
    }
}

/// A report in which every list has an entry.
fn full_report() -> Report {
    let mut report = report_of(&[
        ("native", constant(0.25, 3)),
        ("container", constant(3.0, 3)),
        ("floor-container", constant(2.0, 3)),
        ("vm", Vec::new()),
    ]);
    report.contenders[3].unavailable = Some("no KVM".to_owned());
    report.workloads[0].not_run.push(NotRun {
        contender: "vm".to_owned(),
        reason: "no Linux".to_owned(),
    });
    report.workloads[0].failures.push(Failure {
        contender: "native".to_owned(),
        round: 0,
        reason: "it broke".to_owned(),
    });
    report.warnings = doubt::warnings(&report);
    assert_eq!(report.warnings.len(), 1);
    report.warnings.push(Warning {
        kind: doubt::Kind::CannotTell,
        workload: Some("start".to_owned()),
        metric: Some("time".to_owned()),
        contenders: vec!["native".to_owned(), "vm".to_owned()],
        runs_needed: None,
        message: "too noisy".to_owned(),
    });
    report
}

const SCHEMA: &str = include_str!("../../SCHEMA.md");

/// The first two cells of every row of the tables in a section of SCHEMA.md.
fn documented(section: &str) -> BTreeMap<String, String> {
    let text = SCHEMA
        .split("\n## ")
        .find(|text| text.starts_with(section))
        .unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`');
        Some((name.to_owned(), cells.next()?.to_owned()))
    });
    rows.collect()
}

/// Every path in `value` with the types found there: `host.kvm.kind`, `contenders[].name`, …
fn collect_paths(path: &str, value: &Value, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(entries) => {
            for entry in entries {
                collect_paths(&format!("{path}[]"), entry, found);
            }
            "array"
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                // Under `versions` the names are the programs'.
                let name = if path == "host.versions" { "*" } else { name };
                let dot = if path.is_empty() { "" } else { "." };
                collect_paths(&format!("{path}{dot}{name}"), field, found);
            }
            "object"
        }
    };
    if kind != "object" && kind != "array" {
        found.entry(path.to_owned()).or_default().insert(kind);
    }
}

/// Fails unless the fields of `report` are documented, with these types; returns the paths.
pub fn assert_documented(report: &str) -> BTreeSet<String> {
    let documented = documented("JSON");
    let mut found = BTreeMap::new();
    collect_paths("", &serde_json::from_str(report).unwrap(), &mut found);
    for (path, kinds) in &found {
        let types = documented
            .get(path)
            .unwrap_or_else(|| panic!("{path} is not in SCHEMA.md"));
        for kind in kinds {
            assert!(
                types.split(", ").any(|t| t == *kind),
                "{path}: {kind} is not one of `{types}`"
            );
        }
    }
    found.into_keys().collect()
}

#[test]
fn the_schema_documents_every_json_field_and_no_other() {
    let mut found = assert_documented(&json::render(&full_report()).unwrap());
    let mut without_kvm = full_report();
    without_kvm.host.kvm = KvmLabel::None {
        reason: "no /dev/kvm".to_owned(),
    };
    found.extend(assert_documented(&json::render(&without_kvm).unwrap()));
    let documented: BTreeSet<String> = documented("JSON").into_keys().collect();
    assert_eq!(documented, found);
}

#[test]
fn json_can_be_read_back() {
    let report = full_report();
    let text = json::render(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert!(text.ends_with("}\n"));
}

#[test]
fn the_schema_documents_every_csv_column_in_order() {
    let text = SCHEMA.split("\n## CSV").nth(1).unwrap();
    let columns: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(columns, super::csv::COLUMNS);
}

#[test]
fn csv_has_a_row_for_each_sample_and_quotes_what_needs_it() {
    let text = super::csv::render(&full_report()).unwrap();
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap(), &super::csv::COLUMNS[..]);
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 9);
    let second = &rows[1];
    for (column, value) in [
        ("workload", "start"),
        ("contender", "native"),
        ("round", "2"),
        ("value", "0.25"),
        ("better", "lower"),
        ("kvm", "software"),
        ("cgroups", "hybrid"),
        ("cpu", "A CPU, \"quoted\""),
        ("versions", "ringside 0.1.0"),
    ] {
        assert_eq!(second[column], value, "{column}");
    }
}

#[test]
fn a_csv_of_nothing_still_has_its_header() {
    let text = super::csv::render(&report_of(&[])).unwrap();
    assert_eq!(text.trim_end(), super::csv::COLUMNS.join(","));
}

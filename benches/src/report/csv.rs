//! The report for spreadsheets and data frames: one row for each sample, and with each row all that
//! it takes to compare it with a row from elsewhere.

use super::Report;
use crate::host::KvmLabel;
use crate::workload::Better;

/// The columns, documented in `SCHEMA.md`.
pub const COLUMNS: [&str; 15] = [
    "workload",
    "metric",
    "unit",
    "better",
    "contender",
    "round",
    "value",
    "seed",
    "started_unix_s",
    "kvm",
    "cgroups",
    "kernel",
    "cpu",
    "cores",
    "versions",
];

/// The report's samples as CSV (RFC 4180, but with plain line feeds), header first.
///
/// # Errors
///
/// None that writing to memory could cause.
pub fn render(report: &Report) -> Result<String, csv::Error> {
    let host = &report.host;
    let versions: Vec<&str> = host.versions.values().map(String::as_str).collect();
    let of_every_row = [
        report.seed.to_string(),
        report.started_unix_s.to_string(),
        kvm(&host.kvm).to_owned(),
        host.cgroups.name().to_owned(),
        host.kernel.clone(),
        host.cpu.clone(),
        host.cores.to_string(),
        versions.join("; "),
    ];
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for workload in &report.workloads {
        for metric in &workload.metrics {
            let better = match metric.better {
                Better::Higher => "higher",
                Better::Lower => "lower",
            };
            for result in &metric.results {
                for sample in &result.samples {
                    let of_this_row = [
                        &workload.name,
                        &metric.name,
                        &metric.unit,
                        better,
                        &result.contender,
                        &sample.round.to_string(),
                        &sample.value.to_string(),
                    ];
                    let rest = of_every_row.iter().map(String::as_str);
                    writer.write_record(of_this_row.into_iter().chain(rest))?;
                }
            }
        }
    }
    let bytes = writer
        .into_inner()
        .map_err(csv::IntoInnerError::into_error)?;
    // The writer was given text only.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The label's first word, as the JSON report has it.
fn kvm(label: &KvmLabel) -> &'static str {
    match label {
        KvmLabel::Hardware(_) => "hardware",
        KvmLabel::Software(_) => "software",
        KvmLabel::Uncalibrated => "uncalibrated",
        KvmLabel::None { .. } => "none",
    }
}

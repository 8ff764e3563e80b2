//! The report for programs: one JSON object, documented in `SCHEMA.md`.

use super::Report;

/// The report as JSON, with line breaks for people and one at the end.
///
/// # Errors
///
/// None that a report of finite numbers could cause.
pub fn render(report: &Report) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

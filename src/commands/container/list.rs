//! `ringside container list` and `ps`.

use super::super::output::print;
use super::super::vm::style;
use super::super::{ExitCode, Failure};
use super::paint;
use ringside_container::runtime::state::Status;
use ringside_container::runtime::status;
use std::fmt::Write as _;
use std::path::Path;

/// All containers, aligned or in JSON.
pub fn containers(root: &Path, json: bool) -> Result<ExitCode, Failure> {
    let all = status::list(root)?;
    if json {
        let value: Vec<_> = all
            .iter()
            .map(|it| {
                serde_json::json!({
                    "name": it.record.id,
                    "status": it.status.name(),
                    "pid": (it.status != Status::Stopped).then_some(it.record.pid),
                    "bundle": it.record.bundle,
                    "created": it.record.created,
                })
            })
            .collect();
        print(format_args!("{:#}\n", serde_json::Value::from(value)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let names = all.iter().map(|it| it.record.id.len());
    let width = names.max().unwrap_or(0).max("NAME".len());
    let head = style::HEADING;
    let mut table = format!(
        "{head}{:width$}  {:<8}  {:>7}  {:<20}  BUNDLE{head:#}\n",
        "NAME", "STATUS", "PID", "CREATED"
    );
    for it in &all {
        let pid = match it.status {
            Status::Stopped => "-".to_owned(),
            _ => it.record.pid.to_string(),
        };
        let created = it.record.created.split('.').next().unwrap_or_default();
        let painted = paint(it.status);
        let _ = writeln!(
            table,
            "{:width$}  {painted}{:<8}{painted:#}  {pid:>7}  {created:<20}  {}",
            it.record.id,
            it.status.name(),
            it.record.bundle.display()
        );
    }
    print(table)?;
    Ok(ExitCode::SUCCESS)
}

/// The processes of one: as this machine numbers them, and as the container does.
pub fn processes(root: &Path, name: &str) -> Result<ExitCode, Failure> {
    let head = style::HEADING;
    let mut table = format!(
        "{head}{:>7}  {:>7}  {:<5}  COMMAND{head:#}\n",
        "PID", "INSIDE", "STATE"
    );
    for pid in status::processes(root, name)? {
        // One that has ended meanwhile is left out.
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = text
                .lines()
                .find_map(|it| it.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let command = match command.trim() {
            "" => format!("[{}]", field("Name")),
            it => it.escape_debug().to_string(),
        };
        let _ = writeln!(
            table,
            "{pid:>7}  {:>7}  {:<5}  {command}",
            field("NSpid").split_whitespace().last().unwrap_or("-"),
            field("State").split(' ').next().unwrap_or("?"),
        );
    }
    print(table)?;
    Ok(ExitCode::SUCCESS)
}

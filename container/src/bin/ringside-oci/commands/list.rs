//! What `state` and `list` print.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use ringside_container::runtime::{self, status, user_name};

use super::Error;
use crate::arguments::Parsed;

/// What `state` and `list` print, in the order in which callers expect it.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: String,
}

impl<'a> State<'a> {
    pub fn of(container: &'a status::Container) -> Self {
        let record = &container.record;
        let is_gone = container.status == runtime::state::Status::Stopped;
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: if is_gone { 0 } else { record.pid },
            status: container.status.name(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: owner(record.owner),
        }
    }
}

/// The name of who made a container, or the number of who has none.
fn owner(uid: u32) -> String {
    match uid {
        0 => "root".to_owned(),
        _ => user_name(uid).unwrap_or_else(|| format!("#{uid}")),
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Output(error.into()))
}

pub fn list(root: &Path, parsed: &Parsed) -> Result<(), Error> {
    let all = status::list(root)?;
    let mut out = std::io::stdout().lock();
    if parsed.has("quiet") {
        return Ok(all
            .iter()
            .try_for_each(|it| writeln!(out, "{}", it.record.id))?);
    }
    match parsed.value("format").unwrap_or("table") {
        "table" => {}
        "json" => {
            let all: Vec<State<'_>> = all.iter().map(State::of).collect();
            return Ok(writeln!(out, "{}", to_json(&all)?)?);
        }
        other => return Err(format!("invalid format {other:?}: give table or json").into()),
    }
    let width = all
        .iter()
        .map(|it| it.record.id.len())
        .max()
        .unwrap_or(0)
        .max(11);
    writeln!(
        out,
        "{:width$} {:<11} {:<11} {:<19} {:<30} OWNER",
        "ID", "PID", "STATUS", "BUNDLE", "CREATED"
    )?;
    for it in &all {
        let pid = if it.status == runtime::state::Status::Stopped {
            0
        } else {
            it.record.pid
        };
        writeln!(
            out,
            "{:width$} {pid:<11} {:<11} {:<19} {:<30} {}",
            it.record.id,
            it.status.name(),
            it.record.bundle.display(),
            it.record.created,
            owner(it.record.owner)
        )?;
    }
    Ok(())
}

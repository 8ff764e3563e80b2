//! `events`: figures and what happens, a line each.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use ringside_container::runtime::events::{self, Event};
use ringside_container::runtime::status;

use super::Error;
use crate::arguments::Parsed;

/// A line now with `--stats`; else one every `--interval` and at every event, until the container ends.
pub fn events(root: &Path, id: &str, parsed: &Parsed) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    if parsed.has("stats") {
        let event = Event::Stats(Box::new(status::stats(root, id)?));
        return Ok(writeln!(out, "{}", event.line(id))?);
    }
    let interval = match parsed.value("interval") {
        None => Duration::from_secs(5),
        Some(text) => duration(text).ok_or_else(|| {
            format!("invalid value {text:?} for flag -interval: give a time such as 5s or 500ms")
        })?,
    };
    // Whoever reads them may have had enough.
    let observe = &mut |event: Event| writeln!(out, "{}", event.line(id)).is_ok();
    Ok(events::watch(root, id, interval, observe)?)
}

/// A time as Go writes it, in one unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let time = Duration::try_from_secs_f64(number * unit).ok()?;
    (!time.is_zero()).then_some(time)
}

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

/// A time as Go writes it, such as `1m30s` or `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let unit = &rest[digits..];
        let length = unit
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(unit.len());
        let scale = match &unit[..length] {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += rest[..digits].parse::<f64>().ok()? * scale;
        rest = &unit[length..];
    }
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_go_writes_them() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("1m30s", 90_000),
        ] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(duration(text), Some(time), "{text}");
        }
        for text in ["", "0s", "5", "s", "5x", "-5s", "1m30", "NaNs", "infs"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}

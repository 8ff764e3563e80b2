//! What a container has used: its share, its walls, and how often it ran into them.

use super::super::vm::style;
use ringside_container::cgroup::{Limit, Stats};
use std::fmt::Write as _;

fn seconds(us: u64) -> String {
    format!("{:.3} s", us as f64 / 1e6)
}

/// Bytes in the largest unit that leaves a number before the point.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// "of the limit", where there is one.
fn of(limit: Option<Limit>, show: impl Fn(u64) -> String) -> String {
    let bounded = limit.and_then(Limit::bounded);
    // Version 1 writes no limit as the largest number of pages.
    let bounded = bounded.filter(|it| *it < 1 << 60);
    bounded.map_or(String::new(), |it| format!(" of {}", show(it)))
}

/// What is said about each controller, and whether it is worth a look.
fn rows(stats: &Stats) -> Vec<(&'static str, String, bool)> {
    let mut rows = Vec::new();
    if let Some(cpu) = &stats.cpu {
        let mut text = Vec::new();
        if let Some(usage) = &cpu.usage {
            text.push(format!(
                "{} used ({} user, {} system)",
                seconds(usage.total_us),
                seconds(usage.user_us),
                seconds(usage.system_us)
            ));
        }
        let throttling = cpu.throttling.as_ref().filter(|it| it.periods > 0);
        if let Some(it) = throttling {
            text.push(format!(
                "throttled in {} of {} periods, for {}",
                it.throttled_periods,
                it.periods,
                seconds(it.throttled_us)
            ));
        }
        let is_notable = throttling.is_some_and(|it| it.throttled_periods > 0);
        rows.push(("cpu", text.join("; "), is_notable));
    }
    if let Some(memory) = &stats.memory {
        let peak = memory.peak_bytes.unwrap_or(memory.usage_bytes);
        let word = if memory.peak_bytes.is_some() {
            "peak"
        } else {
            "now"
        };
        let mut text = format!("{word} {}{}", size(peak), of(memory.limit, size));
        if memory.limit_hits > 0 {
            let _ = write!(text, "; the limit was reached {} times", memory.limit_hits);
        }
        if memory.oom_kills > 0 {
            let _ = write!(text, "; {} killed for lack of memory", memory.oom_kills);
        }
        let is_notable = memory.limit_hits + memory.oom_kills > 0;
        rows.push(("memory", text, is_notable));
    }
    if let Some(pids) = &stats.pids {
        let most = pids.peak.map_or(String::new(), |it| format!("peak {it}, "));
        let mut text = format!(
            "{most}now {}{}",
            pids.current,
            of(Some(pids.limit), |it| it.to_string())
        );
        if pids.refused > 0 {
            let _ = write!(text, "; {} refused", pids.refused);
        }
        rows.push(("pids", text, pids.refused > 0));
    }
    rows
}

/// A line for each controller.
pub fn report(stats: &Stats) -> String {
    let mut report = String::new();
    for (name, text, is_notable) in rows(stats) {
        let style = if is_notable { style::NOTE } else { style::DIM };
        let _ = writeln!(report, "{style}{name:<7} {text}{style:#}");
    }
    report
}

/// All in one line.
pub fn line(stats: &Stats) -> String {
    let all: Vec<String> = rows(stats)
        .into_iter()
        .map(|(name, text, _)| format!("{name}: {text}"))
        .collect();
    all.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringside_container::cgroup::{MemoryStats, PidsStats};

    #[test]
    fn sizes_have_the_unit_that_people_would_choose() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(64 << 20), "64.0 MiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn a_limit_that_was_reached_is_told() {
        let stats = Stats {
            memory: Some(MemoryStats {
                peak_bytes: Some(64 << 20),
                limit: Some(Limit::At(64 << 20)),
                limit_hits: 3,
                oom_kills: 1,
                ..MemoryStats::default()
            }),
            pids: Some(PidsStats {
                current: 0,
                peak: None,
                limit: Limit::Max,
                refused: 0,
            }),
            ..Stats::default()
        };
        assert_eq!(
            line(&stats),
            "memory: peak 64.0 MiB of 64.0 MiB; the limit was reached 3 times; 1 killed for lack of memory | pids: now 0"
        );
    }
}

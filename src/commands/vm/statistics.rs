//! A guest's exits as a table, for people and for machines.

use super::style::{CODE, HEADING};
use ringside_vmm::trap::Statistics;
use serde_json::{Value, json};
use std::fmt::Write;

/// A row for each kind of exit, and where the time went.
pub fn table(statistics: &Statistics) -> String {
    let mut text = format!(
        "{HEADING}{:<16} {:>10} {:>12} {:>12} {:>12}{HEADING:#}\n",
        "exit", "count", "median ns", "p99 ns", "max ns"
    );
    // Writing to a string cannot fail.
    for row in statistics.summaries() {
        let name = row.reason.name();
        let _ = writeln!(
            text,
            "{name:<16} {:>10} {:>12} {:>12} {:>12}",
            row.count, row.median_ns, row.p99_ns, row.max_ns
        );
    }
    let _ = writeln!(
        text,
        "{}; in KVM and the guest {:.3} ms, in the VMM {:.3} ms",
        exits(statistics.total()),
        statistics.in_kvm().as_secs_f64() * 1e3,
        statistics.in_vmm().as_secs_f64() * 1e3
    );
    text
}

/// So many exits, in words.
pub fn exits(count: u64) -> String {
    match count {
        1 => "1 exit".to_owned(),
        count => format!("{count} exits"),
    }
}

/// The handling times of each kind of exit, as bars.
pub fn bars(statistics: &Statistics) -> String {
    const WIDEST: u64 = 50;
    let mut text = String::new();
    for row in statistics.summaries() {
        let bars = statistics.distribution(row.reason);
        let most = bars.iter().map(|bar| bar.1).max().unwrap_or(1).max(1);
        let name = row.reason.name();
        let _ = writeln!(text, "\n{HEADING}{name}: time in the VMM{HEADING:#}");
        for (up_to_ns, count) in bars {
            // What occurred at all shows.
            let width = (count * WIDEST).div_ceil(most) as usize;
            let _ = writeln!(
                text,
                "  ≤ {up_to_ns:>11} ns {count:>10} {CODE}{}{CODE:#}",
                "█".repeat(width)
            );
        }
    }
    text
}

/// The same as JSON: counts, and times in nanoseconds.
pub fn json(statistics: &Statistics) -> Value {
    let exits: Vec<Value> = statistics
        .summaries()
        .iter()
        .map(|row| {
            let bars = statistics.distribution(row.reason);
            let bars: Vec<Value> = bars
                .iter()
                .map(|(up_to_ns, count)| json!({"up_to_ns": up_to_ns, "count": count}))
                .collect();
            json!({
                "reason": row.reason.name(),
                "count": row.count,
                "median_ns": row.median_ns,
                "p99_ns": row.p99_ns,
                "max_ns": row.max_ns,
                "distribution": bars,
            })
        })
        .collect();
    json!({
        "total": statistics.total(),
        "in_kvm_ns": statistics.in_kvm().as_nanos() as u64,
        "in_vmm_ns": statistics.in_vmm().as_nanos() as u64,
        "exits": exits,
    })
}

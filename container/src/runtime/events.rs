//! `events`: what a container uses, now and again, and that it ran out of memory, as soon as it does.
//!
//! One thread waits for both: the next report is due at a time, until which the kernel may tell of memory
//! (see [`OomEvents`](crate::cgroup::OomEvents)).

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::state::Status;
use super::{Error, status};
use crate::cgroup::{self, Limit, OomEvent, Stats};

/// What `events` tells.
#[derive(Debug)]
pub enum Event {
    /// What the container has used so far.
    Stats(Box<Stats>),
    /// It ran out of memory.
    OutOfMemory,
}

/// In the order in which callers expect it.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl Event {
    /// One line of `events`, as runc writes it, fields in its order.
    pub fn line(&self, id: &str) -> String {
        let (kind, data) = match self {
            Self::Stats(stats) => ("stats", Some(stats_json(stats))),
            Self::OutOfMemory => ("oom", None),
        };
        serde_json::to_string(&Line { kind, id, data }).unwrap_or_default()
    }
}

/// Tells `observe` of the container every `interval`, and whenever it runs out of memory, until it has
/// ended or `observe` gives false.
///
/// # Errors
/// [`Error::NotRunning`], or a cgroup that cannot be read.
pub fn watch(
    root: &Path,
    id: &str,
    interval: Duration,
    observe: &mut dyn FnMut(Event) -> bool,
) -> Result<(), Error> {
    let container = status::state(root, id)?;
    if container.status == Status::Stopped {
        return Err(Error::NotRunning);
    }
    let group = status::own_group(&container.record, "tell what it uses")?;
    // Without the controller there is nothing to hear of, and the reports are all.
    let mut memory = group.oom_events().ok();
    let mut due = Instant::now() + interval;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let heard = match &mut memory {
            Some(memory) => memory.wait(Some(left))?,
            None => {
                sleep(left);
                OomEvent::Nothing
            }
        };
        let event = match heard {
            OomEvent::Ended => return Ok(()),
            OomEvent::OutOfMemory => Event::OutOfMemory,
            OomEvent::Nothing if Instant::now() < due => continue,
            OomEvent::Nothing => {
                if container.record.init().is_none() {
                    return Ok(());
                }
                due += interval;
                match group.stats() {
                    Ok(stats) => Event::Stats(Box::new(stats)),
                    // It was deleted in this moment.
                    Err(error) if is_gone(&error) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        if !observe(event) {
            return Ok(());
        }
    }
}

fn is_gone(error: &cgroup::Error) -> bool {
    use nix::errno::Errno;
    matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV))
}

fn stats_json(stats: &Stats) -> Value {
    let limit = |limit: Option<Limit>| limit.map(|it| it.bounded().unwrap_or(u64::MAX));
    let ns = |us: u64| us * 1000;
    let mut data = json!({});
    if let Some(cpu) = &stats.cpu {
        let usage = cpu.usage.as_ref().map(|it| {
            let each: Vec<u64> = it.per_cpu_us.iter().copied().map(ns).collect();
            json!({
                "total": ns(it.total_us),
                "percpu": each,
                "kernel": ns(it.system_us),
                "user": ns(it.user_us),
            })
        });
        let throttling = cpu.throttling.as_ref().map(|it| {
            json!({
                "periods": it.periods,
                "throttledPeriods": it.throttled_periods,
                "throttledTime": ns(it.throttled_us),
            })
        });
        data["cpu"] = json!({"usage": usage.unwrap_or(json!({})), "throttling": throttling.unwrap_or(json!({}))});
    }
    if let Some(memory) = &stats.memory {
        data["memory"] = json!({
            "cache": memory.file_bytes,
            "usage": {
                "limit": limit(memory.limit).unwrap_or(u64::MAX),
                "usage": memory.usage_bytes,
                "max": memory.peak_bytes.unwrap_or(0),
                "failcnt": memory.limit_hits,
            },
            "swap": {
                "limit": limit(memory.swap_limit).unwrap_or(0),
                "usage": memory.swap_bytes.unwrap_or(0),
                "failcnt": 0,
            },
            "kernel": {"usage": memory.kernel_bytes.unwrap_or(0), "failcnt": 0},
            "kernelTCP": {"failcnt": 0},
            "raw": memory.raw,
        });
    }
    if let Some(pids) = &stats.pids {
        // No limit is 0 there.
        data["pids"] = json!({"current": pids.current, "limit": pids.limit.bounded().unwrap_or(0)});
    }
    if let Some(io) = &stats.io {
        let entries = |of: fn(&cgroup::IoStats) -> [(&'static str, u64); 3]| -> Vec<Value> {
            let each = io.iter().flat_map(|(device, it)| {
                of(it).map(|(op, value)| {
                    json!({"major": device.major, "minor": device.minor, "op": op, "value": value})
                })
            });
            each.collect()
        };
        data["blkio"] = json!({
            "ioServiceBytesRecursive": entries(|it| [("Read", it.read_bytes), ("Write", it.write_bytes), ("Discard", it.discard_bytes)]),
            "ioServicedRecursive": entries(|it| [("Read", it.reads), ("Write", it.writes), ("Discard", it.discards)]),
        });
    }
    if let Some(hugetlb) = &stats.hugetlb {
        let sizes = hugetlb.iter().map(|(size, it)| {
            let it = json!({"usage": it.usage_bytes, "max": it.peak_bytes.unwrap_or(0), "failcnt": it.limit_hits});
            (size.clone(), it)
        });
        data["hugetlb"] = sizes.collect();
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::PidsStats;

    #[test]
    fn what_the_group_did_not_join_is_left_out() {
        let pids = PidsStats {
            current: 3,
            peak: None,
            limit: Limit::Max,
            refused: 0,
        };
        let stats = Stats {
            pids: Some(pids),
            ..Stats::default()
        };
        assert_eq!(
            Event::Stats(Box::new(stats)).line("c"),
            r#"{"type":"stats","id":"c","data":{"pids":{"current":3,"limit":0}}}"#
        );
        assert_eq!(Event::OutOfMemory.line("c"), r#"{"type":"oom","id":"c"}"#);
    }
}

//! `update`: limits from a file, from standard input and from options.

use std::path::Path;

use ringside_container::runtime::{self, status};
use ringside_container::spec::{BlockIo, Memory, Pids, Resources};

use super::{Error, id};
use crate::arguments::{Known, Parsed, parse};

/// Changes what a container may use: by a file of limits, and by options, which come last.
pub fn update(root: &Path, rest: &[String]) -> Result<(), Error> {
    let known: [Known; 19] = [
        ("resources", &["r"], true),
        ("blkio-weight", &[], true),
        ("cpu-period", &[], true),
        ("cpu-quota", &[], true),
        ("cpu-burst", &[], true),
        ("cpu-share", &[], true),
        ("cpu-rt-period", &[], true),
        ("cpu-rt-runtime", &[], true),
        ("cpuset-cpus", &[], true),
        ("cpuset-mems", &[], true),
        ("kernel-memory", &[], true),
        ("memory", &[], true),
        ("memory-reservation", &[], true),
        ("memory-swap", &[], true),
        ("pids-limit", &[], true),
        ("cpu-idle", &[], true),
        ("kernel-memory-tcp", &[], true),
        ("l3-cache-schema", &[], true),
        ("mem-bw-schema", &[], true),
    ];
    let (parsed, _) = parse(rest, &known, usize::MAX)?;
    let id = id(&parsed)?;
    for name in ["l3-cache-schema", "mem-bw-schema"] {
        if parsed.value(name).is_some_and(|it| !it.is_empty()) {
            return Err(format!("--{name}: cache allocation is not supported").into());
        }
    }
    let mut resources = match parsed.value("resources") {
        Some("-") => {
            let text = std::io::read_to_string(std::io::stdin())?;
            read("standard input", text.as_bytes())?
        }
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|source| runtime::Error::File {
                path: path.into(),
                source,
            })?;
            read(path, &bytes)?
        }
        None => Resources::default(),
    };
    let mut cpu = resources.cpu.take().unwrap_or_default();
    cpu.period = parsed.number("cpu-period")?.or(cpu.period);
    cpu.quota = parsed.number("cpu-quota")?.or(cpu.quota);
    cpu.burst = parsed.number("cpu-burst")?.or(cpu.burst);
    cpu.shares = parsed.number("cpu-share")?.or(cpu.shares);
    cpu.realtime_period = parsed.number("cpu-rt-period")?.or(cpu.realtime_period);
    cpu.realtime_runtime = parsed.number("cpu-rt-runtime")?.or(cpu.realtime_runtime);
    cpu.idle = parsed.number("cpu-idle")?.or(cpu.idle);
    cpu.cpus = parsed.value("cpuset-cpus").map_or(cpu.cpus, str::to_owned);
    cpu.mems = parsed.value("cpuset-mems").map_or(cpu.mems, str::to_owned);
    resources.cpu = Some(cpu);
    let memory = resources.memory.take().unwrap_or_default();
    resources.memory = Some(Memory {
        limit: bytes(&parsed, "memory")?.or(memory.limit),
        reservation: bytes(&parsed, "memory-reservation")?.or(memory.reservation),
        swap: bytes(&parsed, "memory-swap")?.or(memory.swap),
        kernel: bytes(&parsed, "kernel-memory")?.or(memory.kernel),
        kernel_tcp: bytes(&parsed, "kernel-memory-tcp")?.or(memory.kernel_tcp),
        ..memory
    });
    if let Some(weight) = parsed.number("blkio-weight")? {
        let io = resources.block_io.take().unwrap_or_default();
        resources.block_io = Some(BlockIo {
            weight: Some(weight),
            ..io
        });
    }
    if let Some(limit) = parsed.number::<i64>("pids-limit")? {
        // None at all is a limit, of which the kernel makes no difference to one (as runc has it since 1.4).
        let limit = if limit == 0 { 1 } else { limit };
        resources.pids = Some(Pids { limit: Some(limit) });
    }
    Ok(status::update(root, id, &resources)?)
}

/// Limits that a file holds.
fn read(path: &str, bytes: &[u8]) -> Result<Resources, runtime::Error> {
    Resources::parse(bytes).map_err(|source| runtime::Error::Given {
        path: path.into(),
        source,
    })
}

/// A number of bytes, with `k`, `m`, `g` or `t` for powers of 1024.
fn bytes(parsed: &Parsed, name: &str) -> Result<Option<i64>, Error> {
    let Some(text) = parsed.value(name) else {
        return Ok(None);
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(['b', 'i']);
    let (digits, shift) = match digits.as_bytes().last() {
        Some(b'k') => (&digits[..digits.len() - 1], 10),
        Some(b'm') => (&digits[..digits.len() - 1], 20),
        Some(b'g') => (&digits[..digits.len() - 1], 30),
        Some(b't') => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    let number = digits
        .parse::<i64>()
        .ok()
        .and_then(|it| it.checked_mul(1 << shift));
    number
        .map(Some)
        .ok_or_else(|| format!("invalid value {text:?} for flag -{name}: it is no size").into())
}

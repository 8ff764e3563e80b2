//! `CLOCK_MONOTONIC`, which every process and (by hypercall) every guest of a host agrees on.

use nix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds (man 2 clock_gettime).
///
/// # Panics
///
/// Never on Linux: the clock exists, and it fits 64 bits for 584 years of uptime.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    let part = |value: i64| u64::try_from(value).expect("the clock starts at zero");
    part(now.tv_sec()) * 1_000_000_000 + part(now.tv_nsec())
}

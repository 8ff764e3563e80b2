//! How often to do something so that it takes about as long as asked.

use core::ops::RangeInclusive;

use crate::Platform;

/// What `MILLISECONDS` may be: up to ten minutes.
pub const MILLISECONDS: RangeInclusive<u64> = 1..=600_000;

/// Nanoseconds in a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;

/// So many repetitions took so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Repetitions, at least 1.
    pub count: u64,
    /// Nanoseconds for all of them, at least 1.
    pub elapsed_ns: u64,
}

/// Calls `work(platform, count)`, which repeats something `count` times, with a count that takes
/// about `target_ns`, and times that call.
///
/// The count is found by growing it until a trial takes an eighth of the target; the trials warm
/// caches and predictors up on the way. Only two clock readings fall to a trial, so that a dear
/// clock does not count, and a machine ten times slower takes no longer.
pub fn repeat_for(
    platform: &mut dyn Platform,
    target_ns: u64,
    mut work: impl FnMut(&mut dyn Platform, u64),
) -> Measured {
    let mut timed = |platform: &mut dyn Platform, count| {
        let start = platform.now_ns();
        work(platform, count);
        // A clock that stands still or steps back must not become a division by zero.
        platform.now_ns().saturating_sub(start).max(1)
    };
    let mut count: u64 = 1;
    let mut elapsed_ns = timed(platform, count);
    while elapsed_ns < target_ns / 8 && count < 1 << 40 {
        count *= 4;
        elapsed_ns = timed(platform, count);
    }
    let scaled = u128::from(count) * u128::from(target_ns) / u128::from(elapsed_ns);
    let count = u64::try_from(scaled).unwrap_or(u64::MAX).max(1);
    Measured {
        count,
        elapsed_ns: timed(platform, count),
    }
}

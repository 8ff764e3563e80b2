//! `primes`: what sysbench's `cpu` test does (sysbench 1.0, `sb_cpu.c`, `cpu_execute_event`).
//!
//! An event finds the primes below a limit by trial division up to the square root. It is pure
//! computation: no memory, no system calls, nothing that a hypervisor would have to look at. So it
//! shows what the lecture says of full virtualization with hardware support: ring 3 runs natively.

use core::hint::black_box;

use crate::args::Args;
use crate::timing::{MILLISECONDS, NS_PER_MS, repeat_for};
use crate::{Error, Platform, Work, report};

const USAGE: &str = "primes [MILLISECONDS=50 [LIMIT=10000]]";

pub const WORK: Work = Work {
    name: "primes",
    usage: USAGE,
    summary: "sysbench's cpu test: finds the primes below LIMIT again and again; prints events_per_second",
    run,
};

fn run<'a>(args: &[&'a str], platform: &mut dyn Platform) -> Result<(), Error<'a>> {
    let mut args = Args::new(args);
    let duration_ms = args.number("MILLISECONDS", MILLISECONDS, 50)?;
    let limit = args.number("LIMIT", 3..=u64::from(u32::MAX), 10_000)?;
    args.end(USAGE)?;

    let measured = repeat_for(platform, duration_ms * NS_PER_MS, |_, count| {
        for _ in 0..count {
            black_box(event(black_box(limit)));
        }
    });
    report::ratio(
        platform,
        "events_per_second",
        u128::from(measured.count) * 1_000_000_000,
        u128::from(measured.elapsed_ns),
    );
    Ok(())
}

/// One event: how many of the numbers from 3 to `limit` (exclusive, up to 2^32) are primes.
///
/// sysbench's loop, made to compile to what its binary does, so that the two can be put side by side:
///
/// - Candidates are compared with the root in double precision, as there. The root itself is
///   followed in integers instead of taken with `sqrt`, which `core` lacks: for a whole `l`,
///   `l <= sqrt(c)` just if `l <= floor(sqrt(c))`.
/// - A division by two is a bit test, as GCC makes it.
/// - The other divisions are of 64 bits. LLVM would test whether both operands fit 32 bits and then
///   divide in half the time, so both are shifted out of its reach; the quotient and whether a
///   remainder is left stay the same.
#[inline(never)]
pub(crate) fn event(limit: u64) -> u64 {
    let mut primes = 0;
    let mut root = 1;
    for candidate in 3..limit {
        if (root + 1) * (root + 1) <= candidate {
            root += 1;
        }
        let last = root as f64;
        let mut divisor = 2_u64;
        while divisor as f64 <= last {
            let divides = if divisor == 2 {
                candidate & 1 == 0
            } else {
                (candidate << 32).is_multiple_of(divisor << 32)
            };
            if divides {
                break;
            }
            divisor += 1;
        }
        if divisor as f64 > last {
            primes += 1;
        }
    }
    primes
}

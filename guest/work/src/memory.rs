//! `memory`: sequential writes to and reads from a buffer that is larger than what a TLB spans.
//!
//! No access here leaves the guest: what a virtual machine pays is the second table to walk at each
//! TLB miss (nested paging), or nothing (shadow page tables).

use core::hint::black_box;

use crate::args::Args;
use crate::timing::{MILLISECONDS, Measured, NS_PER_MS, repeat_for};
use crate::{Error, Platform, Work, report};

const USAGE: &str = "memory [MILLISECONDS=40 [MIB=16]]";

pub const WORK: Work = Work {
    name: "memory",
    usage: USAGE,
    summary: "writes, then reads a buffer of MIB from end to end, half of the time each; prints write_mib_per_second, read_mib_per_second",
    run,
};

fn run<'a>(args: &[&'a str], platform: &mut dyn Platform) -> Result<(), Error<'a>> {
    let mut args = Args::new(args);
    let duration_ms = args.number("MILLISECONDS", MILLISECONDS, 40)?;
    let mib = args.number("MIB", 1..=1 << 20, 16)?;
    args.end(USAGE)?;

    let bytes = mib << 20;
    let buffer = usize::try_from(bytes)
        .ok()
        .and_then(|bytes| platform.buffer(bytes))
        .ok_or(Error::Memory { bytes })?;
    let each_ns = duration_ms * NS_PER_MS / 2;
    let written = repeat_for(platform, each_ns, |_, passes| {
        for pass in 0..passes {
            write_pass(buffer, pass);
            black_box(&mut *buffer);
        }
    });
    let read = repeat_for(platform, each_ns, |_, passes| {
        for _ in 0..passes {
            black_box(read_pass(black_box(buffer)));
        }
    });
    report_speed(platform, "write_mib_per_second", mib, written);
    report_speed(platform, "read_mib_per_second", mib, read);
    Ok(())
}

fn report_speed(platform: &mut dyn Platform, name: &str, mib: u64, passes: Measured) {
    report::ratio(
        platform,
        name,
        u128::from(mib) * u128::from(passes.count) * 1_000_000_000,
        u128::from(passes.elapsed_ns),
    );
}

/// Writes every word of the buffer once, in order.
#[inline(never)]
pub(crate) fn write_pass(buffer: &mut [u64], value: u64) {
    for word in buffer {
        *word = value;
    }
}

/// Reads every word of the buffer once, in order; returns their sum.
#[inline(never)]
pub(crate) fn read_pass(buffer: &[u64]) -> u64 {
    buffer
        .iter()
        .fold(0, |sum: u64, &word| sum.wrapping_add(word))
}

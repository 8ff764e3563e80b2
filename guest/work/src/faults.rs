//! `faults`: what the first touch of a page costs.
//!
//! To a process it is one page fault: the kernel finds a frame, clears it and maps it. In a virtual
//! machine it is two: the guest's own (virtual → guest-physical), and the host's beneath it
//! (guest-physical → host-physical).

use core::hint::black_box;

use crate::args::Args;
use crate::{Error, PAGE_BYTES, Platform, Work, report};

const USAGE: &str = "faults [PAGES=2048]";

pub const WORK: Work = Work {
    name: "faults",
    usage: USAGE,
    summary: "touches PAGES pages that nobody touched before; prints first_touch_ns",
    run,
};

fn run<'a>(args: &[&'a str], platform: &mut dyn Platform) -> Result<(), Error<'a>> {
    let mut args = Args::new(args);
    let count = args.number("PAGES", 1..=1 << 28, 2048)?;
    args.end(USAGE)?;

    let memory = usize::try_from(count)
        .ok()
        .and_then(|count| platform.untouched_pages(count))
        .ok_or(Error::Memory {
            bytes: count * PAGE_BYTES as u64,
        })?;
    let start = platform.now_ns();
    let touched = touch(memory);
    let elapsed_ns = platform.now_ns().saturating_sub(start);
    report::ratio(
        platform,
        "first_touch_ns",
        u128::from(elapsed_ns),
        u128::from(touched),
    );
    Ok(())
}

/// Writes one byte to each page; returns how many pages that were.
#[inline(never)]
pub(crate) fn touch(memory: &mut [u8]) -> u64 {
    let mut pages = 0;
    for page in memory.chunks_exact_mut(PAGE_BYTES) {
        page[0] = 1;
        // Each write is one that somebody might see, so that none is left out or put together.
        black_box(page);
        pages += 1;
    }
    pages
}

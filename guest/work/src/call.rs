//! `call`: the cheapest way down and back.
//!
//! A process crosses from ring 3 to the kernel; a guest that does the same stays in the guest. What
//! matches the process's system call is the hypercall: it leaves the guest, and is an exit.

use crate::args::Args;
use crate::timing::{MILLISECONDS, NS_PER_MS, repeat_for};
use crate::{Error, Platform, Work, report};

const USAGE: &str = "call [MILLISECONDS=30]";

pub const WORK: Work = Work {
    name: "call",
    usage: USAGE,
    summary: "makes null system calls (in a guest: null hypercalls); prints call_ns",
    run,
};

fn run<'a>(args: &[&'a str], platform: &mut dyn Platform) -> Result<(), Error<'a>> {
    let mut args = Args::new(args);
    let duration_ms = args.number("MILLISECONDS", MILLISECONDS, 30)?;
    args.end(USAGE)?;

    let measured = repeat_for(platform, duration_ms * NS_PER_MS, |platform, count| {
        for _ in 0..count {
            platform.null_call();
        }
    });
    report::ratio(
        platform,
        "call_ns",
        u128::from(measured.elapsed_ns),
        u128::from(measured.count),
    );
    Ok(())
}

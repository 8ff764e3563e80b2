//! `idle`: does nothing, so that what is left to measure is what surrounds it.

use crate::args::Args;
use crate::{Error, Platform, Work, report};

const USAGE: &str = "idle";

pub const WORK: Work = Work {
    name: "idle",
    usage: USAGE,
    summary: "prints ready 1.000, then waits for the end of its standard input",
    run,
};

fn run<'a>(args: &[&'a str], platform: &mut dyn Platform) -> Result<(), Error<'a>> {
    Args::new(args).end(USAGE)?;
    report::ratio(platform, "ready", 1, 1);
    platform.wait_for_end_of_input();
    Ok(())
}

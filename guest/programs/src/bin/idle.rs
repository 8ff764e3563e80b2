//! Waits for the end of its input, so that its memory can be looked at.
#![no_std]
#![no_main]

ringside_programs::entry!(main);

fn main(arguments: &[&str]) -> u8 {
    ringside_programs::work::run("idle", arguments)
}

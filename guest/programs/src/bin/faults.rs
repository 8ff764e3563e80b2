//! Touches pages for the first time: a fault at each level.
#![no_std]
#![no_main]

ringside_programs::entry!(main);

fn main(arguments: &[&str]) -> u8 {
    ringside_programs::work::run("faults", arguments)
}

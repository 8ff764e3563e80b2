//! Writes and reads memory from end to end.
#![no_std]
#![no_main]

ringside_programs::entry!(main);

fn main(arguments: &[&str]) -> u8 {
    ringside_programs::work::run("memory", arguments)
}

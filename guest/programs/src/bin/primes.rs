//! Counts primes by trial division, as sysbench's cpu test does.
#![no_std]
#![no_main]

ringside_programs::entry!(main);

fn main(arguments: &[&str]) -> u8 {
    ringside_programs::work::run("primes", arguments)
}

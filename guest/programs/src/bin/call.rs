//! Makes null hypercalls: the price of one exit.
#![no_std]
#![no_main]

ringside_programs::entry!(main);

fn main(arguments: &[&str]) -> u8 {
    ringside_programs::work::run("call", arguments)
}

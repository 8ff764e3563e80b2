//! The first guest: greets from ring 3, and says what it found.
#![no_std]
#![no_main]

use ringside_programs::{guest, println};

ringside_programs::entry!(main);

fn main(arguments: &[&str]) -> u8 {
    let info = guest::boot_info();
    println!(
        "Hello from ring 3 of a virtual machine with {} MiB of memory.",
        info.memory_bytes >> 20
    );
    for argument in arguments {
        println!("argument: {argument}");
    }
    0
}

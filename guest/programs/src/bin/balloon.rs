//! Fills memory, then gives it back and takes it again as the host asks, at each byte of input.
#![no_std]
#![no_main]

use core::cmp::Ordering;
use ringside_abi::{hypercall::Number, layout::PAGE};
use ringside_programs::{
    guest::{Guest, hypercall},
    println,
};
use ringside_work::Platform;

ringside_programs::entry!(main);

/// Words in a page.
const WORDS: usize = PAGE as usize / 8;

fn main(arguments: &[&str]) -> u8 {
    let mib: Option<usize> = arguments.first().unwrap_or(&"8").parse().ok();
    let bytes = mib.and_then(|mib| mib.checked_mul(1 << 20));
    let Some(memory) = bytes.and_then(|bytes| Guest::default().buffer(bytes)) else {
        println!("no room for so much memory; give fewer MiB, or the guest more");
        return 2;
    };
    for (number, page) in memory.chunks_mut(WORDS).enumerate() {
        page[0] = number as u64 + 1;
    }
    // The first `held` bytes are the host's.
    let mut held = 0;
    while wait() {
        loop {
            let asked = hypercall(Number::Balloon, [held as u64, 0, 0, 0]);
            let wanted = (asked as usize).min(memory.len() * 8) / PAGE as usize * PAGE as usize;
            match wanted.cmp(&held) {
                Ordering::Equal => break,
                Ordering::Greater => {
                    let start = memory.as_ptr() as u64 + held as u64;
                    let given = hypercall(Number::Release, [start, (wanted - held) as u64, 0, 0]);
                    if given != (wanted - held) as i64 {
                        println!("the host did not take the pages: {given}");
                        return 1;
                    }
                }
                Ordering::Less => {
                    for page in memory[wanted / 8..held / 8].chunks_mut(WORDS) {
                        // SAFETY: a valid reference; volatile, for the compiler saw no one write
                        // the zero that is there.
                        if unsafe { (&raw const page[0]).read_volatile() } != 0 {
                            println!("a page came back with something in it");
                            return 1;
                        }
                        page[0] = 1;
                    }
                }
            }
            held = wanted;
        }
    }
    0
}

/// Waits for a byte of input; false at its end.
fn wait() -> bool {
    let mut byte = 0_u8;
    hypercall(Number::Read, [(&raw mut byte) as u64, 1, 0, 0]) > 0
}

//! Counts instructions a second in ring 0 and in ring 3: far apart where KVM emulates ring 0.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};
use ringside_programs::guest::{self, Guest};
use ringside_programs::{println, ring0};
use ringside_work::Platform;

ringside_programs::entry!(main);

/// How often the loop turns, for the code in ring 0, which takes no arguments.
static TURNS: AtomicU64 = AtomicU64::new(0);

/// Two instructions a turn, and two besides.
#[unsafe(naked)]
unsafe extern "C" fn spin() {
    naked_asm!("mov rcx, [{turns}]", "2: dec rcx", "jnz 2b", "ret", turns = sym TURNS)
}

/// Long enough that asking for the time, which is an exit, adds little.
const ENOUGH_NS: u64 = 1_000_000;

/// How often in a row a loop has to take so long: what else the host does only makes a guest slower, and
/// the first exits of a guest can take as long as the whole loop.
const TIMES: usize = 6;

/// Instructions a second of the loop as `run` runs it, by the shortest time.
fn rate(run: fn()) -> f64 {
    let mut guest = Guest::default();
    let mut turns = 250;
    loop {
        TURNS.store(turns, Ordering::Relaxed);
        let mut shortest_ns = u64::MAX;
        for _ in 0..TIMES {
            let start = guest.now_ns();
            run();
            shortest_ns = shortest_ns.min(guest.now_ns() - start);
            if shortest_ns < ENOUGH_NS {
                break;
            }
        }
        if shortest_ns >= ENOUGH_NS {
            return (2 * turns + 2) as f64 * 1e9 / shortest_ns as f64;
        }
        turns *= 4;
    }
}

fn main(_: &[&str]) -> u8 {
    // SAFETY: integer instructions that change nothing but rcx and flags.
    let ring0 = rate(|| unsafe { ring0::call(spin) });
    // SAFETY: as above; an ordinary call.
    let ring3 = rate(|| unsafe { asm!("call {}", sym spin, clobber_abi("C")) });
    println!("ring0_instructions_per_second {ring0:.0}");
    println!("ring3_instructions_per_second {ring3:.0}");
    guest::exit(0)
}

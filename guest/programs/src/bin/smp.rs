//! Two processors add to shared counters: atomically, under a lock, and with neither.
#![no_std]
#![no_main]

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ringside_programs::{guest, println};

ringside_programs::needs!(processors: 2, interrupts: false);
ringside_programs::entry!(main, other);

/// Two loads and two stores that the processor does one after the other, whatever the compiler
/// thinks of them.
struct Plain(UnsafeCell<u64>);

// SAFETY: every access is a volatile one of a whole word, which another processor's can come
// between: that is what this program is about.
unsafe impl Sync for Plain {}

impl Plain {
    fn add_one(&self) {
        // SAFETY: valid for reads and writes as long as the program runs.
        unsafe {
            self.0
                .get()
                .write_volatile(self.0.get().read_volatile() + 1)
        };
    }

    fn value(&self) -> u64 {
        // SAFETY: as above.
        unsafe { self.0.get().read_volatile() }
    }
}

static TURNS: AtomicU64 = AtomicU64::new(0);
static READY: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static ATOMIC: AtomicU64 = AtomicU64::new(0);
static LOCK: AtomicBool = AtomicBool::new(false);
static LOCKED: Plain = Plain(UnsafeCell::new(0));
static RACING: Plain = Plain(UnsafeCell::new(0));

/// A processor's part of the work. It begins when all are there.
fn add(processors: u64) {
    READY.fetch_add(1, Ordering::AcqRel);
    while READY.load(Ordering::Acquire) < processors {
        spin_loop();
    }
    for _ in 0..TURNS.load(Ordering::Relaxed) {
        ATOMIC.fetch_add(1, Ordering::Relaxed);
        while LOCK.swap(true, Ordering::Acquire) {
            spin_loop();
        }
        LOCKED.add_one();
        LOCK.store(false, Ordering::Release);
        RACING.add_one();
    }
    DONE.fetch_add(1, Ordering::AcqRel);
}

fn main(arguments: &[&str]) -> u8 {
    let turns = match arguments {
        [] => 100_000,
        [turns] => match turns.parse() {
            Ok(turns @ 1..=1_000_000_000) => turns,
            _ => {
                println!("smp: `{turns}` is no number from 1 to 1000000000");
                return 2;
            }
        },
        _ => {
            println!("usage: smp [TURNS]");
            return 2;
        }
    };
    let processors = guest::boot_info().processors;
    TURNS.store(turns, Ordering::Release);
    add(processors);
    while DONE.load(Ordering::Acquire) < processors {
        spin_loop();
    }
    println!("processors {processors}");
    println!("expected {}", processors * turns);
    println!("atomic {}", ATOMIC.load(Ordering::Relaxed));
    println!("locked {}", LOCKED.value());
    println!("neither {}", RACING.value());
    0
}

/// Every processor but the first.
fn other(index: u64) -> ! {
    while TURNS.load(Ordering::Acquire) == 0 {
        spin_loop();
    }
    add(guest::boot_info().processors);
    guest::park(index)
}

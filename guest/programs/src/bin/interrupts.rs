//! Interrupts and the timer: to itself, in periods, at a deadline, and awake from `hlt`, with no exit.
#![no_std]
#![no_main]

use core::arch::asm;
use core::hint::spin_loop;
use ringside_programs::println;
use ringside_programs::ring0::{self, x2apic};

ringside_programs::needs!(processors: 1, interrupts: true);
ringside_programs::entry!(main);

const TO_ITSELF: u8 = 0x40;
const PERIOD: u8 = 0x41;
const DEADLINE: u8 = 0x42;
const SPURIOUS: u64 = 0xff;

const MASKED: u64 = 1 << 16;
const PERIODIC: u64 = 1 << 17;
const AT_DEADLINE: u64 = 2 << 17;
/// The timer counts nanoseconds under KVM, whatever the host: its clock runs at 1 GHz.
const PERIOD_NS: u64 = 2_000_000;

fn set(register: u32, value: u64) {
    // SAFETY: registers of the interrupt controller, whose interrupts ring 0 counts.
    unsafe { ring0::write_msr(register, value) };
}

fn time_stamp() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack)) };
    high << 32 | low
}

fn main(_: &[&str]) -> u8 {
    set(x2apic::SPURIOUS, 1 << 8 | SPURIOUS);

    for _ in 0..3 {
        set(x2apic::SELF, TO_ITSELF.into());
    }
    println!("to itself: 3 sent, {} came", ring0::interrupts(TO_ITSELF));

    set(x2apic::TIMER_DIVIDE, 11);
    set(x2apic::TIMER, PERIODIC | u64::from(PERIOD));
    set(x2apic::TIMER_COUNT, PERIOD_NS);
    while ring0::interrupts(PERIOD) < 3 {
        spin_loop();
    }
    println!("periods, while ring 3 ran: 3 came");
    let mut halts = 0;
    while ring0::interrupts(PERIOD) < 6 {
        ring0::halt();
        halts += 1;
    }
    set(x2apic::TIMER, MASKED);
    println!(
        "periods, while it slept: 3 came, awake again: {}",
        halts <= 3
    );
    let then = ring0::interrupts(PERIOD);

    let deadline = time_stamp() + 1_000_000;
    set(x2apic::TIMER, AT_DEADLINE | u64::from(DEADLINE));
    set(x2apic::TSC_DEADLINE, deadline);
    while ring0::interrupts(DEADLINE) == 0 {
        spin_loop();
    }
    println!(
        "at a deadline: {} came, not before it: {}",
        ring0::interrupts(DEADLINE),
        time_stamp() >= deadline
    );
    println!(
        "masked, no more periods: {}",
        ring0::interrupts(PERIOD) == then
    );
    0
}

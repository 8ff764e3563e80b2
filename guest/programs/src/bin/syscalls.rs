//! Ring 3 asks ring 0: system calls cost the VMM nothing, hypercalls an exit each.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};
use ringside_abi::hypercall::Number;
use ringside_programs::{guest, println, probe, ring0};

ringside_programs::entry!(main);

/// The code segment's selector, whose low two bits are the ring.
#[unsafe(naked)]
unsafe extern "C" fn code_segment() {
    naked_asm!("xor eax, eax", "mov ax, cs", "ret")
}

fn main(_: &[&str]) -> u8 {
    let here: u64;
    // SAFETY: reads a selector.
    unsafe { asm!("xor eax, eax", "mov ax, cs", out("rax") here, options(nomem, nostack)) };
    // SAFETY: as above, in ring 0.
    let there = unsafe { ring0::call_with(code_segment, 0, 0) };
    println!("this program runs in ring {}", here & 3);
    println!("its system calls run in ring {}", there & 3);
    for _ in 0..500 {
        ring0::null_call();
    }
    println!("500 system calls, and back 500 times");
    for _ in 0..100 {
        guest::hypercall(Number::Null, [0; 4]);
    }
    println!("100 hypercalls");
    let unknown: i64;
    // SAFETY: no such system call: nothing happens but the answer.
    unsafe { asm!("int 0x80", inout("rax") 12345_i64 => unknown, options(nostack)) };
    println!("system call 12345 says {unknown}");
    // SAFETY: faults, and is expected to.
    unsafe { probe!("cli") };
    match ring0::trapped() {
        Some(trapped) => println!("cli without asking: exception {}", trapped.vector),
        None => println!("cli without asking: nothing happened"),
    }
    0
}

//! The smallest program that can say when it started: no libc, no stack frame, about a KiB.
//!
//! Its first instructions read `CLOCK_MONOTONIC` (man 2 clock_gettime); then it writes the time in
//! nanoseconds to standard output, 8 bytes in little-endian order, and exits with status 0 (1 if it
//! could not write). What `start` measures ends at those first instructions.
//!
//! Built by `../build.rs` without start files, and embedded.
#![no_std]
#![no_main]

use core::arch::global_asm;

// At entry the stack pointer is valid (System V ABI, section 3.4.1) and no signal handler exists, so
// the 16 bytes below it are free for a `struct timespec { i64 tv_sec; i64 tv_nsec; }`.
global_asm!(
    ".globl _start",
    "_start:",
    "mov eax, 228", // clock_gettime(CLOCK_MONOTONIC, rsp - 16)
    "mov edi, 1",
    "lea rsi, [rsp - 16]",
    "syscall",
    "imul rax, [rsp - 16], 1000000000",
    "add [rsp - 8], rax", // tv_nsec += tv_sec * 1e9
    "mov eax, 1",         // write(1, rsp - 8, 8)
    "mov edi, 1",
    "lea rsi, [rsp - 8]",
    "mov edx, 8",
    "syscall",
    "xor edi, edi", // exit(written != 8)
    "cmp rax, 8",
    "setne dil",
    "mov eax, 60",
    "syscall",
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

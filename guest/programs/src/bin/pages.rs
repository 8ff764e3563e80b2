//! Edits its own page tables: maps, shares, protects, unmaps and flushes, without a single exit.
#![no_std]
#![no_main]

use core::arch::naked_asm;
use ringside_abi::layout::PAGE;
use ringside_programs::guest::Guest;
use ringside_programs::ring0::{self, Trapped};
use ringside_programs::{println, probe};
use ringside_work::Platform;

ringside_programs::entry!(main);

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const LARGE: u64 = 1 << 7;
/// Guest-virtual: the root table's entry 2, which nothing else uses.
const WINDOW: u64 = 2 << 39;

/// Writes `rdx` to entry `rsi` of the root table.
#[unsafe(naked)]
unsafe extern "C" fn set_root_entry() {
    naked_asm!("mov rax, cr3", "mov [rax + 8 * rsi], rdx", "ret")
}

/// Forgets the translation of `rsi`.
#[unsafe(naked)]
unsafe extern "C" fn flush() {
    naked_asm!("invlpg [rsi]", "ret")
}

fn read(address: u64) -> Result<u64, Trapped> {
    let value;
    // SAFETY: reads a word, or is stopped.
    unsafe {
        probe!("mov {value}, [{address}]", address = in(reg) address, value = out(reg) value)
    };
    ring0::trapped().map_or(Ok(value), Err)
}

fn write(address: u64, value: u64) -> Result<(), Trapped> {
    // SAFETY: the window's pages are this program's own, and nobody else's reference.
    unsafe { probe!("mov [{address}], {value}", address = in(reg) address, value = in(reg) value) };
    ring0::trapped().map_or(Ok(()), Err)
}

fn show<T: core::fmt::LowerHex>(what: &str, result: Result<T, Trapped>) {
    match result {
        Ok(value) => println!("{what}: {value:#x}"),
        Err(fault) => println!(
            "{what}: exception {}, error code {:#x}",
            fault.vector, fault.error_code
        ),
    }
}

fn main(_: &[&str]) -> u8 {
    let mut guest = Guest::default();
    let mut page = || {
        let bytes = guest
            .buffer(PAGE as usize)
            .expect("the heap has room for five pages");
        bytes.as_mut_ptr() as u64 // guest-virtual = guest-physical there
    };
    let (level3, level2, level1, frame, other) = (page(), page(), page(), page(), page());
    let entry = |table: u64, index: u64, value: u64| {
        // SAFETY: a table is a page of the heap that only this program knows.
        unsafe { ((table + 8 * index) as *mut u64).write_volatile(value) };
    };
    // SAFETY: `invlpg` changes no translation, it only forgets one.
    let flush_page = |address| unsafe { ring0::call_with(flush, address, 0) };
    let all = PRESENT | WRITABLE | USER;
    let (first, second) = (WINDOW, WINDOW + PAGE);

    show("before", read(first));
    entry(level3, 0, level2 | all);
    entry(level2, 0, level1 | all);
    entry(level1, 0, frame | all);
    // SAFETY: the entry was empty, and now leads to the tables above, which map this program's own.
    unsafe { ring0::call_with(set_root_entry, 2, level3 | all) };
    show("mapped", read(first));
    show("written", write(first, 0xcafe).map(|()| 0xcafe));
    entry(level1, 1, frame | all);
    show("the same frame, one page on", read(second));
    entry(level1, 1, frame | PRESENT | USER);
    flush_page(second);
    show("read-only, written", write(second, 0).map(|()| 0));
    show(
        "the other page, written",
        write(first, 0xbeef).map(|()| 0xbeef),
    );
    show("read-only, read", read(second));
    entry(level1, 1, frame | PRESENT | WRITABLE);
    flush_page(second);
    show("ring 0's, read", read(second));
    entry(level1, 0, other | all);
    flush_page(first);
    show("another frame", read(first));
    entry(level1, 0, 0);
    flush_page(first);
    show("unmapped", read(first));
    // A large page's address has no bit 13, on any processor.
    entry(level2, 0, frame >> 21 << 21 | all | LARGE | 1 << 13);
    flush_page(first);
    show("a reserved bit set", read(first));
    0
}

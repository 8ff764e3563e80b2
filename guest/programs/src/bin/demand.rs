//! Demand paging in the guest: each page comes with its first touch, and no exit tells the VMM.
#![no_std]
#![no_main]

use core::arch::naked_asm;
use ringside_abi::layout::PAGE;
use ringside_programs::guest::{self, Guest};
use ringside_programs::{println, ring0};
use ringside_work::Platform;

ringside_programs::entry!(main);

/// How many of the `rdx` page-table entries from `rsi` on are present.
#[unsafe(naked)]
unsafe extern "C" fn count_present() {
    naked_asm!(
        "xor eax, eax",
        "2: mov ecx, [rsi]",
        "and ecx, 1",
        "add eax, ecx",
        "add rsi, 8",
        "dec rdx",
        "jnz 2b",
        "ret"
    )
}

fn main(arguments: &[&str]) -> u8 {
    let Some(pages) = (match arguments {
        [] => Some(256),
        [pages] => pages.parse().ok(),
        _ => None,
    })
    .filter(|pages| (1..=4096_u64).contains(pages)) else {
        println!("usage: demand [PAGES], 1 to 4096");
        return 2;
    };
    let Some(zone) = Guest::default().untouched_pages(pages as usize) else {
        println!("demand: no room for {pages} pages; give the guest more memory");
        return 1;
    };
    let tables = guest::boot_info().demand_tables;
    // SAFETY: reads page-table entries, which ring 0 may.
    let present = || unsafe { ring0::call_with(count_present, tables, pages) };
    println!("reserved {pages} pages, {} present", present());
    let page = |index: u64| (index * PAGE) as usize;
    // Every other page, downwards: the guest's order of touching is its own.
    for index in (0..pages).rev().filter(|index| index % 2 == 0) {
        zone[page(index)] = index as u8 | 1;
    }
    println!("touched {}, {} present", pages.div_ceil(2), present());
    let zeros = (0..pages).filter(|&index| zone[page(index) + 1] == 0);
    println!("read all, {} begin as zeros", zeros.count());
    println!("in the end {} present", present());
    let kept = (0..pages).filter(|&index| index % 2 == 1 || zone[page(index)] == index as u8 | 1);
    println!("kept what was written: {}", kept.count() as u64 == pages);
    0
}

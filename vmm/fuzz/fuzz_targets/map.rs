//! The builder over any ranges: it refuses or maps, never panics, and what it maps can be walked.
//!
//! `cargo +nightly fuzz run map` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::memory::{Gpa, Gva};
use ringside_vmm::paging::{Access, Builder, Flags, Levels, PageSize, Paging, VecMemory};
use ringside_vmm_fuzz::Words;

const PAGES: u64 = 32;

fuzz_target!(|input: &[u8]| {
    let words = &mut Words(input);
    let kind = words.take();
    let levels = if kind & 1 == 0 {
        Levels::Four
    } else {
        Levels::Five
    };
    let memory = VecMemory::new(Gpa(0), PAGES as usize);
    let region = if kind & 2 == 0 {
        Gpa(0)..Gpa(PAGES << 12)
    } else {
        Gpa(words.take())..Gpa(words.take())
    };
    let Ok(mut builder) = Builder::new(&memory, levels, region) else {
        return;
    };
    let paging = Paging::new(builder.root(), levels);
    while !words.is_empty() {
        let how = words.take();
        let (address, target) = (Gva(words.take()), Gpa(words.take()));
        let sizes = [
            PageSize::Kib4,
            PageSize::Mib2,
            PageSize::Gib1,
            PageSize::Kib4,
        ];
        let size = sizes[(how & 3) as usize];
        // Lengths of a few pages; a guest's image has more, and takes as much longer.
        let length = (how >> 3 & 0xfff) * size.bytes() / (1 << (how >> 16 & 7)) + (how >> 24 & 1);
        let done = if how & 4 == 0 {
            builder.map(address, target, length, size, Flags::WRITABLE)
        } else {
            builder.map_up_to(address, target, length & !0xfff, size, Flags::WRITABLE)
        };
        if done.is_ok() && length >= 4096 {
            for offset in [0, length - 4096] {
                let walk = paging.walk(&memory, Gva(address.0 + offset), Access::WRITE);
                let found = walk.outcome.expect("what is mapped can be walked");
                assert_eq!(found.gpa, Gpa(target.0 + offset));
            }
        }
        assert!(builder.tables_used() <= PAGES);
    }
});

//! The walker over memory that a hostile guest wrote: tables that point to themselves, outside, to
//! each other's middle; every control and every address.
//!
//! `cargo +nightly fuzz run walk` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::memory::{Gpa, Gva, Hpa, Hva};
use ringside_vmm::paging::{
    Access, Entry, Fault, Flags, Kind, Levels, NestedTables, Paging, PhysicalMemory, Privilege,
    Processor, Slot, Slots, Through, VecMemory,
};
use ringside_vmm_fuzz::Words;

const PAGES: u64 = 4;

fn paging(words: &mut Words) -> Paging {
    let (root, bits) = (words.take(), words.take());
    let bit = |n: u32| bits >> n & 1 == 1;
    Paging {
        // Also such as no processor would take.
        root: Gpa(root),
        levels: if bit(0) { Levels::Five } else { Levels::Four },
        no_execute: bit(1),
        write_protect: bit(2),
        smep: bit(3),
        smap: bit(4),
        processor: Processor {
            physical_bits: (bits >> 8) as u8,
            gigabyte_pages: bit(5),
            top_global_reserved: bit(6),
        },
    }
}

fn access(bits: u64) -> Access {
    let kinds = [Kind::Read, Kind::Write, Kind::Fetch, Kind::Write];
    let privileges = [
        Privilege::User,
        Privilege::Supervisor,
        Privilege::SupervisorAc,
        Privilege::User,
    ];
    Access::new(
        kinds[(bits & 3) as usize],
        privileges[(bits >> 2 & 3) as usize],
    )
}

fuzz_target!(|input: &[u8]| {
    let words = &mut Words(input);
    let first = paging(words);
    let second = paging(words);
    let (address, what, base) = (Gva(words.take()), words.take(), words.take());
    let access = access(what);
    let slot = Slot {
        number: 0,
        gpa: Gpa(words.take()),
        bytes: words.take(),
        hva: Hva(words.take()),
        read_only: what >> 8 & 1 == 1,
    };

    // Memory anywhere, at the end of the address space, too.
    let memory = VecMemory::new(Gpa(base), PAGES as usize);
    let start = memory.base().0;
    for at in (0..memory.bytes()).step_by(8) {
        if words.is_empty() {
            break;
        }
        let at = Gpa(start.wrapping_add(at));
        let _ = memory.write_u64(at, words.take());
    }
    let before = memory.clone();
    let same = |memory: &VecMemory, change: u64| {
        (0..memory.bytes()).step_by(8).all(|at| {
            let at = Gpa(start.wrapping_add(at));
            let (old, new) = (before.read_u64(at), memory.read_u64(at));
            old.zip(new)
                .is_none_or(|(old, new)| (old ^ new) & !change == 0 && old & !new == 0)
        })
    };

    let walk = first.walk(&memory, address, access);
    assert!(walk.steps().len() <= first.levels.count());
    assert!(same(&memory, 0), "a walk changed memory");
    let _ = walk.to_string();

    let marked = first.walk_and_mark(&memory, address, access);
    assert!(same(&memory, (Flags::ACCESSED | Flags::DIRTY).bits()));
    match (walk.outcome, marked.outcome) {
        (Ok(one), Ok(two)) => {
            assert_eq!(one.gpa, two.gpa);
            assert!(two.entry.has(Flags::ACCESSED));
            assert_eq!(
                one.gpa.0 & (one.size.bytes() - 1),
                address.0 & (one.size.bytes() - 1)
            );
            // Marking is not needed twice.
            assert_eq!(
                first.walk_and_mark(&memory, address, access),
                first.walk(&memory, address, access)
            );
        }
        (one, two) => assert_eq!(one, two),
    }
    if let Err(Fault::OutsideMemory { at, .. }) = walk.outcome {
        assert_eq!(memory.read_u64(at), None);
    }

    // Both levels: through slots that lie and wrap, and through a second tree in the same memory.
    let slots =
        Slots::new([slot]).with_pagemap(|hva| hva.checked_add(slot.bytes).map(|a| Hpa(a.0)));
    let nested = first.walk_nested_and_mark(&memory, &slots, address, access);
    let _ = (nested.to_string(), nested.references());
    let tables = NestedTables {
        host: &memory,
        paging: second,
    };
    let through = Through::new(&memory, &tables);
    let nested = first.walk_nested_and_mark(&through, &tables, address, access);
    assert!(nested.references() <= 35);
    let _ = nested.to_string();
    let _ = Entry::from_raw(what)
        .letters(ringside_vmm::paging::Level::Pml5)
        .to_string();
});

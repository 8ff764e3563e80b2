use super::super::{
    Builder, Cause, Flags, Levels, NestedTables, PageSize, Slot, Slots, Through, VecMemory,
};
use super::*;
use crate::memory::{Hpa, Hva};

/// Host memory with a second tree that maps all guest-physical memory `SHIFT` higher, in pages of
/// `host_size`, and, through it, a guest tree that maps pages of `guest_size` at `PAGE`.
struct World {
    host: VecMemory,
    second_tree: Paging,
    guest: Paging,
}

const PAGE: Gva = Gva(0x40_0000_0000);
const SHIFT: u64 = 0x4000_0000;
/// Where guest-physical memory starts on the host, and how much of it is memory here.
const GUEST_PAGES: usize = 32;

impl World {
    fn new(guest: Levels, guest_size: PageSize, host: Levels, host_size: PageSize) -> Self {
        // The second tree lies below the guest's memory.
        let memory = VecMemory::new(Gpa(SHIFT - 0x4_0000), 64 + GUEST_PAGES);
        let region = Gpa(SHIFT - 0x4_0000)..Gpa(SHIFT);
        let mut builder = Builder::new(&memory, host, region).expect("second tree");
        let flags = Flags::WRITABLE | Flags::USER;
        let bytes = host_size.bytes().max(0x20_0000);
        builder
            .map(Gva(0), Gpa(SHIFT), bytes, host_size, flags)
            .expect("second tree");
        let second_tree = Paging::new(builder.root(), host);
        let world = Self {
            guest: Paging::new(Gpa(0x1000), guest),
            host: memory,
            second_tree,
        };
        let second = world.second();
        let through = Through::new(&world.host, &second);
        let mut builder =
            Builder::new(&through, guest, Gpa(0x1000)..Gpa(0x1_0000)).expect("guest tree");
        let bytes = guest_size.bytes().max(0x2000);
        builder
            .map(PAGE, Gpa(0), bytes, guest_size, flags)
            .expect("guest tree");
        world
    }

    fn second(&self) -> NestedTables<'_, VecMemory> {
        NestedTables {
            host: &self.host,
            paging: self.second_tree,
        }
    }

    fn walk(&self, offset: u64, access: Access) -> NestedWalk {
        let address = Gva(PAGE.0 + offset);
        let second = self.second();
        let memory = Through::new(&self.host, &second);
        self.guest.walk_nested(&memory, &second, address, access)
    }
}

#[test]
fn references_are_counted_and_agree_with_the_formula() {
    use Levels::{Five, Four};
    use PageSize::{Gib1, Kib4, Mib2};
    let mut seen = Vec::new();
    for guest in [Four, Five] {
        for host in [Four, Five] {
            for guest_size in [Kib4, Mib2, Gib1] {
                for host_size in [Kib4, Mib2, Gib1] {
                    let world = World::new(guest, guest_size, host, host_size);
                    let walk = world.walk(0x1008, Access::READ);
                    let depth = |levels: Levels, size: PageSize| {
                        levels.count() as u32 + 1 - size.level() as u32
                    };
                    let formula =
                        nested_references(depth(guest, guest_size), depth(host, host_size));
                    let counted = walk.references();
                    let found = walk.outcome.expect("mapped");
                    assert_eq!(found.host.hpa, Some(Hpa(SHIFT + 0x1008)));
                    assert_eq!(counted, formula);
                    seen.push((guest, guest_size, host, host_size, formula));
                }
            }
        }
    }
    // The numbers of the literature.
    assert!(seen.contains(&(Four, Kib4, Four, Kib4, 24)));
    assert!(seen.contains(&(Four, Kib4, Four, Mib2, 19)));
    assert!(seen.contains(&(Four, Mib2, Four, Kib4, 19)));
    assert!(seen.contains(&(Four, Mib2, Four, Mib2, 15)));
    assert!(seen.contains(&(Five, Kib4, Five, Kib4, 35)));
}

#[test]
fn four_by_four_is_twenty_four_references_and_the_shadow_four() {
    let world = World::new(Levels::Four, PageSize::Kib4, Levels::Four, PageSize::Kib4);
    let walk = world.walk(0x8, Access::WRITE);
    assert_eq!(walk.outcome.expect("mapped").host.hpa, Some(Hpa(SHIFT + 8)));
    assert_eq!(walk.references(), 24);
    assert_eq!(walk.shadow_references(&world.guest), 4);
    let tables: Vec<_> = walk
        .steps()
        .map(|(step, table)| (step.at(), table.hpa))
        .collect();
    assert_eq!(tables[0], (Gpa(0x1000), Some(Hpa(SHIFT + 0x1000))));
    assert_eq!(
        tables[1],
        (Gpa(0x2000 + 256 * 8), Some(Hpa(SHIFT + 0x2800)))
    );
}

#[test]
fn slots_join_all_four_addresses() {
    let memory = VecMemory::new(Gpa(0), 32);
    let mut builder = Builder::new(&memory, Levels::Four, Gpa(0x1000)..Gpa(0x8000)).expect("new");
    builder
        .map(PAGE, Gpa(0x9000), 0x1000, PageSize::Kib4, Flags::WRITABLE)
        .expect("map");
    let paging = Paging::new(builder.root(), Levels::Four);
    let slot = Slot {
        number: 7,
        gpa: Gpa(0),
        bytes: 0x2_0000,
        hva: Hva(0x7f12_0000_0000),
        read_only: false,
    };
    let second = Slots::new([slot]).with_pagemap(|hva| Some(Hpa(hva.0 & 0xffff | 0xab_0000)));
    let walk = paging.walk_nested(&memory, &second, Gva(PAGE.0 + 0x42), Access::WRITE);
    let found = walk.outcome.expect("mapped");
    assert_eq!(found.guest.gpa, Gpa(0x9042));
    assert_eq!(found.host.slot, Some(7));
    assert_eq!(found.host.hva, Some(Hva(0x7f12_0000_9042)));
    assert_eq!(found.host.hpa, Some(Hpa(0xab_9042)));
    assert_eq!(walk.references(), 24);
    // The host maps the slot with huge pages.
    let walk = paging.walk_nested(&memory, &second.with_levels(3), PAGE, Access::WRITE);
    assert_eq!(walk.references(), 19);
}

#[test]
fn the_levels_refuse_each_in_its_own_name() {
    let memory = VecMemory::new(Gpa(0), 32);
    let mut builder = Builder::new(&memory, Levels::Four, Gpa(0x1000)..Gpa(0x8000)).expect("new");
    let size = PageSize::Kib4;
    builder
        .map(PAGE, Gpa(0x9000), 0x1000, size, Flags::WRITABLE)
        .expect("map");
    builder
        .map(Gva(0x1000), Gpa(0xfe00_0000), 0x1000, size, Flags::empty())
        .expect("map");
    let paging = Paging::new(builder.root(), Levels::Four);
    let slot = |gpa, bytes, read_only| Slot {
        number: 0,
        gpa: Gpa(gpa),
        bytes,
        hva: Hva(0x7f00_0000_0000),
        read_only,
    };
    let all = Slots::new([slot(0, 0x2_0000, false)]);
    let outcome = |second: &Slots, address, access| {
        paging
            .walk_nested_and_mark(&memory, second, address, access)
            .outcome
    };
    let violation = |at, level, write| {
        let at = Gpa(at);
        Err(NestedFault::Violation { at, level, write })
    };
    // The guest's fault, although the page behind it would be missing, too.
    let guest = outcome(&all, Gva(0x1000), Access::WRITE);
    assert!(matches!(guest, Err(NestedFault::Guest(Fault::Page(f))) if f.cause == Cause::ReadOnly));
    // No memory behind the page: MMIO.
    assert_eq!(
        outcome(&all, Gva(0x1008), Access::READ),
        violation(0xfe00_0008, None, false)
    );
    // No memory behind a table: the host lacks guest page 3.
    let short = Slots::new([slot(0, 0x3000, false)]);
    assert_eq!(
        outcome(&short, PAGE, Access::READ),
        violation(0x3000, Some(Level::Pd), false)
    );
    // A read-only slot: the page, and the table whose accessed bit is to be set.
    let table_read_only = Slots::new([slot(0x2000, 0x1000, true), slot(0, 0x2_0000, false)]);
    let page_read_only = Slots::new([slot(0x9000, 0x1000, true), slot(0, 0x2_0000, false)]);
    memory
        .write_u64(
            Gpa(0x2800),
            memory.read_u64(Gpa(0x2800)).expect("PDPT") & !0x20,
        )
        .expect("PDPT");
    assert_eq!(
        outcome(&table_read_only, PAGE, Access::READ),
        violation(0x2800, Some(Level::Pdpt), true)
    );
    assert_eq!(
        outcome(&page_read_only, PAGE, Access::WRITE),
        violation(0x9000, None, true)
    );
    outcome(&page_read_only, PAGE, Access::READ).expect("readable");
    outcome(&table_read_only, PAGE, Access::READ).expect("marked by now");
}

#[test]
fn a_table_that_no_memory_holds_is_a_violation() {
    let memory = VecMemory::new(Gpa(0), 2);
    memory.write_u64(Gpa(0x1000), 0xfee0_0003).expect("PML4");
    let paging = Paging::new(Gpa(0x1000), Levels::Four);
    let slots = Slots::new([Slot {
        number: 0,
        gpa: Gpa(0),
        bytes: 0x2000,
        hva: Hva(0x7f00_0000_0000),
        read_only: false,
    }]);
    let walk = paging.walk_nested(&memory, &slots, Gva(0), Access::READ);
    let violation = NestedFault::Violation {
        at: Gpa(0xfee0_0000),
        level: Some(Level::Pdpt),
        write: false,
    };
    assert_eq!(walk.outcome, Err(violation));
    assert_eq!(walk.references(), 5);
    let told = "guest-physical 0xfee00000 has no memory behind it that allows this (the guest's PDPT entry)";
    assert_eq!(violation.to_string(), told);
}

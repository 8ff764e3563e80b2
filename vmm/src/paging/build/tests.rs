use super::super::{Access, Fault, Paging, VecMemory};
use super::*;

const RW: Flags = Flags::WRITABLE;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn memory() -> VecMemory {
    VecMemory::new(Gpa(0), 64)
}

fn builder(memory: &VecMemory, levels: Levels) -> Builder<'_, VecMemory> {
    Builder::new(memory, levels, Gpa(0x1000)..Gpa(0x2_0000)).expect("tables")
}

#[test]
fn what_is_built_can_be_walked_in_all_sizes_and_depths() {
    for levels in [Levels::Four, Levels::Five] {
        for size in [PageSize::Kib4, PageSize::Mib2, PageSize::Gib1] {
            let memory = memory();
            let mut builder = builder(&memory, levels);
            let (start, target) = (levels.canonical(Gva(!0 << 46)), Gpa(8 * GIB));
            builder
                .map(start, target, 2 * size.bytes(), size, RW)
                .expect("map");
            let tables = levels.count() as u64 + 1 - size.level() as u64;
            assert_eq!(builder.tables_used(), tables, "{levels:?} {size}");

            let paging = Paging::new(builder.root(), levels);
            for offset in [0, size.bytes() - 1, size.bytes(), 2 * size.bytes() - 1] {
                let walk = paging.walk(&memory, Gva(start.0 + offset), Access::WRITE);
                let found = walk.outcome.expect("mapped");
                assert_eq!(found.gpa, Gpa(target.0 + offset));
                assert_eq!(found.size, size);
            }
            let past = paging.walk(&memory, Gva(start.0 + 2 * size.bytes()), Access::READ);
            assert!(matches!(past.outcome, Err(Fault::Page(_))));
        }
    }
}

#[test]
fn the_last_page_of_the_address_space_can_be_mapped() {
    let memory = memory();
    let mut builder = builder(&memory, Levels::Four);
    let last = Gva(!0xfff);
    builder
        .map(last, Gpa((1 << 52) - 0x1000), 0x1000, PageSize::Kib4, RW)
        .expect("map");
    let paging = Paging::new(builder.root(), Levels::Four);
    let walk = paging.walk(&memory, Gva(u64::MAX), Access::READ);
    assert_eq!(walk.outcome.expect("mapped").gpa, Gpa((1 << 52) - 1));
}

#[test]
fn misaligned_ranges_are_refused() {
    let memory = memory();
    let mut builder = builder(&memory, Levels::Four);
    let size = PageSize::Mib2;
    for (address, target, bytes) in [(0x1000, 0, 2 * MIB), (0, 0x1000, 2 * MIB), (0, 0, 3 * MIB)] {
        let got = builder.map(Gva(address), Gpa(target), bytes, size, RW);
        assert!(matches!(got, Err(BuildError::Misaligned { .. })), "{got:?}");
    }
    assert_eq!(builder.tables_used(), 1);
}

#[test]
fn ranges_outside_the_address_spaces_are_refused() {
    let memory = memory();
    let mut four = builder(&memory, Levels::Four);
    let small = PageSize::Kib4;
    let edge = 0x0000_7fff_ffff_f000;
    for (address, bytes) in [
        (edge, 0x2000),
        (0x0000_8000_0000_0000, 0x1000),
        (!0xfff, 0x2000),
        // Both ends canonical, with the hole in between.
        (edge, 0xffff_0000_0000_2000),
    ] {
        let got = four.map(Gva(address), Gpa(0), bytes, small, RW);
        assert!(
            matches!(got, Err(BuildError::NotCanonical { .. })),
            "{address:#x} {got:?}"
        );
    }
    for target in [1 << 52, (1 << 52) - 0x1000, !0xfff] {
        let got = four.map(Gva(0), Gpa(target), 0x2000, small, RW);
        assert!(
            matches!(got, Err(BuildError::TooHigh { .. })),
            "{target:#x} {got:?}"
        );
    }
    four.map(Gva(edge), Gpa(0), 0x1000, small, RW)
        .expect("the last low page");
}

#[test]
fn overlaps_are_found_before_anything_is_written() {
    let memory = memory();
    let mut builder = builder(&memory, Levels::Four);
    builder
        .map(Gva(2 * MIB), Gpa(0), 2 * MIB, PageSize::Mib2, RW)
        .expect("huge");
    builder
        .map(Gva(4 * MIB), Gpa(0), 0x1000, PageSize::Kib4, RW)
        .expect("small");
    let used = builder.tables_used();
    let overlap = |address, level| {
        Err(BuildError::Overlap {
            address: Gva(address),
            level,
        })
    };
    // A small page in a huge one; a huge one over a small one; the tail of a range.
    let got = builder.map(Gva(2 * MIB + 0x1000), Gpa(0), 0x1000, PageSize::Kib4, RW);
    assert_eq!(got, overlap(2 * MIB + 0x1000, Level::Pd));
    let got = builder.map(Gva(4 * MIB), Gpa(0), 2 * MIB, PageSize::Mib2, RW);
    assert_eq!(got, overlap(4 * MIB, Level::Pd));
    let got = builder.map(Gva(4 * MIB - 0x1000), Gpa(0), 0x1000, PageSize::Kib4, RW);
    assert_eq!(got, overlap(4 * MIB - 0x1000, Level::Pd));
    let got = builder.map(Gva(0), Gpa(0), 2 * GIB, PageSize::Gib1, RW);
    assert_eq!(got, overlap(0, Level::Pdpt));
    assert_eq!(builder.tables_used(), used);
}

#[test]
fn tables_run_out_and_must_be_memory() {
    let memory = memory();
    let mut short = Builder::new(&memory, Levels::Four, Gpa(0x1800)..Gpa(0x4fff)).expect("two");
    assert_eq!(short.root(), Gpa(0x2000));
    let got = short.map(Gva(0), Gpa(0), 0x1000, PageSize::Kib4, RW);
    assert_eq!(got, Err(BuildError::OutOfTables { pages: 2 }));

    let outside = Builder::new(&memory, Levels::Four, Gpa(64 * 0x1000)..Gpa(65 * 0x1000));
    assert_eq!(
        outside.err(),
        Some(BuildError::OutsideMemory(Gpa(64 * 0x1000)))
    );
    let high = VecMemory::new(Gpa(1 << 52), 2);
    let no_entry_reaches = Builder::new(&high, Levels::Four, Gpa(1 << 52)..Gpa(!0)).err();
    let at = Gpa(1 << 52);
    assert_eq!(no_entry_reaches, Some(BuildError::OutsideMemory(at)));
    for region in [
        Gpa(0x1000)..Gpa(0x1000),
        Gpa(0x3000)..Gpa(0x1000),
        Gpa(!0)..Gpa(!0),
    ] {
        let none = Builder::new(&memory, Levels::Four, region).err();
        assert_eq!(none, Some(BuildError::OutOfTables { pages: 0 }));
    }
}

#[test]
fn the_largest_pages_that_fit() {
    let memory = memory();
    let mut builder = builder(&memory, Levels::Four);
    let (start, bytes) = (Gva(GIB - 2 * MIB - 0x1000), GIB + 4 * MIB + 0x2000);
    builder
        .map_up_to(start, Gpa(start.0), bytes, PageSize::Gib1, RW)
        .expect("map");
    let paging = Paging::new(builder.root(), Levels::Four);
    let mut sizes = Vec::new();
    let mut at = start.0;
    while at < start.0 + bytes {
        let found = paging
            .walk(&memory, Gva(at), Access::READ)
            .outcome
            .expect("mapped");
        assert_eq!(found.gpa, Gpa(at));
        sizes.push(found.size);
        at += found.size.bytes();
    }
    use PageSize::{Gib1, Kib4, Mib2};
    assert_eq!(sizes, [Kib4, Mib2, Gib1, Mib2, Kib4]);

    // Two megabytes apart by one page: no huge page fits anywhere.
    let tables = builder.tables_used();
    builder
        .map_up_to(Gva(1 << 40), Gpa(0x1000), 2 * MIB, PageSize::Gib1, RW)
        .expect("map");
    assert_eq!(builder.tables_used(), tables + 3);
}

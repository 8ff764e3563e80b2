//! What a walk of a resident four-level table costs over its floor: the same four dependent loads,
//! with nothing checked and nothing told.
//!
//! The contenders take turns in blocks within each sample, so that a neighbour on a noisy machine
//! slows all of them alike; compare them with each other, within one run.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ringside_vmm::memory::{Gpa, Gva};
use ringside_vmm::paging::{
    Access, Builder, Flags, Levels, PageSize, Paging, PhysicalMemory, Slot, Slots, VecMemory,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const START: u64 = 0x7f12_3400_0000;
/// Pages mapped: 16 MiB, so that the eight page tables stay in the nearest caches.
const PAGES: u64 = 4096;
const BLOCK: u64 = 256;

/// Maps [`PAGES`] pages, each to itself, and returns how to walk them.
fn map(memory: &impl PhysicalMemory) -> Paging {
    let region = Gpa(0x1000)..Gpa(0x2_0000);
    let mut builder = Builder::new(memory, Levels::Four, region).expect("tables");
    let flags = Flags::WRITABLE | Flags::USER | Flags::ACCESSED | Flags::DIRTY;
    builder
        .map(Gva(START), Gpa(0), PAGES * 4096, PageSize::Kib4, flags)
        .expect("map");
    Paging::new(builder.root(), Levels::Four)
}

/// The floor: four loads, each of which says where the next one is.
fn four_loads(memory: &impl PhysicalMemory, root: u64, Gva(address): Gva) -> u64 {
    let mut table = root;
    for shift in [39, 30, 21, 12] {
        let at = Gpa(table + (address >> shift & 511) * 8);
        table = memory.read_u64(at).unwrap_or(0) & 0x000f_ffff_ffff_f000;
    }
    table | address & 0xfff
}

/// The time of `rounds` calls of contender `wanted`, with all contenders called in turn.
fn in_turn(wanted: usize, contenders: &[&dyn Fn(u64)], rounds: u64) -> Duration {
    let mut total = Duration::ZERO;
    let mut seed = 1_u64;
    let mut left = rounds;
    while left > 0 {
        let block = left.min(BLOCK);
        for (number, contender) in contenders.iter().enumerate() {
            let start = Instant::now();
            contender(block << 32 | seed & 0xffff_ffff);
            if number == wanted {
                total += start.elapsed();
            }
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        left -= block;
    }
    total
}

/// Calls `walk` for as many pages as the upper half of `order` says, scattered by the lower half.
fn block<T>(order: u64, walk: impl Fn(Gva) -> T) {
    let mut page = order & 0xffff_ffff;
    for _ in 0..order >> 32 {
        page = page.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        black_box(walk(black_box(Gva(START + (page >> 8) % PAGES * 4096 + 8))));
    }
}

fn walks(criterion: &mut Criterion) {
    let plain = VecMemory::new(Gpa(0), 32);
    let paging = map(&plain);
    let range = [(GuestAddress(0), 1 << 20)];
    let mmap = GuestMemoryMmap::<()>::from_ranges(&range).expect("memory");
    assert_eq!(map(&mmap), paging);
    let slots = Slots::new([Slot {
        number: 0,
        gpa: Gpa(0),
        bytes: PAGES * 4096,
        hva: ringside_vmm::memory::Hva(0x7000_0000),
        read_only: false,
    }]);

    let root = paging.root.0;
    let read = Access::USER_READ;
    let write = Access::USER_WRITE;
    let floor = |order| block(order, |a| four_loads(&plain, root, a));
    let walk = |order| block(order, |a| paging.walk(&plain, a, read));
    let mmap_floor = |order| block(order, |a| four_loads(&mmap, root, a));
    let mmap_walk = |order| block(order, |a| paging.walk(&mmap, a, read));
    let marking = |order| block(order, |a| paging.walk_and_mark(&mmap, a, write));
    let nested = |order| block(order, |a| paging.walk_nested(&mmap, &slots, a, read));
    let names = [
        "floor: four loads from a vector",
        "walk in a vector",
        "floor: four loads from guest memory",
        "walk in guest memory",
        "walk and mark in guest memory",
        "nested walk over slots",
    ];
    let contenders: [&dyn Fn(u64); 6] = [&floor, &walk, &mmap_floor, &mmap_walk, &marking, &nested];

    let mut group = criterion.benchmark_group("walk");
    for (wanted, name) in names.into_iter().enumerate() {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| in_turn(wanted, &contenders, rounds));
        });
    }
    group.finish();
}

criterion_group!(benches, walks);
criterion_main!(benches);

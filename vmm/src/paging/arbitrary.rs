//! Random page tables and addresses, for tests that compare one translator with another: well formed
//! enough that walks go deep, hostile enough that they end in every way there is.
//!
//! A soup of tables: each page of a region is filled as a table of no particular level, with
//! entries at a few indices only, most of which point to pages of that region. So tables are
//! shared, point to themselves, and serve at several levels at once. Addresses are made of the same
//! few indices, and so hit.

use std::ops::Range;

use super::control::{Paging, Processor};
use super::entry::{Entry, Flags};
use super::fault::{Access, Kind, Privilege};
use super::level::{Level, Levels};
use super::memory::PhysicalMemory;
use crate::memory::{Gpa, Gva, PAGE_BYTES};

/// The indices at which tables have entries, and of which most addresses are made: the ends, the
/// middle where the sign changes, and two inside.
pub const INDICES: [usize; 6] = [0, 1, 2, 255, 256, 511];

/// A sequence of random numbers from a seed (SplitMix64): the same seed, the same sequence, forever.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of `choices`, which is not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Fills every page of `tables` with a table, whose entries point to pages of `targets`. Words
/// outside memory are skipped.
pub fn fill(
    random: &mut Random,
    memory: &impl PhysicalMemory,
    tables: Range<Gpa>,
    targets: Range<Gpa>,
) {
    let mut table = tables.start.page();
    while table < tables.end {
        for index in INDICES {
            let at = Gpa(table.0 + index as u64 * 8);
            let _ = memory.write_u64(at, entry(random, &targets).raw());
        }
        table = Gpa(table.0 + PAGE_BYTES);
    }
}

/// One entry: mostly present, permissive, and pointing into `region`.
#[must_use]
pub fn entry(random: &mut Random, region: &Range<Gpa>) -> Entry {
    let page = page(random, region);
    let mut flags = Flags::PRESENT | Flags::WRITABLE | Flags::USER;
    if random.one_in(3) {
        let free = Flags::all().difference(Flags::PRESENT | Flags::HUGE | Flags::NO_EXECUTE);
        flags = flags.symmetric_difference(Flags::from_bits_truncate(random.bits()) & free);
    }
    flags.set(Flags::NO_EXECUTE, random.one_in(16));
    flags.set(Flags::HUGE, random.one_in(24));
    let entry = Entry::table(page, flags);
    match random.below(48) {
        0 => Entry::from_raw(random.bits()),
        1 => entry.without(Flags::PRESENT),
        // A bit where widths of physical addresses end, and one that guests have for themselves.
        2 => Entry::from_raw(entry.raw() | 1 << (32 + random.below(20))),
        3 => {
            Entry::from_raw(entry.raw() | 1 << (9 + random.below(3)) | 1 << (52 + random.below(11)))
        }
        // A huge page that is aligned, so that not all end at reserved bits.
        4..7 => Entry::from_raw(entry.raw() & !0x3fff_e000).with(Flags::HUGE),
        _ => entry,
    }
}

/// A page of `region`, and sometimes one after its end.
fn page(random: &mut Random, region: &Range<Gpa>) -> Gpa {
    let pages = (region.end.0.saturating_sub(region.start.0) / PAGE_BYTES).max(1);
    let extra = if random.one_in(32) { pages } else { 0 };
    Gpa(region.start.page().0 + random.below(pages + extra) * PAGE_BYTES)
}

/// An address: mostly canonical, and made of [`INDICES`].
#[must_use]
pub fn address(random: &mut Random, levels: Levels) -> Gva {
    if random.one_in(16) {
        return Gva(random.bits());
    }
    let mut address = random.below(PAGE_BYTES);
    for level in Level::ALL {
        address |= (random.pick(&INDICES) as u64) << level.shift();
    }
    levels.canonical(Gva(address))
}

/// Controls of every combination, with the root at a page of `region`.
#[must_use]
pub fn paging(random: &mut Random, region: &Range<Gpa>, processor: Processor) -> Paging {
    let levels = random.pick(&[Levels::Four, Levels::Four, Levels::Five]);
    Paging {
        root: page(random, region),
        levels,
        no_execute: !random.one_in(8),
        write_protect: !random.one_in(4),
        smep: random.one_in(2),
        smap: random.one_in(4),
        processor,
    }
}

/// One of the nine accesses.
#[must_use]
pub fn access(random: &mut Random) -> Access {
    Access {
        kind: random.pick(&[Kind::Read, Kind::Write, Kind::Fetch]),
        privilege: random.pick(&[
            Privilege::User,
            Privilege::Supervisor,
            Privilege::SupervisorAc,
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cause, Fault, PageSize, VecMemory};
    use super::*;
    use std::collections::BTreeMap;

    /// The soup is worth something only if walks in it end in every way.
    #[test]
    fn walks_end_in_every_way() {
        let mut random = Random::new(1);
        let mut ends = BTreeMap::new();
        let processor = Processor {
            physical_bits: 40,
            ..Processor::default()
        };
        for _ in 0..50 {
            let memory = VecMemory::new(Gpa(0), 32);
            let region = Gpa(0)..Gpa(32 << 12);
            fill(&mut random, &memory, region.clone(), region.clone());
            for _ in 0..200 {
                let paging = paging(&mut random, &region, processor);
                let address = address(&mut random, paging.levels);
                let walk = paging.walk(&memory, address, access(&mut random));
                let end = match walk.outcome {
                    Ok(found) if found.size == PageSize::Kib4 => "4 KiB",
                    Ok(found) if found.size == PageSize::Mib2 => "2 MiB",
                    Ok(_) => "1 GiB",
                    Err(Fault::NotCanonical(_)) => "not canonical",
                    Err(Fault::OutsideMemory { .. }) => "outside",
                    Err(Fault::Unstable(_)) => "unstable",
                    Err(Fault::Page(fault)) => match fault.cause {
                        Cause::NotPresent => "not present",
                        Cause::Reserved(_) => "reserved",
                        Cause::ReadOnly => "read-only",
                        Cause::SupervisorOnly => "supervisor",
                        Cause::NoExecute => "no-execute",
                        Cause::Smep => "SMEP",
                        Cause::Smap => "SMAP",
                    },
                };
                *ends.entry(end).or_insert(0) += 1;
            }
        }
        assert_eq!(ends.len(), 12, "{ends:?}");
        assert!(ends.values().all(|count| *count >= 50), "{ends:?}");
        assert!(ends["4 KiB"] >= 1000, "{ends:?}");
    }

    #[test]
    fn a_seed_is_a_sequence() {
        let take = |seed| {
            let mut random = Random::new(seed);
            [random.bits(), random.bits()]
        };
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
        // The reference values of SplitMix64.
        assert_eq!(
            take(1_234_567),
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }
}

//! One entry of a table: eight bytes, in which the level decides what some bits mean.
//!
//! ```text
//!   63 62    59 58    52 51       M M-1                 12 11  9  8   7   6  5  4   3   2  1  0
//!  ┌──┬────────┬────────┬──────────┬──────────────────────┬─────┬───┬────┬──┬──┬───┬───┬──┬──┬──┐
//!  │NX│  key   │ignored │ reserved │ address, 4 KiB steps │ ign.│ G │ PS │ D│ A│PCD│PWT│ U│ W│ P│
//!  └──┴────────┴────────┴──────────┴──────────────────────┴─────┴───┴────┴──┴──┴───┴───┴──┴──┴──┘
//!    PT entry:          bit 7 is the PAT bit
//!    huge page:         bit 12 is the PAT bit; 20..13 (2 MiB) or 29..13 (1 GiB) are reserved
//!    points to a table: D, G and the key are ignored; PS is 0
//!    PML4, PML5:        PS is reserved (and G as well on AMD)
//!    PDPT:              PS is reserved where the processor has no 1 GiB pages
//!    EFER.NXE clear:    NX is reserved
//! ```
//!
//! `M` is the width of physical addresses (MAXPHYADDR, CPUID 0x8000_0008 EAX bits 7..0). In an
//! entry that is not present every other bit is free for the guest. (Intel SDM vol. 3A, 4.5.4,
//! tables 4-14 to 4-20; AMD APM vol. 2, 5.3.3.)

use std::fmt;

use super::level::{Level, PageSize};
use crate::memory::Gpa;

bitflags::bitflags! {
    /// The bits of an entry that have one meaning wherever they have one.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Flags: u64 {
        /// P: the entry maps something.
        const PRESENT = 1 << 0;
        /// R/W: writes are allowed below.
        const WRITABLE = 1 << 1;
        /// U/S: ring 3 may come here.
        const USER = 1 << 2;
        /// PWT: one of the three bits that choose the memory type.
        const WRITE_THROUGH = 1 << 3;
        /// PCD: one of the three bits that choose the memory type.
        const CACHE_DISABLE = 1 << 4;
        /// A: the processor used this entry.
        const ACCESSED = 1 << 5;
        /// D: the processor wrote the page (ignored in an entry that points to a table).
        const DIRTY = 1 << 6;
        /// PS: the entry maps a huge page. In a PT entry this bit is the PAT bit.
        const HUGE = 1 << 7;
        /// G: the translation outlives a write of CR3 while CR4.PGE is set.
        const GLOBAL = 1 << 8;
        /// XD or NX: no instruction fetch below, while EFER.NXE is set.
        const NO_EXECUTE = 1 << 63;
    }
}

/// Bits 51 to 12: the address in an entry of the widest processor.
const ADDRESS: u64 = bits(12, 51);
const KEY_SHIFT: u32 = 59;
/// Bits that hardware ignores in every present entry: 11..9 and 58..52.
const AVAILABLE: u64 = bits(9, 11) | bits(52, 58);

/// A mask of the bits `low` to `high`, both included.
pub(super) const fn bits(low: u32, high: u32) -> u64 {
    (u64::MAX >> (63 - (high - low))) << low
}

/// An entry as it is in memory. Nothing is lost: [`raw`](Self::raw) gives back what was read,
/// ignored and reserved bits included.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Entry(u64);

impl Entry {
    /// An entry that maps nothing.
    pub const ABSENT: Self = Self(0);

    /// The entry whose eight bytes are `raw`.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The eight bytes.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// An entry that points to the table at `table` with exactly these `flags`. Address bits
    /// outside 51..12 are dropped.
    #[must_use]
    pub const fn table(table: Gpa, flags: Flags) -> Self {
        Self(table.0 & ADDRESS | flags.bits())
    }

    /// An entry that maps the page at `page` with these `flags`; `HUGE` is added for a huge page.
    /// Address bits outside the page's frame are dropped.
    #[must_use]
    pub const fn page(page: Gpa, size: PageSize, flags: Flags) -> Self {
        let huge = match size {
            PageSize::Kib4 => 0,
            PageSize::Mib2 | PageSize::Gib1 => Flags::HUGE.bits(),
        };
        Self(page.0 & frame_mask(size) | flags.bits() | huge)
    }

    /// The flags, without address, protection key, PAT of a huge page and ignored bits.
    #[must_use]
    pub const fn flags(self) -> Flags {
        Flags::from_bits_truncate(self.0)
    }

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.bits() == flags.bits()
    }

    /// This entry with `flags` set as well.
    #[must_use]
    pub const fn with(self, flags: Flags) -> Self {
        Self(self.0 | flags.bits())
    }

    /// This entry with `flags` clear.
    #[must_use]
    pub const fn without(self, flags: Flags) -> Self {
        Self(self.0 & !flags.bits())
    }

    /// Whether the entry maps anything.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.has(Flags::PRESENT)
    }

    /// The size of the page that this entry maps at `level`, or `None` where it points to a table.
    /// The huge bit of a PML4 or PML5 entry is reserved and maps nothing.
    #[must_use]
    pub const fn page_size(self, level: Level) -> Option<PageSize> {
        match (level, self.has(Flags::HUGE)) {
            (Level::Pt, _) => Some(PageSize::Kib4),
            (Level::Pd, true) => Some(PageSize::Mib2),
            (Level::Pdpt, true) => Some(PageSize::Gib1),
            _ => None,
        }
    }

    /// Where the table or the page starts that this entry at `level` points to.
    #[must_use]
    pub const fn address(self, level: Level) -> Gpa {
        Gpa(match self.page_size(level) {
            Some(size) => self.0 & frame_mask(size),
            None => self.0 & ADDRESS,
        })
    }

    /// The index into the page-attribute table (IA32_PAT) that chooses the memory type, 0 to 7:
    /// PAT, PCD, PWT. Entries that point to a table have no PAT bit.
    #[must_use]
    pub const fn pat_index(self, level: Level) -> u8 {
        let pat = match self.page_size(level) {
            Some(PageSize::Kib4) => self.0 >> 7 & 1,
            Some(_) => self.0 >> 12 & 1,
            None => 0,
        };
        (pat << 2 | self.0 >> 3 & 3) as u8
    }

    /// The protection key, 0 to 15, of an entry that maps a page. It is kept; nothing here checks it.
    #[must_use]
    pub const fn protection_key(self) -> u8 {
        (self.0 >> KEY_SHIFT & 15) as u8
    }

    /// This entry with another protection key; bits of `key` above the fourth are dropped.
    #[must_use]
    pub const fn with_protection_key(self, key: u8) -> Self {
        let key = (key as u64 & 15) << KEY_SHIFT;
        Self(self.0 & !(15 << KEY_SHIFT) | key)
    }

    /// The bits that hardware ignores and guests use for themselves (11..9 and 58..52), in place.
    #[must_use]
    pub const fn available(self) -> u64 {
        self.0 & AVAILABLE
    }

    /// What to print behind an entry at `level`: one letter for each flag that is set.
    #[must_use]
    pub const fn letters(self, level: Level) -> Letters {
        Letters(self, level)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:#018x})", self.0)
    }
}

/// Address bits of a page of this size.
const fn frame_mask(size: PageSize) -> u64 {
    bits(size.level().shift(), 51)
}

/// Flags as letters in fixed columns, a dot for a clear one: `P W U . . A D H G NX`.
#[derive(Clone, Copy, Debug)]
pub struct Letters(Entry, Level);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(entry, level) = *self;
        let bit_7 = if level == Level::Pt { "T" } else { "H" };
        let columns = [
            (Flags::PRESENT, "P"),
            (Flags::WRITABLE, "W"),
            (Flags::USER, "U"),
            (Flags::ACCESSED, "A"),
            (Flags::DIRTY, "D"),
            (Flags::HUGE, bit_7),
            (Flags::GLOBAL, "G"),
            (Flags::NO_EXECUTE, "NX"),
        ];
        let shown = columns.map(|(flag, letter)| if entry.has(flag) { letter } else { "." });
        f.pad(&shown.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_depends_on_level_and_huge_bit() {
        let entry = Entry::from_raw(0x000f_ffff_ffff_f0e7);
        assert_eq!(entry.address(Level::Pt), Gpa(0x000f_ffff_ffff_f000));
        assert_eq!(entry.address(Level::Pd), Gpa(0x000f_ffff_ffe0_0000));
        assert_eq!(entry.address(Level::Pdpt), Gpa(0x000f_ffff_c000_0000));
        assert_eq!(entry.address(Level::Pml4), Gpa(0x000f_ffff_ffff_f000));
        assert_eq!(entry.page_size(Level::Pml4), None);
    }

    #[test]
    fn nothing_is_lost() {
        for raw in [0, u64::MAX, 0x7ff0_0000_0000_0e01, 0xdead_beef_cafe_f00d] {
            assert_eq!(Entry::from_raw(raw).raw(), raw);
        }
        assert_eq!(Entry::from_raw(u64::MAX).available(), 0x07f0_0000_0000_0e00);
    }

    #[test]
    fn memory_type_and_key() {
        let small = Entry::page(Gpa(0x5000), PageSize::Kib4, Flags::PRESENT | Flags::HUGE);
        assert_eq!(small.pat_index(Level::Pt), 4);
        let huge = Entry::from_raw(1 << 12 | 0b1_0000 | 0x80 | 1);
        assert_eq!(huge.pat_index(Level::Pd), 6);
        assert_eq!(huge.address(Level::Pd), Gpa(0));
        let keyed = huge.with_protection_key(11);
        assert_eq!(keyed.protection_key(), 11);
        assert_eq!(keyed.with_protection_key(0), huge);
    }

    #[test]
    fn made_entries_have_their_bits() {
        let flags = Flags::PRESENT | Flags::WRITABLE;
        assert_eq!(Entry::table(Gpa(0x1fff), flags).raw(), 0x1003);
        let huge = Entry::page(Gpa(0x40_0000), PageSize::Mib2, flags);
        assert_eq!(huge.raw(), 0x40_0083);
        assert_eq!(huge.letters(Level::Pd).to_string(), "P W . . . H . .");
        let small = Entry::page(Gpa(0), PageSize::Kib4, Flags::all());
        assert_eq!(small.letters(Level::Pt).to_string(), "P W U A D T G NX");
    }
}

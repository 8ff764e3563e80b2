//! The levels of a page-table tree, and how an address splits into one index for each.
//!
//! ```text
//!   63        57 56       48 47       39 38       30 29       21 20       12 11            0
//!  ┌────────────┬───────────┬───────────┬───────────┬───────────┬───────────┬───────────────┐
//!  │ sign of 56 │   PML5    │   PML4    │   PDPT    │    PD     │    PT     │    offset     │
//!  └────────────┴─────┬─────┴─────┬─────┴─────┬─────┴─────┬─────┴─────┬─────┴───────────────┘
//!   five levels       │ 9 bits    │ 9 bits    │ 9 bits    │ 9 bits    │ 9 bits
//!                     ▼           ▼           ▼           ▼           ▼
//!       CR3 ──────▶ table ────▶ table ────▶ table ────▶ table ────▶ table ────▶ page of 4 KiB
//!                                             └ huge ▶ 1 GiB└ huge ▶ 2 MiB
//! ```
//!
//! With four levels CR3 points at the PML4, and bits 63 to 48 are all the sign, bit 47.
//! (Intel SDM vol. 3A, 4.5.1 and 4.5.4, figures 4-8 to 4-11.)

use std::fmt;

use crate::memory::Gva;

/// Entries in a table: 512 of eight bytes fill a page.
pub const ENTRIES: usize = 512;

/// A level of the tree, named as Intel names the table there. `Pt` is the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Page table: an entry maps 4 KiB.
    Pt = 1,
    /// Page directory: an entry covers 2 MiB.
    Pd = 2,
    /// Page-directory-pointer table: an entry covers 1 GiB.
    Pdpt = 3,
    /// Page-map level 4: an entry covers 512 GiB.
    Pml4 = 4,
    /// Page-map level 5: an entry covers 256 TiB.
    Pml5 = 5,
}

impl Level {
    /// All levels, the lowest first.
    pub const ALL: [Self; 5] = [Self::Pt, Self::Pd, Self::Pdpt, Self::Pml4, Self::Pml5];

    /// The lowest bit of an address that this level's index is made of: 12, 21, 30, 39 or 48.
    #[must_use]
    pub const fn shift(self) -> u32 {
        3 + 9 * self as u32
    }

    /// The index, 0 to 511, that this level takes from `address`.
    #[must_use]
    pub const fn index(self, address: Gva) -> usize {
        ((address.0 >> self.shift()) & (ENTRIES as u64 - 1)) as usize
    }

    /// How many bytes of address space one entry covers.
    #[must_use]
    pub const fn span(self) -> u64 {
        1 << self.shift()
    }

    /// The level that this level's table entries point to.
    #[must_use]
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::Pt => None,
            Self::Pd => Some(Self::Pt),
            Self::Pdpt => Some(Self::Pd),
            Self::Pml4 => Some(Self::Pdpt),
            Self::Pml5 => Some(Self::Pml4),
        }
    }

    /// The size of a page that an entry at this level maps, where one can.
    #[must_use]
    pub const fn page_size(self) -> Option<PageSize> {
        match self {
            Self::Pt => Some(PageSize::Kib4),
            Self::Pd => Some(PageSize::Mib2),
            Self::Pdpt => Some(PageSize::Gib1),
            Self::Pml4 | Self::Pml5 => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pt => "PT",
            Self::Pd => "PD",
            Self::Pdpt => "PDPT",
            Self::Pml4 => "PML4",
            Self::Pml5 => "PML5",
        })
    }
}

/// The three sizes of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageSize {
    /// 4 KiB, mapped by a PT entry.
    Kib4,
    /// 2 MiB, mapped by a PD entry with the huge bit.
    Mib2,
    /// 1 GiB, mapped by a PDPT entry with the huge bit, where the processor can.
    Gib1,
}

impl PageSize {
    /// The level whose entry maps a page of this size.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Kib4 => Level::Pt,
            Self::Mib2 => Level::Pd,
            Self::Gib1 => Level::Pdpt,
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.level().span()
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kib4 => "4 KiB",
            Self::Mib2 => "2 MiB",
            Self::Gib1 => "1 GiB",
        })
    }
}

/// How deep the tree is (CR4.LA57).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Levels {
    /// Four levels, 48 bits of address.
    Four,
    /// Five levels, 57 bits of address.
    Five,
}

impl Levels {
    /// The level that CR3 points to.
    #[must_use]
    pub const fn top(self) -> Level {
        match self {
            Self::Four => Level::Pml4,
            Self::Five => Level::Pml5,
        }
    }

    /// How many levels there are, 4 or 5.
    #[must_use]
    pub const fn count(self) -> usize {
        self.top() as usize
    }

    /// Whether the bits above the tree's reach all equal the highest bit within it. An address
    /// that is not so raises #GP, or #SS through the stack, before any table is read.
    #[must_use]
    pub const fn is_canonical(self, address: Gva) -> bool {
        let unused = 64 - (self.top().shift() + 9);
        (address.0 as i64) << unused >> unused == address.0 as i64
    }

    /// The canonical address whose indices and offset are those of `address`.
    #[must_use]
    pub const fn canonical(self, address: Gva) -> Gva {
        let unused = 64 - (self.top().shift() + 9);
        Gva(((address.0 as i64) << unused >> unused) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_splits_into_its_indices() {
        // Index 1 in the PML5, 2 in the PML4, 3, 4, 5, and offset 6.
        let address = Gva(1 << 48 | 2 << 39 | 3 << 30 | 4 << 21 | 5 << 12 | 6);
        let split = Level::ALL.map(|level| level.index(address));
        assert_eq!(split, [5, 4, 3, 2, 1]);
        assert_eq!(address.page_offset(), 6);
    }

    #[test]
    fn spans_are_the_page_sizes() {
        assert_eq!(Level::Pt.span(), 4 << 10);
        assert_eq!(PageSize::Mib2.bytes(), 2 << 20);
        assert_eq!(PageSize::Gib1.bytes(), 1 << 30);
        assert_eq!(Level::Pml5.span(), 256 << 40);
    }

    #[test]
    fn canonical_addresses_repeat_their_sign() {
        for (address, four, five) in [
            (0, true, true),
            (0x0000_7fff_ffff_ffff, true, true),
            (0x0000_8000_0000_0000, false, true),
            (0xffff_7fff_ffff_ffff, false, true),
            (0xffff_8000_0000_0000, true, true),
            (0x0100_0000_0000_0000, false, false),
            (0xff00_0000_0000_0000, false, true),
            (u64::MAX, true, true),
        ] {
            assert_eq!(
                Levels::Four.is_canonical(Gva(address)),
                four,
                "{address:#x}"
            );
            assert_eq!(
                Levels::Five.is_canonical(Gva(address)),
                five,
                "{address:#x}"
            );
        }
        let high = Levels::Four.canonical(Gva(0x0000_8000_0000_0000));
        assert_eq!(high, Gva(0xffff_8000_0000_0000));
    }
}

//! Which pages a guest wrote: what a snapshot saves again, and what migration sends again.
//!
//! KVM finds out by taking the guest's right to write away: the first write to a page faults, KVM
//! notes the page and lets the guest go on. (On processors that log by themselves, Intel's PML, not
//! even that.) It hands the notes over in one of two forms (the kernel's `api.rst`, 4.8 and 8.29):
//!
//! ```text
//!   bitmap   one bit for each page of a slot          reading costs as much as there is memory
//!   ring     an entry for each page that was written  reading costs as much as was written; when
//!                                                     it is full, the vCPU exits
//! ```
//!
//! A page that was only read may be noted too, once, when KVM maps it writable at its first touch.
//! Only what vCPUs write is noted: what the VMM writes (a device, a loader) it knows itself.

use super::layout::{Layout, Region};
use super::{Gpa, PAGE_BYTES};

/// A set of pages of a guest's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyPages {
    /// For each region, bit `n % 64` of word `n / 64` for page `n`.
    regions: Vec<(Region, Vec<u64>)>,
}

impl DirtyPages {
    /// No pages of this layout.
    #[must_use]
    pub fn none(layout: &Layout) -> DirtyPages {
        let words = |region: &Region| (region.bytes / PAGE_BYTES).div_ceil(64) as usize;
        let regions = layout.regions().iter();
        DirtyPages {
            regions: regions
                .map(|region| (*region, vec![0; words(region)]))
                .collect(),
        }
    }

    /// Adds page `page` of slot `slot`; says whether there is such a page.
    pub fn insert(&mut self, slot: u32, page: u64) -> bool {
        match self.regions.get_mut(slot as usize) {
            Some((region, words)) if page < region.bytes / PAGE_BYTES => {
                words[(page / 64) as usize] |= 1 << (page % 64);
                true
            }
            _ => false,
        }
    }

    /// Adds the pages of a slot by KVM's bitmap. What is beyond the slot's end is ignored.
    pub fn insert_bitmap(&mut self, slot: u32, bitmap: &[u64]) {
        let Some((region, words)) = self.regions.get_mut(slot as usize) else {
            return;
        };
        for (word, more) in words.iter_mut().zip(bitmap) {
            *word |= more;
        }
        let pages = region.bytes / PAGE_BYTES;
        if let (Some(last), 1..) = (words.last_mut(), pages % 64) {
            *last &= (1 << (pages % 64)) - 1;
        }
    }

    /// Whether the page that holds `address` is among them.
    #[must_use]
    pub fn contains(&self, address: Gpa) -> bool {
        self.regions.iter().any(|(region, words)| {
            let page = address.0.wrapping_sub(region.start.0) / PAGE_BYTES;
            region.contains(address) && words[(page / 64) as usize] >> (page % 64) & 1 == 1
        })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        let words = self.regions.iter().flat_map(|(_, words)| words);
        words.map(|word| u64::from(word.count_ones())).sum()
    }

    /// Their first addresses, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Gpa> + '_ {
        self.regions.iter().flat_map(|(region, words)| {
            let pages = (0..region.bytes / PAGE_BYTES)
                .filter(|page| words[(page / 64) as usize] >> (page % 64) & 1 == 1);
            pages.map(|page| Gpa(region.start.0 + page * PAGE_BYTES))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_by_their_guest_physical_address() {
        let regions = [
            Region::memory(Gpa(0x10_0000), 70 * PAGE_BYTES),
            Region::memory(Gpa(0x1000), PAGE_BYTES),
        ];
        let mut dirty = DirtyPages::none(&Layout::new(regions).unwrap());
        assert!(dirty.insert(1, 69) && dirty.insert(0, 0) && dirty.insert(0, 0));
        assert!(!dirty.insert(1, 70) && !dirty.insert(0, u64::MAX) && !dirty.insert(2, 0));
        dirty.insert_bitmap(1, &[2, !0]);
        dirty.insert_bitmap(7, &[!0]);
        assert_eq!(dirty.count(), 1 + 1 + 6);
        let first: Vec<Gpa> = dirty.iter().take(3).collect();
        assert_eq!(first, [Gpa(0x1000), Gpa(0x10_1000), Gpa(0x14_0000)]);
        assert!(dirty.contains(Gpa(0x10_1fff)) && !dirty.contains(Gpa(0x10_2000)));
        assert!(!dirty.contains(Gpa(0)) && !dirty.contains(Gpa(u64::MAX)));
    }
}

//! What guest memory costs the host, region by region, as the kernel counts it: `/proc/self/smaps`
//! (`Documentation/filesystems/proc.rst`).
//!
//! ```text
//!   bytes       what the guest was given
//!   └─ resident   what it touched: pages of the machine behind it
//!      ├─ shared    pages that somebody else maps too, such as an image's
//!      ├─ dirty     pages that somebody wrote
//!      └─ copied    pages that were an image's until this guest wrote there
//!   PSS         the resident pages, each divided by how many map it: it adds up over machines
//! ```

use super::{Gpa, GuestMemory, Hva, MemoryError};
use std::fs;
use std::iter::Sum;
use std::ops::Add;

/// Where the kernel tells it.
const SMAPS: &str = "/proc/self/smaps";

/// What memory costs, in bytes. See the module's drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Guest-physical memory.
    pub bytes: u64,
    /// Behind which there are pages of the machine.
    pub resident_bytes: u64,
    /// The proportional set size.
    pub pss_bytes: u64,
    /// Resident and mapped elsewhere too.
    pub shared_bytes: u64,
    /// Resident and written.
    pub dirty_bytes: u64,
    /// Resident and copied on write.
    pub copied_bytes: u64,
    /// Resident in huge pages.
    pub huge_bytes: u64,
    /// In swap.
    pub swapped_bytes: u64,
}

impl Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            bytes: self.bytes + other.bytes,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            pss_bytes: self.pss_bytes + other.pss_bytes,
            shared_bytes: self.shared_bytes + other.shared_bytes,
            dirty_bytes: self.dirty_bytes + other.dirty_bytes,
            copied_bytes: self.copied_bytes + other.copied_bytes,
            huge_bytes: self.huge_bytes + other.huge_bytes,
            swapped_bytes: self.swapped_bytes + other.swapped_bytes,
        }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Usage>>(usages: I) -> Usage {
        usages.fold(Usage::default(), Add::add)
    }
}

/// One region's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionUsage {
    /// Its memory slot.
    pub slot: u32,
    /// Its first address.
    pub start: Gpa,
    /// What it costs.
    pub usage: Usage,
}

impl GuestMemory {
    /// What each region costs at this moment. Takes the kernel a look at every page.
    ///
    /// # Errors
    /// [`MemoryError::Proc`] where `/proc` is not mounted or the kernel keeps no such numbers.
    pub fn usage(&self) -> Result<Vec<RegionUsage>, MemoryError> {
        let smaps = fs::read(SMAPS).map_err(|source| MemoryError::Proc {
            path: SMAPS.into(),
            source,
        })?;
        let smaps = String::from_utf8_lossy(&smaps);
        let mut usages: Vec<RegionUsage> = Vec::new();
        let slots: Vec<_> = self.slots().collect();
        for slot in &slots {
            let usage = Usage {
                bytes: slot.bytes,
                ..Usage::default()
            };
            usages.push(RegionUsage {
                slot: slot.number,
                start: slot.gpa,
                usage,
            });
        }
        let mut current = None;
        for line in smaps.lines() {
            if let Some((start, _)) = mapping(line) {
                // Each region has a file of its own, so that no mapping spans two of them.
                current = slots.iter().position(|slot| {
                    start
                        .checked_sub(slot.hva)
                        .is_some_and(|offset| offset < slot.bytes)
                });
            } else if let (Some(index), Some((name, bytes))) = (current, field(line)) {
                count(&mut usages[index].usage, name, bytes);
            }
        }
        Ok(usages)
    }
}

/// A mapping's first line: `7f0000000000-7f0000001000 rw-p …`.
fn mapping(line: &str) -> Option<(Hva, Hva)> {
    let (range, _) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok().map(Hva);
    Some((address(start)?, address(end)?))
}

/// One of its numbers: `Rss:   12 kB`.
fn field(line: &str) -> Option<(&str, u64)> {
    let (name, rest) = line.split_once(':')?;
    let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((name, kib * 1024))
}

fn count(usage: &mut Usage, name: &str, bytes: u64) {
    match name {
        "Rss" => usage.resident_bytes += bytes,
        "Pss" => usage.pss_bytes += bytes,
        "Shared_Clean" => usage.shared_bytes += bytes,
        "Shared_Dirty" => {
            usage.shared_bytes += bytes;
            usage.dirty_bytes += bytes;
        }
        "Private_Dirty" => usage.dirty_bytes += bytes,
        "Anonymous" => usage.copied_bytes += bytes,
        "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped" => usage.huge_bytes += bytes,
        "Swap" => usage.swapped_bytes += bytes,
        // Reserved huge pages are in none of the sums above.
        "Private_Hugetlb" => {
            usage.resident_bytes += bytes;
            usage.pss_bytes += bytes;
            usage.huge_bytes += bytes;
        }
        "Shared_Hugetlb" => {
            usage.resident_bytes += bytes;
            usage.shared_bytes += bytes;
            usage.huge_bytes += bytes;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Layout, PAGE_BYTES, Pages, Region};

    fn usage(memory: &GuestMemory) -> Usage {
        memory
            .usage()
            .unwrap()
            .iter()
            .map(|region| region.usage)
            .sum()
    }

    #[test]
    fn untouched_memory_costs_nothing() {
        let usage = usage(&GuestMemory::new(1 << 40).unwrap());
        let bytes = 1 << 40;
        assert_eq!(
            usage,
            Usage {
                bytes,
                ..Usage::default()
            }
        );
    }

    #[test]
    fn each_region_is_counted_for_itself() {
        let regions = [0, 64].map(|page| Region::memory(Gpa(page * PAGE_BYTES), 32 * PAGE_BYTES));
        let memory = GuestMemory::with_layout(Layout::new(regions).unwrap(), Pages::Small).unwrap();
        for page in [0, 1, 2, 64] {
            memory.write(Gpa(page * PAGE_BYTES), &[1]).unwrap();
        }
        let usage = memory.usage().unwrap();
        let pages = |index: usize| usage[index].usage.dirty_bytes / PAGE_BYTES;
        assert_eq!((pages(0), pages(1)), (3, 1));
        assert_eq!(usage[1].start, Gpa(64 * PAGE_BYTES));
        assert_eq!(usage[0].usage.resident_bytes, 3 * PAGE_BYTES);
        assert_eq!(usage[0].usage.pss_bytes, 3 * PAGE_BYTES);
        memory.release(Gpa(0), 2 * PAGE_BYTES).unwrap();
        assert_eq!(memory.usage().unwrap()[0].usage.resident_bytes, PAGE_BYTES);
    }

    #[test]
    fn an_image_is_shared_until_it_is_written() {
        let memory = GuestMemory::new(8 * PAGE_BYTES).unwrap();
        memory.write(Gpa(0), &[1; 8 * 4096]).unwrap();
        let image = memory.freeze().unwrap();
        let (a, b) = (image.memory().unwrap(), image.memory().unwrap());
        let mut bytes = [0; 8 * 4096];
        for memory in [&a, &b] {
            memory.read(Gpa(0), &mut bytes).unwrap();
        }
        let pages = |usage: Usage| {
            [
                usage.resident_bytes,
                usage.shared_bytes,
                usage.copied_bytes,
                usage.pss_bytes,
            ]
            .map(|bytes| bytes / PAGE_BYTES)
        };
        assert_eq!(pages(usage(&a)), [8, 8, 0, 4]);
        a.write(Gpa(0), &[2; 2 * 4096]).unwrap();
        // Two pages of its own, and six that count half.
        assert_eq!(pages(usage(&a)), [8, 6, 2, 5]);
        // Of b's eight, nobody else maps two any more.
        assert_eq!(pages(usage(&b)), [8, 6, 0, 5]);
    }
}

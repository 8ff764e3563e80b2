//! Where a guest's memory is: regions of guest-physical addresses, and the holes between them.
//!
//! A machine's memory is not one piece. Addresses below 4 GiB also name devices, because the
//! devices of 32-bit machines had to be somewhere; whoever has more memory than fits below them
//! finds the rest above 4 GiB. An access to a hole is no memory access: it exits to the VMM, as
//! memory-mapped I/O.
//!
//! ```text
//!  a bare guest                          Linux
//!
//!  0x0000_0000 ┌──────────────┐          0x0000_0000 ┌──────────────┐ LOW
//!              │ memory       │                      │ low memory   │ (640 KiB to 1 MiB: ours too,
//!              │ (its map is  │                      │ up to 3 GiB  │  but the boot protocol's map
//!              │  drawn in    │          0xc000_0000 ├──────────────┤  HOLE keeps Linux away there)
//!              │  ringside_   │                      │ hole:        │
//!              │  abi::layout)│          0xd000_0000 │  virtio MMIO │ VIRTIO
//!        bytes └──────────────┘          0xfec0_0000 │  I/O APIC    │ IO_APIC
//!                                        0xfee0_0000 │  local APIC  │ LOCAL_APIC
//!                                        0xfffb_d000 │  KVM's TSS   │ KVM_TSS (Intel, 3 pages)
//!                                      0x1_0000_0000 ├──────────────┤ HIGH
//!                                                    │ high memory: │
//!                                                    │ the rest     │
//!                                                    └──────────────┘
//! ```

use super::{Gpa, PAGE_BYTES};
use thiserror::Error;

/// Where low memory begins.
pub const LOW: Gpa = Gpa(0);
/// Where low memory ends at the latest, and the hole for devices begins.
pub const HOLE: Gpa = Gpa(0xc000_0000);
/// Where memory-mapped virtio devices are, one page each.
pub const VIRTIO: Gpa = Gpa(0xd000_0000);
/// The I/O APIC's registers (Intel 82093AA, 3.0).
pub const IO_APIC: Gpa = Gpa(0xfec0_0000);
/// The local APIC's registers (Intel SDM vol. 3A, 12.4.1).
pub const LOCAL_APIC: Gpa = Gpa(0xfee0_0000);
/// Three pages that KVM wants on Intel processors (`KVM_SET_TSS_ADDR` in the kernel's `api.rst`).
pub const KVM_TSS: Gpa = Gpa(0xfffb_d000);
/// Where memory goes on above the hole.
pub const HIGH: Gpa = Gpa(1 << 32);

/// Guest-physical addresses have at most so many bits (Intel SDM vol. 3A, 5.1.4).
const ADDRESS_BITS: u32 = 52;

/// The most regions of a layout. KVM's own limit is 32,764 slots; nobody needs as many.
pub const REGIONS_MAX: usize = 64;

/// A piece of guest-physical memory without holes: one memory slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first address.
    pub start: Gpa,
    /// Its length.
    pub bytes: u64,
    /// Whether a guest's write exits to the VMM (as MMIO) instead of writing, as in a ROM.
    pub read_only: bool,
}

impl Region {
    /// Ordinary memory.
    #[must_use]
    pub const fn memory(start: Gpa, bytes: u64) -> Region {
        Region {
            start,
            bytes,
            read_only: false,
        }
    }

    /// Memory that the guest cannot write.
    #[must_use]
    pub const fn read_only(start: Gpa, bytes: u64) -> Region {
        Region {
            start,
            bytes,
            read_only: true,
        }
    }

    /// One past the last address.
    #[must_use]
    pub const fn end(self) -> Gpa {
        Gpa(self.start.0 + self.bytes)
    }

    /// Whether `address` is in it.
    #[must_use]
    pub const fn contains(self, address: Gpa) -> bool {
        address.0 >= self.start.0 && address.0 - self.start.0 < self.bytes
    }
}

/// A layout that no machine can have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// A length that is zero or not of whole pages, or a start within a page.
    #[error(
        "cannot give a guest {bytes} bytes of memory at guest-physical {start}: regions are of whole pages, so give a multiple of 4096, and at least one page"
    )]
    Pages {
        /// The region's start.
        start: Gpa,
        /// Its length.
        bytes: u64,
    },
    /// An end beyond what addresses can name.
    #[error(
        "{bytes} bytes of memory at guest-physical {start} end beyond the last address, 2^{ADDRESS_BITS} - 1; give the guest less"
    )]
    Beyond {
        /// The region's start.
        start: Gpa,
        /// Its length.
        bytes: u64,
    },
    /// Two regions at one address.
    #[error(
        "the memory regions at guest-physical {first} and {second} overlap; move or shorten one"
    )]
    Overlap {
        /// The lower region's start.
        first: Gpa,
        /// The higher one's.
        second: Gpa,
    },
    /// None, or too many.
    #[error("a guest cannot have {count} memory regions; give it 1 to {REGIONS_MAX}")]
    Count {
        /// How many.
        count: usize,
    },
}

/// The regions of a guest's memory, by address, none over another.
///
/// ```
/// use ringside_vmm::memory::{Gpa, Layout, layout::HIGH};
///
/// let small = Layout::linux(512 << 20)?;
/// assert_eq!(small.regions().len(), 1);
/// let large = Layout::linux(4 << 30)?;
/// assert_eq!(large.regions()[1].start, HIGH); // the last GiB, above the hole
/// assert_eq!(large.bytes(), 4 << 30);
/// # Ok::<(), ringside_vmm::memory::LayoutError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    regions: Vec<Region>,
}

impl Layout {
    /// These regions, in any order. Neighbours may touch, and stay two slots.
    ///
    /// # Errors
    /// What no machine can have: see [`LayoutError`].
    pub fn new(regions: impl IntoIterator<Item = Region>) -> Result<Layout, LayoutError> {
        let mut regions: Vec<Region> = regions.into_iter().collect();
        if !(1..=REGIONS_MAX).contains(&regions.len()) {
            return Err(LayoutError::Count {
                count: regions.len(),
            });
        }
        for &Region { start, bytes, .. } in &regions {
            if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) || !start.is_aligned(PAGE_BYTES) {
                return Err(LayoutError::Pages { start, bytes });
            }
            let end = start.checked_add(bytes);
            if end.is_none_or(|end| end.0 > 1 << ADDRESS_BITS) {
                return Err(LayoutError::Beyond { start, bytes });
            }
        }
        regions.sort_unstable_by_key(|region| region.start);
        match regions.windows(2).find(|two| two[0].end() > two[1].start) {
            Some(two) => Err(LayoutError::Overlap {
                first: two[0].start,
                second: two[1].start,
            }),
            None => Ok(Layout { regions }),
        }
    }

    /// A bare guest's: one region from 0 on.
    ///
    /// # Errors
    /// A length that is zero, not of whole pages, or beyond all addresses.
    pub fn bare(bytes: u64) -> Result<Layout, LayoutError> {
        Layout::new([Region::memory(LOW, bytes)])
    }

    /// Linux's: low memory up to [`HOLE`], the rest from [`HIGH`] on.
    ///
    /// # Errors
    /// As of [`bare`](Self::bare).
    pub fn linux(bytes: u64) -> Result<Layout, LayoutError> {
        let low = bytes.min(HOLE.0);
        let high = (bytes > low).then(|| Region::memory(HIGH, bytes - low));
        Layout::new([Region::memory(LOW, low)].into_iter().chain(high))
    }

    /// The regions in ascending order; a region's index is its slot's number.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Bytes of memory in all, without the holes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.regions.iter().map(|region| region.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_finds_its_memory_on_both_sides_of_the_hole() {
        let regions = |bytes| Layout::linux(bytes).unwrap().regions().to_vec();
        assert_eq!(regions(HOLE.0), [Region::memory(LOW, HOLE.0)]);
        assert_eq!(
            regions(HOLE.0 + PAGE_BYTES),
            [
                Region::memory(LOW, HOLE.0),
                Region::memory(HIGH, PAGE_BYTES)
            ]
        );
        for device in [VIRTIO, IO_APIC, LOCAL_APIC, KVM_TSS] {
            let covers = |region: &Region| region.contains(device);
            assert!(!regions(64 << 30).iter().any(covers), "{device}");
        }
    }

    #[test]
    fn regions_are_sorted_and_may_touch() {
        let (a, b) = (
            Region::memory(Gpa(0x3000), 0x1000),
            Region::read_only(Gpa(0x2000), 0x1000),
        );
        assert_eq!(Layout::new([a, b]).unwrap().regions(), [b, a]);
    }

    #[test]
    fn what_no_machine_can_have_is_refused() {
        let new = |regions: &[(u64, u64)]| {
            let region = |&(start, bytes)| Region::memory(Gpa(start), bytes);
            Layout::new(regions.iter().map(region)).unwrap_err()
        };
        assert_eq!(new(&[]), LayoutError::Count { count: 0 });
        assert_eq!(
            new(&[(0, 4096); REGIONS_MAX + 1]),
            LayoutError::Count { count: 65 }
        );
        for (start, bytes) in [(0, 0), (0, 4097), (1, 4096), (0x800, 0x800)] {
            let start_gpa = Gpa(start);
            assert_eq!(
                new(&[(start, bytes)]),
                LayoutError::Pages {
                    start: start_gpa,
                    bytes
                }
            );
        }
        for (start, bytes) in [(1 << 52, 4096), (!0xfff, 4096), (4096, !0xfff)] {
            let error = new(&[(start, bytes)]);
            assert!(matches!(error, LayoutError::Beyond { .. }), "{error}");
        }
        let overlap = new(&[(0x2000, 0x1000), (0, 0x2001 + 0xfff)]);
        assert_eq!(
            overlap,
            LayoutError::Overlap {
                first: Gpa(0),
                second: Gpa(0x2000)
            }
        );
    }
}

//! Pages go back to the host while the guest runs, and come again: what a balloon does.
//!
//! What the guest does not need, it tells the hypervisor (an *inflating balloon*: memory that looks
//! used to the guest and is free for the host). The guest-physical range stays: its next touch is an
//! ordinary fault, which the host answers with a fresh page of zeros.
//!
//! ```text
//!   fresh memory    the file's page goes (a hole is punched), in every mapping of it
//!   from an image   the page may be everybody's, so only this guest's view of it goes: the second
//!                   half of an image's file is a hole, zeros for ever, and is mapped in its place
//!
//!     file    │ image: program, tables, … │ hole                       │
//!     guest   │ copy-on-write │ zeros ◀───┼──── of the same length ─── │
//! ```

use super::guest::{MemoryError, Origin};
use super::{Gpa, GuestMemory, PAGE_BYTES, Pages};
use crate::sys::memfd;
use std::io;
use std::sync::atomic::Ordering;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

impl GuestMemory {
    /// Gives a range's pages back to the host. The range reads as zeros from then on, parts of
    /// pages included, and can be written as before.
    ///
    /// # Errors
    /// [`MemoryError::Outside`] if not all of the range is memory, and nothing is released then;
    /// [`MemoryError::Release`] for a range that is read-only to the guest, and for huge pages:
    /// those are reserved, and the pool might not give one again.
    pub fn release(&self, address: Gpa, bytes: u64) -> Result<(), MemoryError> {
        if !self.contains(address, bytes) {
            return Err(MemoryError::Outside {
                address: address.0,
                bytes,
            });
        }
        let refused = |source| MemoryError::Release {
            address,
            bytes,
            source,
        };
        let errno = |number| refused(io::Error::from_raw_os_error(number));
        let (start, end) = (address.0, address.0 + bytes);
        let regions = self.layout().regions().iter();
        let mut touched = regions.filter(|region| region.start.0 < end && start < region.end().0);
        if touched.any(|region| region.read_only) {
            return Err(errno(libc::EROFS));
        }
        if self.pages() == Pages::Huge {
            return Err(errno(libc::EOPNOTSUPP));
        }
        for region in self.inner().iter() {
            let base = region.start_addr().0;
            let (from, to) = (start.max(base), end.min(base + region.len()));
            if from < to {
                self.release_in(region, from - base, to - base)
                    .map_err(refused)?;
            }
        }
        Ok(())
    }

    /// The same for the offsets `from..to` of one region.
    fn release_in(
        &self,
        region: &vm_memory::GuestRegionMmap<()>,
        from: u64,
        to: u64,
    ) -> io::Result<()> {
        let file = region
            .file_offset()
            .expect("every region has a file")
            .file();
        match self.origin() {
            Origin::Fresh => {
                self.release_mapped(region, from, to)?;
                memfd::punch_hole(file, from, to - from)
            }
            Origin::Image => {
                let (first, last) = (
                    from.next_multiple_of(PAGE_BYTES),
                    to / PAGE_BYTES * PAGE_BYTES,
                );
                if first >= last || !self.may_split() {
                    return zero(region, from, to);
                }
                zero(region, from, first)?;
                memfd::map_over(region, first, last - first, file, region.len() + first)?;
                zero(region, last, to)
            }
        }
    }

    /// Takes files of others' out of the way, but for parts of their pages, which are zeroed.
    fn release_mapped(
        &self,
        region: &vm_memory::GuestRegionMmap<()>,
        from: u64,
        to: u64,
    ) -> io::Result<()> {
        let base = region.start_addr().0;
        let first = from.next_multiple_of(PAGE_BYTES);
        let last = to / PAGE_BYTES * PAGE_BYTES;
        if first >= last {
            return zero(region, from, to);
        }
        self.unmap_files(base + first, base + last)?;
        zero(region, from, first)?;
        zero(region, last, to)
    }
}

/// How many ranges of one copy's memory are replaced by others. Each may split a mapping into three,
/// and a process has 65,530 mappings at most (`vm.max_map_count`): a guest that gives back every
/// other page must not take the last one from its VMM.
const SPLITS_MAX: u32 = 8192;

impl GuestMemory {
    /// Whether another range may be replaced; what may not is only zeroed, and stays taken.
    fn may_split(&self) -> bool {
        let another = |count| (count < SPLITS_MAX).then_some(count + 1);
        self.splits
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, another)
            .is_ok()
    }
}

/// Writes zeros over the range from `from` to `to`, a page at a time.
fn zero(region: &vm_memory::GuestRegionMmap<()>, from: u64, to: u64) -> io::Result<()> {
    use vm_memory::Bytes;
    let zeros = [0; PAGE_BYTES as usize];
    for start in (from..to).step_by(PAGE_BYTES as usize) {
        let bytes = (to - start).min(PAGE_BYTES) as usize;
        region
            .write_slice(&zeros[..bytes], MemoryRegionAddress(start))
            .map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Layout, Region};

    /// Two regions with a hole and a ROM: every byte 7, fresh or from an image.
    fn memories() -> [GuestMemory; 2] {
        let layout = Layout::new([
            Region::memory(Gpa(0), 4 * PAGE_BYTES),
            Region::memory(Gpa(4 * PAGE_BYTES), PAGE_BYTES),
            Region::read_only(Gpa(8 * PAGE_BYTES), PAGE_BYTES),
        ]);
        let fresh = || {
            let memory = GuestMemory::with_layout(layout.clone().unwrap(), Pages::Small).unwrap();
            for page in [0, 1, 2, 3, 4, 8] {
                memory.write(Gpa(page * PAGE_BYTES), &[7; 4096]).unwrap();
            }
            memory
        };
        [fresh(), fresh().freeze().unwrap().memory().unwrap()]
    }

    #[test]
    fn what_was_released_reads_as_zeros_and_can_be_written_again() {
        for memory in memories() {
            // From within page 1 to within page 4, across two regions.
            let (start, end) = (PAGE_BYTES + 100, 4 * PAGE_BYTES + 50);
            memory.release(Gpa(start), end - start).unwrap();
            let mut bytes = vec![0; 5 * PAGE_BYTES as usize];
            memory.read(Gpa(0), &mut bytes).unwrap();
            for (at, byte) in bytes.iter().enumerate() {
                let released = (start..end).contains(&(at as u64));
                assert_eq!(
                    *byte,
                    if released { 0 } else { 7 },
                    "{:?} {at:#x}",
                    memory.origin()
                );
            }
            memory.write(Gpa(2 * PAGE_BYTES), b"again").unwrap();
            memory.release(Gpa(2 * PAGE_BYTES + 1), 3).unwrap();
            let mut back = [9; 5];
            memory.read(Gpa(2 * PAGE_BYTES), &mut back).unwrap();
            assert_eq!(&back, b"a\0\0\0n");
        }
    }

    #[test]
    fn a_guest_that_gives_back_every_other_page_leaves_its_vmm_mappings() {
        let pages = 2 * u64::from(SPLITS_MAX) + 2000;
        let image = GuestMemory::new(pages * PAGE_BYTES).unwrap();
        image.write(Gpa(PAGE_BYTES), &[7; 4096]).unwrap();
        image
            .write(Gpa((pages - 1) * PAGE_BYTES), &[7; 4096])
            .unwrap();
        let memory = image.freeze().unwrap().memory().unwrap();
        let start = memory.host_address(Gpa(0)).unwrap().0;
        for page in (1..pages).step_by(2) {
            memory.release(Gpa(page * PAGE_BYTES), PAGE_BYTES).unwrap();
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let own = maps.lines().filter(|line| {
            let (from, _) = line.split_once('-').unwrap();
            let from = u64::from_str_radix(from, 16).unwrap();
            (start..start + pages * PAGE_BYTES).contains(&from)
        });
        let own = own.count() as u32;
        assert!((SPLITS_MAX..=2 * SPLITS_MAX + 1).contains(&own), "{own}");
        for page in [1, pages - 1] {
            let word: u64 = memory.read_value(Gpa(page * PAGE_BYTES)).unwrap();
            assert_eq!(word, 0, "page {page}");
        }
    }

    #[test]
    fn holes_and_read_only_memory_are_not_released() {
        for memory in memories() {
            for (start, bytes) in [(4, 2), (5, 1), (1 << 40, 1)] {
                let error = memory.release(Gpa(start * PAGE_BYTES), bytes * PAGE_BYTES);
                assert!(
                    matches!(error, Err(MemoryError::Outside { .. })),
                    "{error:?}"
                );
            }
            assert!(memory.release(Gpa(1), u64::MAX).is_err());
            let error = memory.release(Gpa(8 * PAGE_BYTES), 1).unwrap_err();
            assert!(error.to_string().contains("Read-only"), "{error}");
            let mut byte = [0];
            memory.read(Gpa(4 * PAGE_BYTES), &mut byte).unwrap();
            assert_eq!(byte, [7], "nothing was released");
        }
    }
}

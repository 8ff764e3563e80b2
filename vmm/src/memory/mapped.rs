//! Files as guest memory: a kernel or an initramfs is not copied there but mapped, copy-on-write, so
//! that a page of it takes time and memory when it is touched, and all guests share it until they write.
//!
//! ```text
//!   file            │ part of a page │ whole pages             │ part of a page
//!   guest memory    │ copied         │ mapped (`MAP_PRIVATE`)  │ copied
//! ```

use super::{Gpa, GuestMemory, MemoryError, PAGE_BYTES, Pages};
use crate::sys::memfd;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{MutexGuard, PoisonError};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap};

impl GuestMemory {
    /// Shows `bytes` of a file, from `offset` on, at `start`. The file must not become shorter: who
    /// touches what is gone is ended by a signal, and a vCPU by an error.
    ///
    /// # Errors
    /// [`MemoryError::Outside`] if not all of the range is in one region; [`MemoryError::File`] if the
    /// file cannot be read or mapped, or ends before.
    pub fn map_file(
        &self,
        start: Gpa,
        file: &File,
        offset: u64,
        bytes: u64,
    ) -> Result<(), MemoryError> {
        let failed = |source| MemoryError::File {
            address: start,
            bytes,
            source,
        };
        let outside = MemoryError::Outside {
            address: start.0,
            bytes,
        };
        let end = start.checked_add(bytes);
        let region = self.inner().iter().find(|region| {
            let base = region.start_addr().0;
            start.0 >= base && end.is_some_and(|end| end.0 <= base + region.len())
        });
        let (Some(region), Some(end)) = (region, end) else {
            return Err(outside);
        };
        if offset
            .checked_add(bytes)
            .is_none_or(|end| file.metadata().is_ok_and(|file| end > file.len()))
        {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let (first, last) = (
            start.0.next_multiple_of(PAGE_BYTES),
            end.0 / PAGE_BYTES * PAGE_BYTES,
        );
        // Pages can be shown at pages only; huge ones are not replaced in part.
        let in_step = start.page_offset() == offset % PAGE_BYTES;
        if !in_step || first >= last || self.pages() == Pages::Huge {
            return self.copy_file(start, file, offset, bytes);
        }
        let base = region.start_addr().0;
        let skipped = first - start.0;
        memfd::map_over(region, first - base, last - first, file, offset + skipped)
            .map_err(failed)?;
        self.mapped_ranges().push(first..last);
        self.copy_file(start, file, offset, skipped)?;
        self.copy_file(Gpa(last), file, offset + (last - start.0), end.0 - last)
    }

    /// Maps its own file again where another one was, within whole pages of `start..end`.
    pub(super) fn unmap_files(&self, start: u64, end: u64) -> io::Result<()> {
        let mut ranges = self.mapped_ranges();
        let mut rest = Vec::new();
        for range in ranges.drain(..) {
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from >= to {
                rest.push(range);
                continue;
            }
            let pieces = [range.start..from, to..range.end];
            rest.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
            let region = self.region_of(from);
            memfd::map_own(region, from - region.start_addr().0, to - from)?;
        }
        *ranges = rest;
        Ok(())
    }

    /// Moves what such files show into memory's own file.
    pub(super) fn fold_files(&self) -> io::Result<()> {
        let ranges = self.mapped_ranges().clone();
        let mut piece = [0; PAGE_BYTES as usize];
        for range in &ranges {
            let region = self.region_of(range.start);
            let own = region
                .file_offset()
                .expect("every region has a file")
                .file();
            for at in range.clone().step_by(piece.len()) {
                self.read(Gpa(at), &mut piece).map_err(io::Error::other)?;
                if piece.iter().any(|byte| *byte != 0) {
                    own.write_all_at(&piece, at - region.start_addr().0)?;
                }
            }
            self.unmap_files(range.start, range.end)?;
        }
        Ok(())
    }

    fn region_of(&self, address: u64) -> &GuestRegionMmap<()> {
        let region = self.inner().find_region(GuestAddress(address));
        region.expect("what is mapped is in a region")
    }

    pub(super) fn mapped_ranges(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy_file(
        &self,
        start: Gpa,
        file: &File,
        offset: u64,
        bytes: u64,
    ) -> Result<(), MemoryError> {
        let mut piece = vec![0; (64 << 10).min(bytes) as usize];
        let mut done = 0;
        while done < bytes {
            let len = piece.len().min((bytes - done) as usize);
            file.read_exact_at(&mut piece[..len], offset + done)
                .map_err(|source| MemoryError::File {
                    address: start,
                    bytes,
                    source,
                })?;
            self.write(Gpa(start.0 + done), &piece[..len])?;
            done += len as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Layout;
    use crate::memory::Region;
    use std::io::Write;

    const PAGE: u64 = PAGE_BYTES;

    /// A file of pages of 1s, 2s, …
    fn numbered(pages: u8) -> File {
        let mut file = memfd::create(c"numbered", 0).unwrap();
        for page in 1..=pages {
            file.write_all(&[page; PAGE as usize]).unwrap();
        }
        file
    }

    fn byte(memory: &GuestMemory, address: u64) -> u8 {
        memory.read_value(Gpa(address)).unwrap()
    }

    #[test]
    fn any_part_of_a_file_is_shown_anywhere() {
        let file = numbered(4);
        let content: Vec<u8> = (1..=4).flat_map(|page| [page; PAGE as usize]).collect();
        for start in [0, 1, PAGE - 1, PAGE, PAGE + 7] {
            for offset in [0, 1, 7, PAGE - 1, PAGE] {
                for bytes in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE - 1] {
                    let memory = GuestMemory::new(8 * PAGE).unwrap();
                    memory.map_file(Gpa(start), &file, offset, bytes).unwrap();
                    let mut all = vec![0; 8 * PAGE as usize];
                    memory.read(Gpa(0), &mut all).unwrap();
                    let mut expected = vec![0; 8 * PAGE as usize];
                    expected[start as usize..(start + bytes) as usize]
                        .copy_from_slice(&content[offset as usize..(offset + bytes) as usize]);
                    assert!(all == expected, "{start} {offset} {bytes}");
                }
            }
        }
    }

    #[test]
    fn a_guest_that_writes_does_not_change_the_file() {
        let file = numbered(2);
        let memory = GuestMemory::new(2 * PAGE).unwrap();
        memory.map_file(Gpa(0), &file, 0, 2 * PAGE).unwrap();
        memory.write(Gpa(PAGE), &[9]).unwrap();
        let mut page = [0; 1];
        file.read_exact_at(&mut page, PAGE).unwrap();
        assert_eq!((page, byte(&memory, PAGE)), ([2], 9));
    }

    #[test]
    fn what_is_given_back_reads_as_zeros() {
        let file = numbered(4);
        let memory = GuestMemory::new(6 * PAGE).unwrap();
        memory.map_file(Gpa(PAGE), &file, 0, 4 * PAGE).unwrap();
        memory.release(Gpa(2 * PAGE), PAGE + 1).unwrap();
        let page = |n| byte(&memory, n * PAGE);
        assert_eq!([1, 2, 4].map(page), [1, 0, 4]);
        assert_eq!(
            (byte(&memory, 3 * PAGE), byte(&memory, 3 * PAGE + 1)),
            (0, 3)
        );
        memory.write(Gpa(2 * PAGE), &[7]).unwrap();
        assert_eq!(page(2), 7);
    }

    #[test]
    fn an_image_of_memory_has_what_files_show() {
        let file = numbered(2);
        let memory = GuestMemory::new(4 * PAGE).unwrap();
        memory.map_file(Gpa(PAGE), &file, 0, 2 * PAGE).unwrap();
        memory.write(Gpa(PAGE), &[9]).unwrap();
        let copy = memory.freeze().unwrap().memory().unwrap();
        assert_eq!([0, 1, 2, 3].map(|n| byte(&copy, n * PAGE)), [0, 9, 2, 0]);
        assert_eq!(byte(&copy, PAGE + 1), 1);
    }

    #[test]
    fn ranges_that_are_not_there_are_refused() {
        let file = numbered(2);
        let layout = [
            Region::memory(Gpa(0), PAGE),
            Region::memory(Gpa(PAGE), PAGE),
        ];
        let memory = GuestMemory::with_layout(Layout::new(layout).unwrap(), Pages::Small).unwrap();
        for (start, offset, bytes) in [
            (0, 0, 2 * PAGE),
            (2 * PAGE, 0, 1),
            (u64::MAX, 0, 2),
            (0, 2 * PAGE, 1),
            (0, u64::MAX, 2),
            (0, 1, u64::MAX),
        ] {
            let error = memory.map_file(Gpa(start), &file, offset, bytes);
            assert!(error.is_err(), "{start} {offset} {bytes}");
        }
    }
}

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
use std::os::unix::fs::FileExt;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

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
        self.copy_file(start, file, offset, skipped)?;
        self.copy_file(Gpa(last), file, offset + (last - start.0), end.0 - last)
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

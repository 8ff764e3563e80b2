//! Many machines from one image, by copy-on-write.
//!
//! Machines that run the same program begin with the same memory. It is loaded once; each machine
//! maps it privately (`man 2 mmap`, `MAP_PRIVATE`) and has pages of its own only where it writes:
//!
//! ```text
//!   image (a sealed memory file)   │ 0 │ 1 │ 2 │ 3 │
//!   machine A                        │   │  [2ʹ]  │      A wrote to page 2
//!   machine B                        │   │   │   │      B shares all four
//! ```
//!
//! That the image never changes is no promise of ours but the kernel's: the file is *sealed*
//! (`man 2 fcntl`, `F_SEAL_WRITE`), which it refuses as long as anybody could still write there.

use super::guest::{MemoryError, Origin};
use super::{Gpa, GuestMemory, Layout, PAGE_BYTES, Pages};
use crate::sys::memfd;
use crate::sys::pagemap::{self, Pagemap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

/// Guest memory that nobody can change any more, and from which others begin.
///
/// ```
/// use ringside_vmm::memory::{Gpa, GuestMemory};
///
/// let memory = GuestMemory::new(8192)?;
/// memory.write(Gpa(0), b"program")?;
/// let image = memory.freeze()?;
/// let (a, b) = (image.memory()?, image.memory()?);
/// a.write(Gpa(0), b"changed")?;
/// let mut bytes = [0; 7];
/// b.read(Gpa(0), &mut bytes)?;
/// assert_eq!(&bytes, b"program");
/// # Ok::<(), ringside_vmm::memory::MemoryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryImage {
    layout: Arc<Layout>,
    files: Vec<Arc<File>>,
}

impl GuestMemory {
    /// Makes an image of this memory, which must be the only handle to it.
    ///
    /// Memory that began as an image itself becomes one of its own: what both images hold is copied,
    /// for the kernel shares pages of one file only.
    ///
    /// # Errors
    /// [`MemoryError::Freeze`]: a clone of this memory is alive, so that somebody could still write
    /// there; or it is made up of huge pages.
    pub fn freeze(self) -> Result<MemoryImage, MemoryError> {
        let freeze = |source| MemoryError::Freeze { source };
        let refused = |errno| Err(freeze(io::Error::from_raw_os_error(errno)));
        if self.pages() == Pages::Huge {
            return refused(libc::EOPNOTSUPP);
        }
        if self.origin() == Origin::Image {
            return match self.is_shared() {
                true => refused(libc::EBUSY),
                false => self.copied()?.freeze(),
            };
        }
        self.fold_files().map_err(freeze)?;
        let layout = Arc::new(self.layout().clone());
        let file = |region: &vm_memory::GuestRegionMmap<()>| {
            region
                .file_offset()
                .expect("every region has a file")
                .arc()
                .clone()
        };
        let files: Vec<Arc<File>> = self.inner().iter().map(file).collect();
        drop(self);
        for (file, region) in files.iter().zip(layout.regions()) {
            // The second half: zeros of the same length, for what a machine gives back.
            file.set_len(2 * region.bytes).map_err(freeze)?;
            memfd::seal(file).map_err(freeze)?;
        }
        Ok(MemoryImage { layout, files })
    }

    /// Fresh memory of the same contents. Only pages that are not all zeros take memory there.
    fn copied(&self) -> Result<GuestMemory, MemoryError> {
        let copy = GuestMemory::with_layout(self.layout().clone(), Pages::Small)?;
        let proc = |source| MemoryError::Proc {
            path: pagemap::PATH.into(),
            source,
        };
        let pagemap = Pagemap::open().map_err(proc)?;
        let of_files = self.mapped_ranges().clone();
        let mut page = [0; PAGE_BYTES as usize];
        for (slot, region) in self.slots().zip(self.inner().iter()) {
            let file = region.file_offset().expect("every region has a file");
            let held = memfd::data(file.file(), slot.bytes);
            let held = held.map_err(|source| MemoryError::Freeze { source })?;
            let count = (slot.bytes / PAGE_BYTES) as usize;
            let states = pagemap.pages(slot.hva, count).map_err(proc)?;
            for (offset, state) in (0..).step_by(PAGE_BYTES as usize).zip(states) {
                let address = Gpa(slot.gpa.0 + offset);
                // Neither this memory's own, nor the image's, nor another file's: zeros, and reading
                // them would take pages.
                let is_there = state.is_present()
                    || state.is_swapped()
                    || held.iter().any(|range| range.contains(&offset))
                    || of_files.iter().any(|range| range.contains(&address.0));
                if !is_there {
                    continue;
                }
                self.read(address, &mut page)?;
                if page.iter().any(|byte| *byte != 0) {
                    copy.write(address, &page)?;
                }
            }
        }
        Ok(copy)
    }
}

impl MemoryImage {
    /// Memory that begins as this image and becomes its own page by page, as it is written.
    ///
    /// # Errors
    /// The host's refusal to map it.
    pub fn memory(&self) -> Result<GuestMemory, MemoryError> {
        GuestMemory::map(
            self.layout.clone(),
            &self.files,
            Origin::Image,
            Pages::Small,
        )
    }

    /// Where its memory is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The ranges of whole pages that the image holds; all else is zeros that take no memory.
    ///
    /// # Errors
    /// The system call's.
    pub fn held(&self) -> io::Result<Vec<Range<Gpa>>> {
        let mut held = Vec::new();
        for (file, region) in self.files.iter().zip(self.layout.regions()) {
            let place = |offset| Gpa(region.start.0 + offset);
            let ranges = memfd::data(file, region.bytes)?;
            held.extend(ranges.into_iter().map(|r| place(r.start)..place(r.end)));
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Region;

    #[test]
    fn an_image_never_changes() {
        let memory = GuestMemory::new(4 * PAGE_BYTES).unwrap();
        memory.write(Gpa(PAGE_BYTES), b"one").unwrap();
        let image = memory.freeze().unwrap();
        assert_eq!(
            image.held().unwrap(),
            [Gpa(PAGE_BYTES)..Gpa(2 * PAGE_BYTES)]
        );
        let a = image.memory().unwrap();
        a.write(Gpa(PAGE_BYTES), b"two").unwrap();
        a.release(Gpa(0), 4 * PAGE_BYTES).unwrap();
        let b = image.memory().unwrap();
        assert_eq!(b.read_value::<[u8; 3]>(Gpa(PAGE_BYTES)).unwrap(), *b"one");
        assert_eq!(a.read_value::<[u8; 3]>(Gpa(PAGE_BYTES)).unwrap(), [0; 3]);
        drop(image);
        assert_eq!(b.read_value::<[u8; 3]>(Gpa(PAGE_BYTES)).unwrap(), *b"one");
    }

    #[test]
    fn memory_in_use_does_not_freeze() {
        let memory = GuestMemory::new(PAGE_BYTES).unwrap();
        let user = memory.clone();
        let error = memory.freeze().unwrap_err();
        assert!(error.to_string().contains("still uses it"), "{error}");
        user.freeze().unwrap();
    }

    #[test]
    fn a_copy_freezes_into_an_image_of_its_own() {
        let memory = GuestMemory::new(8 * PAGE_BYTES).unwrap();
        for page in [1, 2, 3] {
            memory.write(Gpa(page * PAGE_BYTES), b"image").unwrap();
        }
        let first = memory.freeze().unwrap();
        let copy = first.memory().unwrap();
        copy.write(Gpa(2 * PAGE_BYTES), b"wrote").unwrap();
        copy.write(Gpa(6 * PAGE_BYTES), b"fresh").unwrap();
        copy.release(Gpa(3 * PAGE_BYTES), PAGE_BYTES).unwrap();
        let user = copy.clone();
        let error = copy.freeze().unwrap_err();
        assert!(error.to_string().contains("still uses it"), "{error}");
        let second = user.freeze().unwrap();
        // The page that was given back is a hole, and so is what nobody touched.
        let page = |number: u64| Gpa(number * PAGE_BYTES)..Gpa((number + 1) * PAGE_BYTES);
        assert_eq!(
            second.held().unwrap(),
            [page(1).start..page(2).end, page(6)]
        );
        let (before, after) = (first.memory().unwrap(), second.memory().unwrap());
        let text = |memory: &GuestMemory, page: u64| {
            memory
                .read_value::<[u8; 5]>(Gpa(page * PAGE_BYTES))
                .unwrap()
        };
        let all = |memory| [1, 2, 3, 6].map(|page| text(memory, page));
        assert_eq!(all(&before), [*b"image", *b"image", *b"image", [0; 5]]);
        assert_eq!(all(&after), [*b"image", *b"wrote", [0; 5], *b"fresh"]);
        // And so on.
        after.write(Gpa(0), b"third").unwrap();
        let third = after.freeze().unwrap().memory().unwrap();
        assert_eq!(text(&third, 0), *b"third");
        assert_eq!(text(&third, 6), *b"fresh");
    }

    #[test]
    fn every_region_is_copied_on_write() {
        let regions =
            [0, 16, 1 << 20].map(|page| Region::memory(Gpa(page * PAGE_BYTES), PAGE_BYTES));
        let memory = GuestMemory::with_layout(Layout::new(regions).unwrap(), Pages::Small).unwrap();
        for (byte, region) in regions.iter().enumerate() {
            memory.write(region.start, &[byte as u8 + 1]).unwrap();
        }
        let image = memory.freeze().unwrap();
        let (a, b) = (image.memory().unwrap(), image.memory().unwrap());
        for (byte, region) in regions.iter().enumerate() {
            a.write(region.start, &[99]).unwrap();
            assert_eq!(b.read_value::<u8>(region.start).unwrap(), byte as u8 + 1);
        }
    }
}

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
use super::{Gpa, GuestMemory, Layout, Pages};
use crate::sys::memfd;
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
    /// # Errors
    /// [`MemoryError::Freeze`]: a clone of this memory is alive, so that somebody could still write
    /// there; or it is a copy of an image itself, or of huge pages.
    pub fn freeze(self) -> Result<MemoryImage, MemoryError> {
        let freeze = |source| MemoryError::Freeze { source };
        if self.origin() == Origin::Image || self.pages() == Pages::Huge {
            return Err(freeze(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        }
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
    use crate::memory::{PAGE_BYTES, Region};

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
    fn a_copy_does_not_freeze() {
        let image = GuestMemory::new(PAGE_BYTES).unwrap().freeze().unwrap();
        let error = image.memory().unwrap().freeze().unwrap_err();
        assert!(error.to_string().contains("a copy of an image"), "{error}");
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

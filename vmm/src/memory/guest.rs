//! What the guest takes for its physical memory: memory files, mapped into this process and given
//! to KVM as slots.
//!
//! ```text
//!   guest-physical   0 ─────────── end   hole   4 GiB ──── end    the guest's view: a Layout
//!        slots       │      0       │           │     1     │     KVM: guest-physical → host-virtual
//!   host-virtual     0x7f…          │           0x7e…       │     this process: a mapping for each
//!   memory files     0 ──────────── │           0 ───────── │     "ringside-guest", filled as touched
//! ```
//!
//! The guest changes these bytes whenever it likes, so nothing here is a Rust reference: every
//! access copies, through `vm-memory`.

use super::balloon::Balloon;
use super::layout::{Layout, LayoutError};
use super::pages::{self, Pages};
use super::{Gpa, Hva};
use crate::paging::{PhysicalMemory, Slot};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use thiserror::Error;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{
    ByteValued, Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap,
    GuestRegionMmap, MmapRegion,
};

/// What goes wrong with guest memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// A layout that no guest can have.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The host has no such memory.
    #[error(
        "cannot take {bytes} bytes for guest memory from the host: {source}; give the guest less (`--memory`)"
    )]
    Host {
        /// The size asked for.
        bytes: u64,
        /// The system call's error.
        source: io::Error,
    },
    /// The host has no huge pages to give.
    #[error(
        "cannot take {bytes} bytes for guest memory in huge pages: {source}; the host has {free} free ones of 2 MiB: \
         reserve {} more (as root: `echo N > {}`, N the number in all), or use ordinary pages",
        (bytes >> 21).saturating_sub(*free), pages::RESERVED
    )]
    HugePages {
        /// The size asked for.
        bytes: u64,
        /// How many huge pages of 2 MiB are free.
        free: u64,
        /// The system call's error.
        source: io::Error,
    },
    /// The host gives memory files no transparent huge pages.
    #[error(
        "the host gives guest memory no transparent huge pages: `echo advise > {}` (as root), or use ordinary pages",
        pages::TRANSPARENT
    )]
    Transparent,
    /// A region that huge pages cannot make up.
    #[error(
        "cannot make up {bytes} bytes at guest-physical {start} of huge pages; begin and end regions on multiples of 2 MiB, or use ordinary pages"
    )]
    HugeAlignment {
        /// The region's start.
        start: Gpa,
        /// Its length.
        bytes: u64,
    },
    /// A file's bytes cannot be had as guest memory.
    #[error("cannot map {bytes} bytes of a file to guest-physical {address}: {source}")]
    File {
        /// Where they should go.
        address: Gpa,
        /// How many.
        bytes: u64,
        /// The system call's error.
        source: io::Error,
    },
    /// An address range that is not in guest memory.
    #[error(
        "guest-physical {address:#x} and the {bytes} bytes from there are not all in guest memory"
    )]
    Outside {
        /// Where the range begins.
        address: u64,
        /// Its length.
        bytes: u64,
    },
    /// Pages that cannot go back to the host.
    #[error(
        "cannot give guest-physical {address} and the {bytes} bytes from there back to the host: {source}"
    )]
    Release {
        /// Where the range begins.
        address: Gpa,
        /// Its length.
        bytes: u64,
        /// `EROFS` for memory that is read-only to the guest, `EOPNOTSUPP` for reserved huge
        /// pages, or the system call's.
        source: io::Error,
    },
    /// Memory that cannot become an image.
    #[error("cannot freeze guest memory into an image: {source}; {}", match source.raw_os_error() {
        Some(libc::EBUSY) => "a machine or a clone of the memory still uses it: drop that first",
        Some(libc::EOPNOTSUPP) => "it is made up of huge pages: freeze memory of ordinary ones",
        _ => "the kernel must know memory files with seals (Linux 3.17)",
    })]
    Freeze {
        /// `EBUSY` while it is in use, `EOPNOTSUPP` for huge pages, or the system call's.
        source: io::Error,
    },
    /// A file of `/proc` about this process's memory.
    #[error("cannot learn about guest memory from {}: {source}", path.display())]
    Proc {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Whose pages a guest's memory begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Zeros of its own.
    Fresh,
    /// An image's, of which it copies a page when it first writes there.
    Image,
}

/// A guest's memory. Clones share it; for a copy, see [`MemoryImage`](super::MemoryImage).
#[derive(Clone, Debug)]
pub struct GuestMemory {
    mapping: GuestMemoryMmap<()>,
    layout: Arc<Layout>,
    origin: Origin,
    pages: Pages,
    balloon: Arc<Balloon>,
    /// The ranges behind which there is a file of somebody else's.
    pub(super) mapped: Arc<Mutex<Vec<Range<u64>>>>,
    /// How many ranges of a copy were replaced since, by [`release`](Self::release).
    pub(super) splits: Arc<AtomicU32>,
}

impl GuestMemory {
    /// `bytes` of zeros from guest-physical 0 on. The host gives pages as they are touched.
    ///
    /// # Errors
    /// A size of zero or not of whole pages; the host's refusal.
    pub fn new(bytes: u64) -> Result<GuestMemory, MemoryError> {
        GuestMemory::with_layout(Layout::bare(bytes)?, Pages::Small)
    }

    /// Zeros in these regions, made up of such pages.
    ///
    /// # Errors
    /// The host's refusal; for huge pages, what the host lacks of them.
    pub fn with_layout(layout: Layout, pages: Pages) -> Result<GuestMemory, MemoryError> {
        pages.check(&layout)?;
        let files = layout.regions().iter().map(|region| {
            pages
                .file(region.bytes)
                .map(Arc::new)
                .map_err(|source| pages.refused(region.bytes, source))
        });
        let files: Vec<Arc<File>> = files.collect::<Result<_, _>>()?;
        let memory = GuestMemory::map(Arc::new(layout), &files, Origin::Fresh, pages)?;
        pages.advise(&memory)?;
        Ok(memory)
    }

    /// Maps one file for each region of the layout.
    pub(super) fn map(
        layout: Arc<Layout>,
        files: &[Arc<File>],
        origin: Origin,
        pages: Pages,
    ) -> Result<GuestMemory, MemoryError> {
        let sharing = match origin {
            Origin::Fresh => libc::MAP_SHARED,
            Origin::Image => libc::MAP_PRIVATE,
        };
        let flags = sharing | pages.mapping_flags();
        let mut regions = Vec::with_capacity(files.len());
        for (region, file) in layout.regions().iter().zip(files) {
            let bytes = region.bytes;
            let refused = |source| pages.refused(bytes, source);
            let length =
                usize::try_from(bytes).map_err(|_| refused(io::ErrorKind::OutOfMemory.into()))?;
            let file = Some(FileOffset::from_arc(file.clone(), 0));
            let mapping =
                MmapRegion::build(file, length, libc::PROT_READ | libc::PROT_WRITE, flags)
                    .map_err(|error| match error {
                        MmapRegionError::Mmap(source) => refused(source),
                        error => refused(io::Error::other(error)),
                    })?;
            let start = GuestAddress(region.start.0);
            regions.push(GuestRegionMmap::new(mapping, start).expect("a layout does not wrap"));
        }
        let mapping = GuestMemoryMmap::from_regions(regions)
            .map_err(|error| pages.refused(layout.bytes(), io::Error::other(error)))?;
        Ok(GuestMemory {
            mapping,
            layout,
            origin,
            pages,
            balloon: Arc::default(),
            splits: Arc::default(),
            mapped: Arc::default(),
        })
    }

    /// Bytes of guest-physical memory in all.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Where it is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whose pages it began with.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether there are other handles to it.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.balloon) > 1
    }

    /// What it is made up of.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// What the host wants back of it, and what the guest says that it gave.
    pub fn balloon(&self) -> &Balloon {
        &self.balloon
    }

    /// The regions, for who makes slots of them.
    pub(crate) fn inner(&self) -> &GuestMemoryMmap<()> {
        &self.mapping
    }

    /// The same memory as page tables are read from it.
    pub fn physical(&self) -> &impl PhysicalMemory {
        &self.mapping
    }

    /// KVM's memory slots: one a region, numbered by the order of addresses.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let regions = self.layout.regions().iter().zip(self.mapping.iter());
        (0..).zip(regions).map(|(number, (region, mapping))| Slot {
            number,
            gpa: region.start,
            bytes: region.bytes,
            hva: Hva(mapping.as_ptr() as u64),
            read_only: region.read_only,
        })
    }

    /// Where this process sees a guest-physical address; `None` outside memory.
    pub fn host_address(&self, address: Gpa) -> Option<Hva> {
        self.mapping
            .get_host_address(GuestAddress(address.0))
            .ok()
            .map(|pointer| Hva(pointer as u64))
    }

    /// Whether all of `bytes` from `address` on is memory.
    pub fn contains(&self, address: Gpa, bytes: u64) -> bool {
        usize::try_from(bytes)
            .is_ok_and(|length| self.mapping.check_range(GuestAddress(address.0), length))
    }

    /// Copies from guest memory.
    ///
    /// # Errors
    /// [`MemoryError::Outside`] if not all of the range is memory.
    pub fn read(&self, address: Gpa, into: &mut [u8]) -> Result<(), MemoryError> {
        let outside = MemoryError::Outside {
            address: address.0,
            bytes: into.len() as u64,
        };
        self.mapping
            .read_slice(into, GuestAddress(address.0))
            .map_err(|_| outside)
    }

    /// Copies into guest memory.
    ///
    /// # Errors
    /// As of [`read`](Self::read); what lies within memory may have been written.
    pub fn write(&self, address: Gpa, from: &[u8]) -> Result<(), MemoryError> {
        let outside = MemoryError::Outside {
            address: address.0,
            bytes: from.len() as u64,
        };
        self.mapping
            .write_slice(from, GuestAddress(address.0))
            .map_err(|_| outside)
    }

    /// Copies a plain value from guest memory.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub fn read_value<T: ByteValued>(&self, address: Gpa) -> Result<T, MemoryError> {
        let outside = MemoryError::Outside {
            address: address.0,
            bytes: size_of::<T>() as u64,
        };
        self.mapping
            .read_obj(GuestAddress(address.0))
            .map_err(|_| outside)
    }

    /// Copies a plain value into guest memory.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub fn write_value<T: ByteValued>(&self, address: Gpa, value: T) -> Result<(), MemoryError> {
        let outside = MemoryError::Outside {
            address: address.0,
            bytes: size_of::<T>() as u64,
        };
        self.mapping
            .write_obj(value, GuestAddress(address.0))
            .map_err(|_| outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_leave_memory_or_wrap_are_refused() {
        let memory = GuestMemory::new(2 * 4096).unwrap();
        assert!(
            memory.contains(Gpa(0), 8192)
                && !memory.contains(Gpa(1), 8192)
                && !memory.contains(Gpa(u64::MAX), 2)
        );
        assert!(memory.write(Gpa(8190), b"abcd").is_err());
        assert!(memory.read(Gpa(u64::MAX - 1), &mut [0; 4]).is_err());
        memory.write(Gpa(4094), b"abcd").unwrap();
        let mut back = [0; 4];
        memory.read(Gpa(4094), &mut back).unwrap();
        assert_eq!(&back, b"abcd");
    }

    #[test]
    fn sizes_that_no_guest_can_have_are_refused() {
        assert!(matches!(
            GuestMemory::new(0),
            Err(MemoryError::Layout(LayoutError::Pages { bytes: 0, .. }))
        ));
        assert!(matches!(
            GuestMemory::new(4097),
            Err(MemoryError::Layout(LayoutError::Pages { bytes: 4097, .. }))
        ));
        assert!(matches!(
            GuestMemory::new(1 << 63),
            Err(MemoryError::Layout(LayoutError::Beyond { .. }))
        ));
        assert!(matches!(
            GuestMemory::new(1 << 51),
            Err(MemoryError::Host { .. })
        ));
    }
}

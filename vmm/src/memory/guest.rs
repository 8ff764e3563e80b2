//! What the guest takes for its physical memory: a memory file, mapped into this process and given
//! to KVM as slots.
//!
//! ```text
//!   guest-physical   0 ──────────── size            the guest's view
//!        slot 0      │              │               KVM: guest-physical → host-virtual
//!   host-virtual     0x7f…          │               this process: a shared mapping of
//!   memory file      0 ──────────── size            "ringside-guest", filled as it is touched
//! ```
//!
//! The guest changes these bytes whenever it likes, so nothing here is a Rust reference: every
//! access copies, through `vm-memory`.

use super::{Gpa, Hva};
use crate::sys::memfd;
use std::io;
use std::sync::Arc;
use thiserror::Error;
use vm_memory::{ByteValued, Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// What goes wrong with guest memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// A size that no guest can have.
    #[error(
        "cannot give a guest {bytes} bytes of memory: a multiple of 4096 is needed, and at least one page"
    )]
    Size {
        /// The size asked for.
        bytes: u64,
    },
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
}

/// A guest's memory. Clones share it.
#[derive(Clone, Debug)]
pub struct GuestMemory {
    mapping: GuestMemoryMmap<()>,
}

impl GuestMemory {
    /// `bytes` of zeros from guest-physical 0 on. The host gives pages as they are touched.
    ///
    /// # Errors
    /// A size of zero or not of whole pages; the host's refusal.
    pub fn new(bytes: u64) -> Result<GuestMemory, MemoryError> {
        if bytes == 0 || !bytes.is_multiple_of(super::PAGE_BYTES) {
            return Err(MemoryError::Size { bytes });
        }
        let host = |source| MemoryError::Host { bytes, source };
        let length = usize::try_from(bytes).map_err(|_| MemoryError::Size { bytes })?;
        let file = Arc::new(memfd::create(c"ringside-guest", bytes).map_err(host)?);
        let range = (GuestAddress(0), length, Some(FileOffset::from_arc(file, 0)));
        let mapping = GuestMemoryMmap::from_ranges_with_files([range])
            .map_err(|error| host(io::Error::other(error)))?;
        Ok(GuestMemory { mapping })
    }

    /// Bytes of guest-physical memory in all.
    pub fn bytes(&self) -> u64 {
        use vm_memory::GuestMemoryRegion;
        self.mapping.iter().map(GuestMemoryRegion::len).sum()
    }

    /// The regions, for who makes slots of them.
    pub(crate) fn inner(&self) -> &GuestMemoryMmap<()> {
        &self.mapping
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

    /// Gives a range's pages back to the host. They read as zeros from then on.
    ///
    /// # Errors
    /// `EFAULT` if not all of the range is memory; the system call's.
    pub fn release(&self, address: Gpa, bytes: u64) -> io::Result<()> {
        use vm_memory::GuestMemoryRegion;
        let outside = || io::Error::from_raw_os_error(libc::EFAULT);
        if !self.contains(address, bytes) {
            return Err(outside());
        }
        let (mut start, end) = (address.0, address.0 + bytes);
        while start < end {
            let (region, offset) = self
                .mapping
                .to_region_addr(GuestAddress(start))
                .ok_or_else(outside)?;
            let length = (end - start).min(region.len() - offset.0);
            let file = region.file_offset().ok_or_else(outside)?;
            memfd::punch_hole(file.file(), file.start() + offset.0, length)?;
            start += length;
        }
        Ok(())
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
            Err(MemoryError::Size { bytes: 0 })
        ));
        assert!(matches!(
            GuestMemory::new(4097),
            Err(MemoryError::Size { bytes: 4097 })
        ));
        assert!(matches!(
            GuestMemory::new(1 << 63),
            Err(MemoryError::Host { .. })
        ));
    }
}

//! `/proc/self/pagemap`: which page of the machine stands behind a host-virtual address, the last
//! step of an address's way (`Documentation/admin-guide/mm/pagemap.rst`).
//!
//! ```text
//!   63       62       61             60 … 57  56         55          54 … 0
//!   present  swapped  file or shmem  –        exclusive  soft-dirty  page frame number
//! ```
//!
//! The frame number is shown to who has `CAP_SYS_ADMIN` alone (since Linux 4.2): with it, one
//! process could aim at another's memory chips.

use crate::memory::{Hpa, Hva, PAGE_BYTES};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where the kernel tells it.
pub const PATH: &str = "/proc/self/pagemap";

/// What the kernel says of one page of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageState(u64);

impl PageState {
    /// Whether a page of the machine is mapped there.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0 >> 63 & 1 == 1
    }

    /// Whether its contents are in swap.
    #[must_use]
    pub const fn is_swapped(self) -> bool {
        self.0 >> 62 & 1 == 1
    }

    /// Whether it is a page of a file, memory files included. A page that was copied on write is not.
    #[must_use]
    pub const fn is_of_file(self) -> bool {
        self.0 >> 61 & 1 == 1
    }

    /// Whether nothing else maps it.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        self.0 >> 56 & 1 == 1
    }

    /// The page's number in the machine; `None` where no page is present, or the reader may not know.
    #[must_use]
    pub const fn frame(self) -> Option<u64> {
        match self.0 & ((1 << 55) - 1) {
            0 => None,
            frame if self.is_present() => Some(frame),
            _ => None,
        }
    }
}

/// An open page map of this process.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
}

impl Pagemap {
    /// Opens it.
    ///
    /// # Errors
    /// The system call's: no `/proc`, or a kernel without the file.
    pub fn open() -> io::Result<Pagemap> {
        Ok(Pagemap {
            file: File::open(PATH)?,
        })
    }

    /// The states of `count` pages from the one that holds `start` on.
    ///
    /// # Errors
    /// The system call's; `UnexpectedEof` beyond the end of user space.
    pub fn pages(&self, start: Hva, count: usize) -> io::Result<Vec<PageState>> {
        let mut bytes = vec![0; count * 8];
        self.file
            .read_exact_at(&mut bytes, start.0 / PAGE_BYTES * 8)?;
        let words = bytes.as_chunks::<8>().0.iter();
        Ok(words
            .map(|word| PageState(u64::from_ne_bytes(*word)))
            .collect())
    }

    /// Where a host-virtual address is in the machine, offset in its page included; `None` where
    /// nothing is mapped, or this process may not know.
    #[must_use]
    pub fn host_physical(&self, address: Hva) -> Option<Hpa> {
        let frame = self.pages(address, 1).ok()?.first()?.frame()?;
        Some(Hpa(frame * PAGE_BYTES + address.page_offset()))
    }

    /// Whether this process may know frame numbers.
    #[must_use]
    pub fn shows_frames(&self) -> bool {
        let here = 0_u8;
        self.host_physical(Hva(&raw const here as u64)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_this_process_is_present() {
        let pagemap = Pagemap::open().unwrap();
        let here = Box::new(7_u8);
        let address = Hva(&raw const *here as u64);
        let state = pagemap.pages(address, 1).unwrap()[0];
        assert!(state.is_present() && !state.is_swapped());
        if let Some(place) = pagemap.host_physical(address) {
            assert_eq!(place.page_offset(), address.page_offset());
            assert_eq!(Some(place.0 / PAGE_BYTES), state.frame());
        }
    }

    #[test]
    fn nothing_is_where_nothing_is_mapped() {
        let pagemap = Pagemap::open().unwrap();
        assert!(!pagemap.pages(Hva(0), 1).unwrap()[0].is_present());
        assert_eq!(pagemap.host_physical(Hva(u64::MAX)), None);
    }

    #[test]
    fn the_bits_are_the_kernels() {
        let state = PageState(1 << 63 | 1 << 56 | 0x1234);
        assert!(state.is_present() && state.is_exclusive());
        assert!(!state.is_of_file() && !state.is_swapped());
        assert_eq!(state.frame(), Some(0x1234));
        // A swapped page's low bits are no frame number.
        assert_eq!(PageState(1 << 62 | 0x1234).frame(), None);
    }
}

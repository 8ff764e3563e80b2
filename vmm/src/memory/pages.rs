//! What guest memory is made up of: small pages, or huge ones.
//!
//! A translation of the host's covers 4 KiB or 2 MiB. With huge pages a guest's memory needs 512
//! times fewer of them, so that the processor finds most in its TLB, and a nested walk ends a level
//! earlier. The price is paid in memory: a page is given, copied and returned as a whole.
//! (`Documentation/admin-guide/mm/hugetlbpage.rst`, `transhuge.rst`.)

use super::{Gpa, GuestMemory, Layout, MemoryError};
use crate::sys::memfd;
use std::fs::{self, File};
use std::io;
use vm_memory::GuestMemoryBackend;

/// Bytes in a huge page.
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// How many huge pages of 2 MiB the host keeps for who asks: to read, and for root to write.
pub const RESERVED: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
/// How many of these nobody has.
pub const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// Whether memory files may have transparent huge pages: the word in brackets.
pub const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// What guest memory is made up of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// 4 KiB, given as they are touched.
    #[default]
    Small,
    /// Small to begin with; the host is asked to use huge ones where it can (`man 2 madvise`,
    /// `MADV_HUGEPAGE`), and need not. [`Usage`](super::Usage) says what came of it. Refused where
    /// the host would never do so for memory files ([`TRANSPARENT`]).
    Transparent,
    /// 2 MiB, all reserved at once from the host's pool (hugetlb), and never returned before the end.
    Huge,
}

impl Pages {
    /// Refuses regions that these pages cannot make up.
    pub(super) fn check(self, layout: &Layout) -> Result<(), MemoryError> {
        let aligned = |address: Gpa| address.is_aligned(HUGE_PAGE_BYTES);
        let odd = |region: &&super::Region| !aligned(region.start) || !aligned(region.end());
        match layout.regions().iter().find(odd) {
            Some(region) if self == Pages::Huge => Err(MemoryError::HugeAlignment {
                start: region.start,
                bytes: region.bytes,
            }),
            _ => Ok(()),
        }
    }

    /// A memory file of such pages.
    pub(super) fn file(self, bytes: u64) -> io::Result<File> {
        match self {
            Pages::Small | Pages::Transparent => memfd::create(c"ringside-guest", bytes),
            Pages::Huge => memfd::create_huge(c"ringside-guest", bytes),
        }
    }

    /// No reservation: a guest may be given more than the host has, as long as it does not touch
    /// it. Not so for huge pages, of which the pool has what it has: touching one that is not there
    /// would be a SIGBUS in the VMM.
    pub(super) fn mapping_flags(self) -> i32 {
        match self {
            Pages::Small | Pages::Transparent => libc::MAP_NORESERVE,
            Pages::Huge => 0,
        }
    }

    /// Asks for huge pages, if they are to be transparent.
    pub(super) fn advise(self, memory: &GuestMemory) -> Result<(), MemoryError> {
        if self == Pages::Transparent {
            let setting = fs::read_to_string(TRANSPARENT).unwrap_or_default();
            if setting.contains("[never]") || setting.contains("[deny]") || setting.is_empty() {
                return Err(MemoryError::Transparent);
            }
            let mut regions = memory.inner().iter();
            regions
                .try_for_each(memfd::advise_huge)
                .map_err(|_| MemoryError::Transparent)?;
        }
        Ok(())
    }

    /// The error for the host's refusal of `bytes`.
    pub(super) fn refused(self, bytes: u64, source: io::Error) -> MemoryError {
        match self {
            Pages::Small | Pages::Transparent => MemoryError::Host { bytes, source },
            Pages::Huge => MemoryError::HugePages {
                bytes,
                free: free_huge_pages(),
                source,
            },
        }
    }
}

/// How many huge pages of 2 MiB the host could give; 0 where it knows none.
#[must_use]
pub fn free_huge_pages() -> u64 {
    let text = fs::read_to_string(FREE).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

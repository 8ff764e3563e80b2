//! A model of the translation lookaside buffer: what the processor remembers of walks, and what
//! makes it forget. What it remembers may be stale: an edit of a table changes nothing here until
//! the guest flushes. That is the only staleness that the architecture permits, and so the only
//! one that a hypervisor may show. (Intel SDM vol. 3A, 4.10.)
//!
//! ```text
//!   tag                     page          host page     rights  dirty  global  of a page of
//!   ┌──────────┬──────────┬─────────────┬─────────────┬───────┬──────┬───────┬────────────┐
//!   │ ASID     │ PCID     │ Gva / 4 KiB │ Hpa / 4 KiB │ w u x │  d   │   g   │ 4 KiB…1 GiB│
//!   └──────────┴──────────┴─────────────┴─────────────┴───────┴──────┴───────┴────────────┘
//!     which VM   which      a huge page is remembered in pieces of 4 KiB; INVLPG of one
//!                process    address forgets all pieces of its page
//! ```
//!
//! Two liberties that processors have are not taken: caches of the upper levels, and filling ahead
//! of an access. So it forgets more than it must, never less.

use super::level::PageSize;
use super::walk::Rights;
use crate::memory::{Gva, Hpa};

/// Whose translation it is: entries of different tags never meet, except global ones of one VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The virtual machine (AMD's ASID, Intel's VPID).
    pub asid: u16,
    /// The address space within the guest (CR3 bits 11..0 where CR4.PCIDE is set, otherwise 0).
    pub pcid: u16,
}

/// One remembered translation, of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbEntry {
    /// Whose it is.
    pub tag: Tag,
    /// The first address of the page.
    pub page: Gva,
    /// Where the page is on the host.
    pub host: Hpa,
    /// What the tables allowed when they were walked.
    pub rights: Rights,
    /// Whether a write needs no walk: the page's entry has its dirty bit, and the host page may be
    /// written.
    pub dirty: bool,
    /// Whether it serves every PCID of its VM and outlives writes of CR3.
    pub global: bool,
    /// The size of the page that this is a piece of.
    pub size: PageSize,
}

impl TlbEntry {
    fn serves(&self, tag: Tag) -> bool {
        self.tag == tag || self.global && self.tag.asid == tag.asid
    }

    fn is_piece_of_page_at(&self, address: Gva) -> bool {
        self.page.align_down(self.size.bytes()) == address.align_down(self.size.bytes())
    }
}

/// What is to be forgotten, always of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// `invlpg`: the page that holds `address`, of this PCID and global.
    Page {
        /// The current PCID.
        pcid: u16,
        /// Any address in the page.
        address: Gva,
    },
    /// A write of CR3 without bit 63: everything of this PCID that is not global.
    Pcid(u16),
    /// A change of CR4.PGE, or the hypervisor's own: everything.
    Everything,
}

impl Flush {
    /// Whether this forgets `entry`, of the same VM.
    #[must_use]
    pub fn covers(self, entry: &TlbEntry) -> bool {
        match self {
            Self::Page { pcid, address } => {
                (entry.global || entry.tag.pcid == pcid) && entry.is_piece_of_page_at(address)
            }
            Self::Pcid(pcid) => !entry.global && entry.tag.pcid == pcid,
            Self::Everything => true,
        }
    }
}

/// The buffer. When it is full, the entry that came first goes.
#[derive(Clone, Debug)]
pub struct Tlb {
    entries: Vec<TlbEntry>,
    capacity: usize,
}

impl Tlb {
    /// An empty one with room for `capacity` entries. 64 is a first-level TLB; 0 never remembers.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// What is remembered of the page that holds `address`.
    #[must_use]
    pub fn look_up(&self, tag: Tag, address: Gva) -> Option<&TlbEntry> {
        let page = address.page();
        self.entries
            .iter()
            .find(|e| e.page == page && e.serves(tag))
    }

    /// Remembers `entry` instead of what was remembered of its page for its tag.
    pub fn insert(&mut self, entry: TlbEntry) {
        self.forget(entry.tag, entry.page);
        if self.entries.len() == self.capacity {
            if self.capacity == 0 {
                return;
            }
            self.entries.remove(0);
        }
        self.entries.push(entry);
    }

    /// Forgets the piece that holds `address`, as a page fault there does.
    pub fn forget(&mut self, tag: Tag, address: Gva) {
        let page = address.page();
        self.entries.retain(|e| e.page != page || !e.serves(tag));
    }

    /// Forgets what `flush` says of VM `asid`.
    pub fn flush(&mut self, asid: u16, flush: Flush) {
        self.entries
            .retain(|e| e.tag.asid != asid || !flush.covers(e));
    }

    /// Everything remembered, the oldest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &TlbEntry> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(asid: u16, pcid: u16, page: u64) -> TlbEntry {
        TlbEntry {
            tag: Tag { asid, pcid },
            page: Gva(page),
            host: Hpa(page + 0x10_0000),
            rights: Rights {
                write: true,
                user: true,
                execute: true,
            },
            dirty: true,
            global: false,
            size: PageSize::Kib4,
        }
    }

    fn global(entry: TlbEntry) -> TlbEntry {
        TlbEntry {
            global: true,
            ..entry
        }
    }

    fn filled(entries: impl IntoIterator<Item = TlbEntry>) -> Tlb {
        let mut tlb = Tlb::new(64);
        entries.into_iter().for_each(|e| tlb.insert(e));
        tlb
    }

    fn has(tlb: &Tlb, asid: u16, pcid: u16, address: u64) -> bool {
        tlb.look_up(Tag { asid, pcid }, Gva(address)).is_some()
    }

    #[test]
    fn tags_keep_machines_and_processes_apart() {
        let tlb = filled([entry(1, 1, 0x1000)]);
        assert!(has(&tlb, 1, 1, 0x1fff));
        assert!(!has(&tlb, 1, 2, 0x1000));
        assert!(!has(&tlb, 2, 1, 0x1000));
        assert!(!has(&tlb, 1, 1, 0x2000));
    }

    #[test]
    fn a_global_entry_serves_every_process_of_its_machine_and_outlives_cr3() {
        let mut tlb = filled([global(entry(1, 1, 0x1000)), entry(1, 2, 0x2000)]);
        assert!(has(&tlb, 1, 2, 0x1000) && !has(&tlb, 2, 1, 0x1000));
        tlb.flush(1, Flush::Pcid(1));
        tlb.flush(1, Flush::Pcid(2));
        assert!(has(&tlb, 1, 2, 0x1000) && !has(&tlb, 1, 2, 0x2000));
        let (pcid, address) = (2, Gva(0x1234));
        tlb.flush(1, Flush::Page { pcid, address });
        assert!(!has(&tlb, 1, 1, 0x1000));
    }

    #[test]
    fn flushes_stop_at_their_machine_their_process_and_their_page() {
        let entries = [
            entry(1, 1, 0x1000),
            entry(1, 1, 0x2000),
            entry(1, 2, 0x1000),
            entry(2, 1, 0x1000),
        ];
        let left = |flush| {
            let mut tlb = filled(entries);
            tlb.flush(1, flush);
            entries.map(|e| has(&tlb, e.tag.asid, e.tag.pcid, e.page.0))
        };
        let (pcid, address) = (1, Gva(0x1000));
        assert_eq!(
            left(Flush::Page { pcid, address }),
            [false, true, true, true]
        );
        assert_eq!(left(Flush::Pcid(1)), [false, false, true, true]);
        assert_eq!(left(Flush::Everything), [false, false, false, true]);
    }

    #[test]
    fn one_address_flushes_all_pieces_of_its_huge_page() {
        let piece = |page| TlbEntry {
            size: PageSize::Mib2,
            ..entry(1, 1, page)
        };
        let mut tlb = filled([piece(0x20_0000), piece(0x3f_f000), piece(0x40_0000)]);
        let (pcid, address) = (1, Gva(0x2a_bcde));
        tlb.flush(1, Flush::Page { pcid, address });
        assert_eq!(
            tlb.entries().map(|e| e.page).collect::<Vec<_>>(),
            [Gva(0x40_0000)]
        );
    }

    #[test]
    fn the_oldest_makes_room_and_no_page_is_there_twice() {
        let mut tlb = Tlb::new(2);
        for page in [0x1000, 0x2000, 0x2000, 0x3000] {
            tlb.insert(entry(1, 1, page));
        }
        let pages: Vec<_> = tlb.entries().map(|e| e.page.0).collect();
        assert_eq!(pages, [0x2000, 0x3000]);
        let mut none = Tlb::new(0);
        none.insert(entry(1, 1, 0x1000));
        assert_eq!(none.entries().len(), 0);
    }
}

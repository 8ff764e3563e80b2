//! Who owns which pages of the machine: *isolation*, made visible.
//!
//! Two machines are isolated in memory if no page of the host can be written through one and seen
//! through the other. Pages of one image are the exception that is none: both may read them, and
//! whoever writes gets a copy first.
//!
//! ```text
//!   machine   guest-physical   host-virtual     host-physical
//!   A         0x200000         0x7f01_0000  ──▶ 0x1a3000  ◀── shared: the image's, read-only in fact
//!   B         0x200000         0x7e55_0000  ──▶ 0x1a3000  ◀─┘
//!   A         0x201000         0x7f01_1000  ──▶ 0x77c000      A's own
//!   B         0x201000         0x7e55_1000  ──▶ 0x0d1000      B's own
//! ```
//!
//! Seen through this process's page map, so only root sees the machine's page numbers.

use super::guest::{MemoryError, Origin};
use super::{Gpa, GuestMemory, Hpa, Hva, PAGE_BYTES};
use crate::sys::pagemap::{self, PageState, Pagemap};
use std::collections::HashMap;
use std::io;

/// Whose a page of the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// This machine's alone.
    Own,
    /// An image's, which this machine reads until it writes.
    Image,
    /// Another machine's too, with one seeing what the other writes. It must not be.
    Exposed,
}

/// Neighbouring guest-physical pages of one machine with the same owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The memory slot.
    pub slot: u32,
    /// Its first guest-physical address.
    pub gpa: Gpa,
    /// Where this process sees it.
    pub hva: Hva,
    /// Length in pages of 4 KiB: so many pages of the host are behind it.
    pub pages: u64,
    /// Whose they are.
    pub owner: Owner,
    /// The other machines, by their position in the question, that have all of these pages too.
    pub also: Vec<usize>,
    /// The first page's place in the machine. The others may be anywhere.
    pub first: Hpa,
}

/// Says for each machine what pages of the host are behind its memory, in ascending order of
/// guest-physical addresses. Pages that it has not touched have none and are left out.
///
/// Stop the machines first: what they touch meanwhile may or may not be there.
///
/// # Errors
/// [`MemoryError::Proc`], with `PermissionDenied` where this process may not know page numbers.
pub fn owners(machines: &[&GuestMemory]) -> Result<Vec<Vec<Run>>, MemoryError> {
    let proc = |source| MemoryError::Proc {
        path: pagemap::PATH.into(),
        source,
    };
    let pagemap = Pagemap::open().map_err(proc)?;
    if !pagemap.shows_frames() {
        return Err(proc(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "page numbers are shown to who has CAP_SYS_ADMIN; run as root",
        )));
    }
    let mut pages: Vec<Vec<Page>> = Vec::new();
    for memory in machines {
        pages.push(present(memory, &pagemap).map_err(proc)?);
    }
    // Which machines have a frame, each once, and whether all of them would copy before writing.
    let mut holders: HashMap<u64, (Vec<usize>, bool)> = HashMap::new();
    for (machine, pages) in pages.iter().enumerate() {
        for page in pages {
            let (by, shareable) = holders.entry(page.frame).or_insert((Vec::new(), true));
            if by.last() != Some(&machine) {
                by.push(machine);
            }
            *shareable &= page.of_image;
        }
    }
    let runs = |(machine, pages): (usize, Vec<Page>)| {
        let mut runs: Vec<Run> = Vec::new();
        for page in pages {
            let (by, shareable) = &holders[&page.frame];
            let owner = match (shareable, by.len()) {
                (true, _) => Owner::Image,
                (false, 1) => Owner::Own,
                (false, _) => Owner::Exposed,
            };
            let also: Vec<usize> = by.iter().copied().filter(|at| *at != machine).collect();
            match runs.last_mut() {
                Some(run) if run.continues(&page, owner, &also) => run.pages += 1,
                _ => runs.push(Run {
                    slot: page.slot,
                    gpa: page.gpa,
                    hva: page.hva,
                    pages: 1,
                    owner,
                    also,
                    first: Hpa(page.frame * PAGE_BYTES),
                }),
            }
        }
        runs
    };
    Ok(pages.into_iter().enumerate().map(runs).collect())
}

impl Run {
    /// Whether this page comes right behind, and is like the others.
    fn continues(&self, page: &Page, owner: Owner, also: &[usize]) -> bool {
        self.slot == page.slot
            && self.gpa.0 + self.pages * PAGE_BYTES == page.gpa.0
            && self.owner == owner
            && self.also == also
    }
}

/// A page of guest memory with a page of the host behind it.
struct Page {
    slot: u32,
    gpa: Gpa,
    hva: Hva,
    frame: u64,
    /// Still the image's: a write copies it first.
    of_image: bool,
}

/// The pages that are there.
fn present(memory: &GuestMemory, pagemap: &Pagemap) -> io::Result<Vec<Page>> {
    /// Pages looked up in one read.
    const BATCH: u64 = 1 << 16;
    let mut found = Vec::new();
    for slot in memory.slots() {
        let count = slot.bytes / PAGE_BYTES;
        for first in (0..count).step_by(BATCH as usize) {
            let start = Hva(slot.hva.0 + first * PAGE_BYTES);
            let states = pagemap.pages(start, BATCH.min(count - first) as usize)?;
            let page = |(index, state): (u64, PageState)| {
                let offset = (first + index) * PAGE_BYTES;
                Some(Page {
                    slot: slot.number,
                    gpa: Gpa(slot.gpa.0 + offset),
                    hva: Hva(slot.hva.0 + offset),
                    frame: state.frame()?,
                    of_image: memory.origin() == Origin::Image && state.is_of_file(),
                })
            };
            found.extend((0..).zip(states).filter_map(page));
        }
    }
    Ok(found)
}

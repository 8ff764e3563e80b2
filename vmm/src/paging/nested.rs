//! Two levels: guest-virtual → guest-physical → host, and what the way costs.
//!
//! The guest's tables hold guest-physical addresses. With nested paging (EPT, NPT) the processor
//! must translate each of them through the second tree before it can read the guest's entry:
//!
//! ```text
//!              second tree: h references each              guest's entry
//!   CR3   ──▶ [h] ──▶ PML4 entry ──▶ [h] ──▶ PDPT entry ──▶ [h] ──▶ PD entry ──▶ [h] ──▶ PT entry
//!                                                                                          │
//!   byte  ◀───────────────────────────── [h] ◀── guest-physical address of the page ───────┘
//!
//!   g guest levels, h host levels:  g × (h + 1) + h  =  (g + 1) × (h + 1) − 1        4 × 4: 24
//! ```
//!
//! A shadow table needs g. (Intel SDM vol. 3C, 30.3; AMD APM vol. 2, 15.25.)

use super::control::Paging;
use super::fault::{Access, Fault, Kind};
use super::level::Level;
use super::memory::PhysicalMemory;
use super::second::{Backing, SecondLevel};
use super::walk::{ATTEMPTS, Step, Translation, Walk, marked};
use crate::memory::{Gpa, Gva};

/// Memory references of a nested walk that goes through `guest` levels of the guest's tables and
/// `host` levels of the second tree for each address: 24 for 4 and 4, 35 for 5 and 5.
#[must_use]
pub const fn nested_references(guest: u32, host: u32) -> u32 {
    (guest + 1) * (host + 1) - 1
}

/// Where an address leads, through both levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedTranslation {
    /// The guest's half.
    pub guest: Translation,
    /// The host's half.
    pub host: Backing,
}

/// Why a nested walk ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NestedFault {
    /// The guest's own affair: its kernel gets the fault, and the hypervisor never hears of it.
    #[error(transparent)]
    Guest(#[from] Fault),
    /// The second level refuses (EPT violation, nested page fault): exit to the hypervisor.
    #[error("guest-physical {at} has no memory behind it that allows this{}", table_of(.level))]
    Violation {
        /// The guest-physical address.
        at: Gpa,
        /// The guest level whose table lies there; `None` for the page itself.
        level: Option<Level>,
        /// Whether it was to be written.
        write: bool,
    },
}

fn table_of(level: &Option<Level>) -> String {
    level.map_or_else(String::new, |level| format!(" (the guest's {level} entry)"))
}

/// A walk through both levels: every step, where each table lies on the host, and the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedWalk {
    /// The guest's half.
    pub guest: Walk,
    /// Where the address leads on the host.
    pub outcome: Result<NestedTranslation, NestedFault>,
    tables: [Backing; 5],
    /// How many of the guest's steps have a backing.
    reached: usize,
}

impl NestedWalk {
    /// The guest's steps that could be made, each with where its entry is on the host.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = (&Step, &Backing)> {
        self.guest.steps().iter().zip(&self.tables[..self.reached])
    }

    /// How many words a processor with nested paging and no caches reads: for each guest step the
    /// second tree and the entry, and the second tree once more for the page.
    #[must_use]
    pub fn references(&self) -> u32 {
        let steps = self.steps().map(|(_, table)| table.references + 1);
        let page = self.outcome.map_or(0, |found| found.host.references);
        steps.sum::<u32>() + page
    }

    /// How many words it reads where a shadow table merges both levels: one for each of the
    /// guest's steps, and the full depth where the guest has a huge page, because the host's
    /// pages behind it are small.
    #[must_use]
    pub fn shadow_references(&self, paging: &Paging) -> u32 {
        match self.outcome {
            Ok(_) => paging.levels.count() as u32,
            Err(_) => self.guest.steps().len() as u32,
        }
    }
}

impl Paging {
    /// Walks both levels and leaves memory as it is. `memory` holds the guest's tables by
    /// guest-physical address; `second` says where each of those addresses is on the host.
    #[must_use]
    pub fn walk_nested(
        &self,
        memory: &impl PhysicalMemory,
        second: &impl SecondLevel,
        address: Gva,
        access: Access,
    ) -> NestedWalk {
        self.nested(memory, second, address, access, false)
    }

    /// As [`walk_nested`](Self::walk_nested), with the guest's accessed and dirty bits set as
    /// [`walk_and_mark`](Self::walk_and_mark) does. They are set before the page itself is looked
    /// up in the second level, as hardware may.
    #[must_use]
    pub fn walk_nested_and_mark(
        &self,
        memory: &impl PhysicalMemory,
        second: &impl SecondLevel,
        address: Gva,
        access: Access,
    ) -> NestedWalk {
        self.nested(memory, second, address, access, true)
    }

    fn nested(
        &self,
        memory: &impl PhysicalMemory,
        second: &impl SecondLevel,
        address: Gva,
        access: Access,
        mark: bool,
    ) -> NestedWalk {
        let mut walk = NestedWalk {
            guest: self.walk(memory, address, access),
            outcome: Err(Fault::Unstable(address).into()),
            tables: [Backing::default(); 5],
            reached: 0,
        };
        for _ in 0..ATTEMPTS {
            let tables = back_tables(&mut walk, second, mark);
            // False: an entry changed since it was read.
            if tables.is_err() || !mark || self.mark(memory, &mut walk.guest) {
                walk.outcome = tables.and_then(|()| back_page(&walk.guest, second));
                return walk;
            }
            walk.guest = self.walk(memory, address, access);
        }
        walk
    }
}

/// Finds each table of the guest's walk on the host.
fn back_tables(
    walk: &mut NestedWalk,
    second: &impl SecondLevel,
    mark: bool,
) -> Result<(), NestedFault> {
    walk.reached = 0;
    let succeeded = walk.guest.outcome.is_ok();
    let last = walk.guest.steps().len().saturating_sub(1);
    for (number, step) in walk.guest.steps().iter().enumerate() {
        let dirtied = number == last && walk.guest.access.kind == Kind::Write;
        // Where a bit is to be set, the processor writes the table.
        let marks = mark && succeeded && marked(step.entry, dirtied) != step.entry;
        let violation = |write| NestedFault::Violation {
            at: step.at(),
            level: Some(step.level),
            write,
        };
        let backing = second.back(step.at()).ok_or(violation(false))?;
        if marks && !backing.writable {
            return Err(violation(true));
        }
        walk.tables[number] = backing;
        walk.reached = number + 1;
    }
    Ok(())
}

/// Finds the page of the guest's walk on the host, or passes the guest's fault on.
fn back_page(guest: &Walk, second: &impl SecondLevel) -> Result<NestedTranslation, NestedFault> {
    let found = match guest.outcome {
        Ok(found) => found,
        // What the walker calls outside memory is what the second level does not back.
        Err(Fault::OutsideMemory { level, at }) if second.back(at).is_none() => {
            return Err(NestedFault::Violation {
                at,
                level: Some(level),
                write: false,
            });
        }
        Err(fault) => return Err(fault.into()),
    };
    let write = guest.access.kind == Kind::Write;
    let backing = second.back(found.gpa).filter(|b| b.writable || !write);
    let host = backing.ok_or(NestedFault::Violation {
        at: found.gpa,
        level: None,
        write,
    })?;
    Ok(NestedTranslation { guest: found, host })
}

#[cfg(test)]
mod tests;

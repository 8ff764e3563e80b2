//! The first level: from guest-virtual to guest-physical, step by step as the processor does it.
//!
//! A walk reads one entry at each level, at most five dependent loads, and decides at the end:
//! rights are the intersection over all levels. Nothing is allocated.
//! (Intel SDM vol. 3A, 4.5 to 4.8.)

use super::control::Paging;
use super::entry::{Entry, Flags};
use super::fault::{Access, Cause, ErrorCode, Fault, Kind, PageFault, Privilege};
use super::level::{Level, PageSize};
use super::memory::PhysicalMemory;
use crate::memory::{Gpa, Gva};

/// How often a walk that marks entries starts again because another processor changed one.
pub(super) const ATTEMPTS: usize = 16;

/// One step of a walk: the entry that was read in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The table's level.
    pub level: Level,
    /// Where the table starts.
    pub table: Gpa,
    /// Which of its entries, 0 to 511.
    pub index: u16,
    /// What the entry held; after a walk that marks, what it holds.
    pub entry: Entry,
}

impl Step {
    /// Where the entry is.
    #[must_use]
    pub const fn at(&self) -> Gpa {
        Gpa(self.table.0 + self.index as u64 * 8)
    }
}

/// What an access may do with a page: what all levels together allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    /// Every level has the writable bit.
    pub write: bool,
    /// Every level has the user bit: this is a user page.
    pub user: bool,
    /// No level has the no-execute bit.
    pub execute: bool,
}

impl Rights {
    /// Whether `access` may go on, by SDM 4.6.1.
    ///
    /// # Errors
    /// The first cause, in the order in which this function asks. The processor's error code is
    /// the same whichever comes first.
    pub fn check(self, access: Access, paging: &Paging) -> Result<(), Cause> {
        let user_access = access.privilege == Privilege::User;
        if user_access && !self.user {
            return Err(Cause::SupervisorOnly);
        }
        if access.kind == Kind::Fetch {
            if !self.execute {
                return Err(Cause::NoExecute);
            }
            let smep = paging.smep && !user_access && self.user;
            return if smep { Err(Cause::Smep) } else { Ok(()) };
        }
        if access.privilege == Privilege::Supervisor && self.user && paging.smap {
            return Err(Cause::Smap);
        }
        if access.kind == Kind::Write && !self.write && (user_access || paging.write_protect) {
            return Err(Cause::ReadOnly);
        }
        Ok(())
    }
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The guest-physical address, the offset in the page included.
    pub gpa: Gpa,
    /// The size of the page.
    pub size: PageSize,
    /// What all levels together allow.
    pub rights: Rights,
    /// The entry that maps the page, as in the last step: its other bits.
    pub entry: Entry,
}

/// A walk: every step, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The address that was looked up.
    pub address: Gva,
    /// What for.
    pub access: Access,
    /// Where it leads, or why nowhere.
    pub outcome: Result<Translation, Fault>,
    steps: [Step; 5],
    count: u8,
}

impl Walk {
    /// The entries that were read, from the top table down. As many as memory references: none for
    /// an address that is not canonical.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps[..usize::from(self.count)]
    }
}

impl Paging {
    /// Looks `address` up for `access`, and leaves memory as it is.
    ///
    /// ```
    /// use ringside_vmm::memory::{Gpa, Gva};
    /// use ringside_vmm::paging::{Access, Level, Levels, Paging, PhysicalMemory, VecMemory};
    ///
    /// // One table at 0x1000 that serves as every level: its entry 0 points to itself.
    /// let memory = VecMemory::new(Gpa(0), 2);
    /// memory.write_u64(Gpa(0x1000), 0x1003).unwrap();
    /// let walk = Paging::new(Gpa(0x1000), Levels::Four).walk(&memory, Gva(0x12), Access::READ);
    /// assert_eq!(walk.outcome.unwrap().gpa, Gpa(0x1012));
    /// assert_eq!(walk.steps().len(), 4);
    /// assert_eq!(walk.steps()[3].level, Level::Pt);
    /// ```
    #[must_use]
    pub fn walk(&self, memory: &impl PhysicalMemory, address: Gva, access: Access) -> Walk {
        let top = self.levels.top();
        let unread = Step {
            level: top,
            table: self.top_table(),
            index: 0,
            entry: Entry::ABSENT,
        };
        let mut walk = Walk {
            address,
            access,
            outcome: Err(Fault::NotCanonical(address)),
            steps: [unread; 5],
            count: 0,
        };
        if self.levels.is_canonical(address) {
            walk.outcome = self.descend(memory, &mut walk);
        }
        walk
    }

    /// As [`walk`](Self::walk), and then sets the accessed bit of every entry that was used, and
    /// the dirty bit of the page's entry for a write, as the processor does: only when the access
    /// is allowed, and only in entries that still are what the walk read (otherwise it walks again).
    ///
    /// Real processors may also set accessed bits above an entry that faults; this sets the fewest
    /// that any does.
    #[must_use]
    pub fn walk_and_mark(
        &self,
        memory: &impl PhysicalMemory,
        address: Gva,
        access: Access,
    ) -> Walk {
        let mut walk = self.walk(memory, address, access);
        for _ in 0..ATTEMPTS {
            if self.mark(memory, &mut walk) {
                return walk;
            }
            walk = self.walk(memory, address, access);
        }
        walk.outcome = Err(Fault::Unstable(address));
        walk
    }

    /// The loop over the levels: fills the steps in and returns the outcome.
    fn descend(&self, memory: &impl PhysicalMemory, walk: &mut Walk) -> Result<Translation, Fault> {
        let mut level = self.levels.top();
        let mut table = self.top_table();
        // Rights are and-ed over the levels; no-execute is or-ed.
        let mut all = u64::MAX;
        let mut any = 0;
        let suspicious = self.suspicious_bits();
        loop {
            let index = level.index(walk.address) as u16;
            let mut step = Step {
                level,
                table,
                index,
                entry: Entry::ABSENT,
            };
            let at = step.at();
            let raw = memory
                .read_u64(at)
                .ok_or(Fault::OutsideMemory { level, at })?;
            let entry = Entry::from_raw(raw);
            step.entry = entry;
            walk.steps[usize::from(walk.count)] = step;
            walk.count += 1;

            if !entry.is_present() {
                return Err(self.refuse(walk, level, Cause::NotPresent));
            }
            if raw & suspicious != 0 {
                let reserved = self.reserved_bits(entry, level);
                if reserved != 0 {
                    return Err(self.refuse(walk, level, Cause::Reserved(reserved)));
                }
            }
            all &= entry.raw();
            any |= entry.raw();
            match (entry.page_size(level), level.below()) {
                (None, Some(below)) => {
                    table = entry.address(level);
                    level = below;
                }
                (size, _) => {
                    let size = size.unwrap_or(PageSize::Kib4);
                    let rights = Rights {
                        write: all & Flags::WRITABLE.bits() != 0,
                        user: all & Flags::USER.bits() != 0,
                        execute: any & Flags::NO_EXECUTE.bits() == 0,
                    };
                    if let Err(cause) = rights.check(walk.access, self) {
                        return Err(self.refuse(walk, level, cause));
                    }
                    let offset = walk.address.0 & (size.bytes() - 1);
                    return Ok(Translation {
                        gpa: Gpa(entry.address(level).0 | offset),
                        size,
                        rights,
                        entry,
                    });
                }
            }
        }
    }

    /// The page fault for `cause`, which showed at `level` after the steps so far.
    #[cold]
    fn refuse(&self, walk: &Walk, level: Level, cause: Cause) -> Fault {
        let Access { kind, privilege } = walk.access;
        let mut code = ErrorCode::empty();
        code.set(ErrorCode::PRESENT, cause != Cause::NotPresent);
        code.set(ErrorCode::WRITE, kind == Kind::Write);
        code.set(ErrorCode::USER, privilege == Privilege::User);
        code.set(ErrorCode::RESERVED, matches!(cause, Cause::Reserved(_)));
        code.set(
            ErrorCode::FETCH,
            kind == Kind::Fetch && self.fetch_is_told(),
        );
        // Rights are known only at the end; name the highest entry that takes them away.
        let refuses = |step: &&Step| match cause {
            Cause::ReadOnly => !step.entry.has(Flags::WRITABLE),
            Cause::SupervisorOnly => !step.entry.has(Flags::USER),
            Cause::NoExecute => step.entry.has(Flags::NO_EXECUTE),
            _ => false,
        };
        let level = walk
            .steps()
            .iter()
            .find(refuses)
            .map_or(level, |step| step.level);
        Fault::Page(PageFault {
            address: walk.address,
            code,
            level,
            cause,
        })
    }

    /// Sets accessed and dirty bits along the walk if it succeeded. False: an entry changed meanwhile.
    pub(super) fn mark(&self, memory: &impl PhysicalMemory, walk: &mut Walk) -> bool {
        if walk.outcome.is_err() {
            return true;
        }
        let last = usize::from(walk.count) - 1;
        for (number, step) in walk.steps[..=last].iter_mut().enumerate() {
            let marked = marked(
                step.entry,
                number == last && walk.access.kind == Kind::Write,
            );
            if marked == step.entry {
                continue;
            }
            let at = step.at();
            match memory.compare_exchange_u64(at, step.entry.raw(), marked.raw()) {
                Some(true) => step.entry = marked,
                Some(false) => return false,
                None => {
                    let level = step.level;
                    walk.outcome = Err(Fault::OutsideMemory { level, at });
                    return true;
                }
            }
        }
        if let Ok(translation) = &mut walk.outcome {
            translation.entry = walk.steps[last].entry;
        }
        true
    }
}

/// `entry` as the processor leaves it after using it.
pub(super) fn marked(entry: Entry, written: bool) -> Entry {
    let entry = entry.with(Flags::ACCESSED);
    if written {
        entry.with(Flags::DIRTY)
    } else {
        entry
    }
}

#[cfg(test)]
mod tests;

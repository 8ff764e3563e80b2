//! Two guests for the price list of [`Trace`]: one that computes, one that forks.
//!
//! Each is a small model of a kernel at work: its tables are built in memory, and the trace says
//! what it then does, so that the same guest can run under both techniques.

use super::build::{BuildError, Builder};
use super::control::Paging;
use super::entry::{Entry, Flags};
use super::fault::{Access, Privilege};
use super::level::{ENTRIES, Levels, PageSize};
use super::memory::{PhysicalMemory, VecMemory};
use super::nested_mmu::NestedMmu;
use super::second::{Slot, Slots, Through};
use super::shadow::{ShadowMachine, ShadowMmu};
use super::tlb::Tlb;
use super::trace::{Costs, GuestState, Op, Trace};
use crate::memory::{Gpa, Gva, Hva, PAGE_BYTES};

/// Where the host has the guest's memory.
const HOST: u64 = 0x7000_0000;
/// Guest pages set aside for each process's tables.
const TABLES: u64 = 8;
/// Where each process has its data.
const DATA: Gva = Gva(0x5555_0000_0000);
/// TLB entries and merged tables of the machines that run a workload.
const TLB_ENTRIES: usize = 64;
const MERGED_TABLES: usize = 4096;

/// The most pages that a process here can have: as many as its lowest table has entries.
const MAX_PAGES: u64 = ENTRIES as u64;
/// The most processes, so that memory for all of them is at most 512 MiB.
const MAX_PROCESSES: u64 = 256;

/// Why a workload was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// More than the model has room for.
    #[error(
        "{pages} pages in {processes} processes are too many; use at most {MAX_PAGES} in {MAX_PROCESSES}"
    )]
    TooLarge {
        /// Pages that each process was to have.
        pages: u64,
        /// Processes.
        processes: u64,
    },
    /// The tables could not be made.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// A guest, and what it does.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The host's memory at the start; each run needs a copy.
    pub host: VecMemory,
    /// Where the guest's memory is in it.
    pub second: Slots,
    /// Its registers at the start.
    pub state: GuestState,
    /// What it does.
    pub trace: Trace,
}

/// What the same guest cost under both techniques.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// With nested paging.
    pub nested: Costs,
    /// With shadow tables.
    pub shadow: Costs,
}

impl Workload {
    /// One process that goes over `pages` pages of its own `rounds` times, writing all of them.
    ///
    /// # Errors
    /// [`WorkloadError::TooLarge`] for more pages than a table has entries.
    pub fn compute(pages: u64, rounds: u64) -> Result<Self, WorkloadError> {
        let mut guest = Model::new(pages, 1)?;
        let process = guest.process(0)?;
        guest.map(&process, pages)?;
        for _ in 0..rounds {
            (0..pages).for_each(|page| guest.write(page));
        }
        Ok(guest.workload(&process))
    }

    /// A process with `pages` pages that forks `children` times. Each time its pages become
    /// read-only for both; the child writes each of its pages, whereupon the kernel gives it a copy;
    /// it ends, and the parent writes its pages again.
    ///
    /// # Errors
    /// As [`compute`](Self::compute), and for more than 255 children.
    pub fn fork(pages: u64, children: u64) -> Result<Self, WorkloadError> {
        let mut guest = Model::new(pages, children.saturating_add(1))?;
        let parent = guest.process(0)?;
        guest.map(&parent, pages)?;
        (0..pages).for_each(|page| guest.write(page));
        for number in 1..=children {
            let child = guest.process(number)?;
            for page in 0..pages {
                let shared = guest.entry(parent.page(page), false);
                guest.set(&parent, page, shared);
                guest.set(&child, page, shared);
            }
            // Loading CR3 makes the TLB forget that the parent could write.
            guest.switch(&parent);
            guest.switch(&child);
            for page in 0..pages {
                let copy = guest.entry(child.page(page), true);
                guest.write_after_fault(&child, page, copy);
            }
            guest.switch(&parent);
            for page in 0..pages {
                let own = guest.entry(parent.page(page), true);
                guest.write_after_fault(&parent, page, own);
            }
        }
        Ok(guest.workload(&parent))
    }

    /// Runs the guest from its start under both techniques.
    #[must_use]
    pub fn compare(&self) -> Comparison {
        let tlb = || Tlb::new(TLB_ENTRIES);
        let (one, two) = (self.host.clone(), self.host.clone());
        let mut nested = NestedMmu::new(&one, &self.second, self.state, tlb());
        let guest = Through::new(&two, &self.second);
        let hypervisor = ShadowMmu::new(&guest, &self.second, self.state.paging, MERGED_TABLES);
        let mut shadow = ShadowMachine::new(&two, hypervisor, self.state, tlb());
        Comparison {
            nested: self.trace.run(&mut nested),
            shadow: self.trace.run(&mut shadow),
        }
    }
}

/// A process: where its tables and its data are.
struct Process {
    root: Gpa,
    /// Its lowest table, whose entry `n` maps its data page `n`.
    lowest: Gpa,
    data: Gpa,
}

impl Process {
    fn page(&self, number: u64) -> Gpa {
        Gpa(self.data.0 + number * PAGE_BYTES)
    }
}

/// The guest while its trace is written.
struct Model {
    host: VecMemory,
    second: Slots,
    data: u64,
    pages_each: u64,
    trace: Trace,
}

impl Model {
    /// Memory for the tables of so many processes and, behind them, their pages of data.
    fn new(pages: u64, processes: u64) -> Result<Self, WorkloadError> {
        if pages > MAX_PAGES || processes > MAX_PROCESSES {
            return Err(WorkloadError::TooLarge { pages, processes });
        }
        let data = processes * TABLES * PAGE_BYTES;
        let bytes = data + processes * pages * PAGE_BYTES;
        let slot = Slot {
            number: 0,
            gpa: Gpa(0),
            bytes,
            hva: Hva(HOST),
            read_only: false,
        };
        Ok(Self {
            host: VecMemory::new(Gpa(HOST), (bytes / PAGE_BYTES) as usize),
            second: Slots::new([slot]),
            data,
            pages_each: pages,
            trace: Trace::default(),
        })
    }

    /// Makes the tables of process `number`, with a lowest one that maps nothing yet. They are made
    /// before the guest runs; what a fork writes is the lowest table.
    fn process(&self, number: u64) -> Result<Process, BuildError> {
        let memory = Through::new(&self.host, &self.second);
        let first = number * TABLES * PAGE_BYTES;
        let region = Gpa(first)..Gpa(first + TABLES * PAGE_BYTES);
        let mut builder = Builder::new(&memory, Levels::Four, region)?;
        builder.map(DATA, Gpa(0), PAGE_BYTES, PageSize::Kib4, Flags::empty())?;
        let paging = Paging::new(builder.root(), Levels::Four);
        let walk = paging.walk(&memory, DATA, Access::READ);
        let lowest = walk.steps().last().map_or(Gpa(0), |step| step.table);
        let _ = memory.write_u64(lowest, 0);
        Ok(Process {
            root: builder.root(),
            lowest,
            data: Gpa(self.data + number * self.pages_each * PAGE_BYTES),
        })
    }

    /// The entry for a page of a process, which the kernel marks used, as kernels do.
    fn entry(&self, page: Gpa, writable: bool) -> Entry {
        let mut flags = Flags::PRESENT | Flags::USER | Flags::ACCESSED;
        flags.set(Flags::WRITABLE, writable);
        Entry::page(page, PageSize::Kib4, flags)
    }

    /// Maps all pages of a process before the guest runs.
    fn map(&self, process: &Process, pages: u64) -> Result<(), BuildError> {
        let memory = Through::new(&self.host, &self.second);
        for number in 0..pages {
            let at = Gpa(process.lowest.0 + number * 8);
            let entry = self.entry(process.page(number), true);
            let written = memory.write_u64(at, entry.raw());
            written.ok_or(BuildError::OutsideMemory(at))?;
        }
        Ok(())
    }

    fn address(number: u64) -> Gva {
        Gva(DATA.0 + number * PAGE_BYTES)
    }

    fn write(&mut self, number: u64) {
        let (address, privilege) = (Self::address(number), Privilege::User);
        let value = number;
        self.trace.0.push(Op::Store {
            address,
            privilege,
            value,
        });
    }

    fn set(&mut self, process: &Process, number: u64, entry: Entry) {
        let at = Gpa(process.lowest.0 + number * 8);
        let value = entry.raw();
        self.trace.0.push(Op::Edit { at, value });
    }

    fn switch(&mut self, process: &Process) {
        self.trace.0.push(Op::Cr3(process.root.0));
    }

    /// A write that faults, the kernel's answer, and the write again.
    fn write_after_fault(&mut self, process: &Process, number: u64, entry: Entry) {
        self.write(number);
        self.set(process, number, entry);
        self.trace.0.push(Op::Invlpg(Self::address(number)));
        self.write(number);
    }

    fn workload(self, first: &Process) -> Workload {
        Workload {
            host: self.host,
            second: self.second,
            state: GuestState::new(Paging::new(first.root, Levels::Four)),
            trace: self.trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::Exits;
    use super::*;

    #[test]
    fn computing_costs_the_shadow_only_its_fills_and_spares_it_references() {
        let (pages, tables) = (128, 4);
        let once = Workload::compute(pages, 1).expect("fits").compare();
        let often = Workload::compute(pages, 50).expect("fits").compare();
        // Nested: an exit for the first touch of each page and table.
        let fill = pages + tables;
        assert_eq!(
            once.nested.exits,
            Exits {
                fill,
                ..Exits::default()
            }
        );
        // Shadow: an exit for each page. More rounds cost neither any more.
        let fill = pages;
        assert_eq!(
            once.shadow.exits,
            Exits {
                fill,
                ..Exits::default()
            }
        );
        assert_eq!(often.nested.exits, once.nested.exits);
        assert_eq!(often.shadow.exits, once.shadow.exits);
        // More pages than the TLB holds: every write walks, 24 references or 4.
        let walks = 50 * pages;
        assert_eq!(often.nested.walks, walks);
        assert_eq!(often.nested.references, walks * 24);
        let in_vain = often.shadow.walks - walks;
        assert_eq!(in_vain, pages, "one for each fault");
        assert!(often.shadow.references <= (walks + in_vain) * 4);
    }

    #[test]
    fn forking_costs_the_shadow_an_exit_for_each_edit_flush_and_fault() {
        let (pages, children) = (16, 3);
        let costs = Workload::fork(pages, children).expect("fits").compare();
        let nested = costs.nested.exits;
        assert_eq!(nested.total(), nested.fill, "{nested:?}");
        // Pages of all processes, and four tables of each.
        assert_eq!(nested.fill, (pages + 4) * (1 + children));

        let shadow = costs.shadow.exits;
        // Each child: its faults and its parent's, an invlpg after each, three loads of CR3.
        assert_eq!(shadow.guest_fault, 2 * pages * children, "{shadow:?}");
        assert_eq!(shadow.invlpg, 2 * pages * children);
        assert_eq!(shadow.cr3_write, 3 * children);
        // Edits: the parent's entries twice, the child's once less one: its lowest table is not
        // known as a table while the fork fills it in, nor before its first page is there.
        assert_eq!(shadow.table_write, (3 * pages - 1) * children);
        assert!(shadow.total() > 5 * nested.total());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (pages, processes) = (513, 1);
        let too_large = Err(WorkloadError::TooLarge { pages, processes });
        assert_eq!(Workload::compute(513, 0).map(drop), too_large);
        assert!(Workload::fork(1, u64::MAX).is_err());
    }
}

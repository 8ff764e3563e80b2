//! The hypervisor's half: keeps the merged tables equal to what the guest's tables and the slots say.

use std::collections::HashSet;

use super::super::control::Paging;
use super::super::entry::{Entry, Flags};
use super::super::fault::{Access, Kind};
use super::super::level::{Level, PageSize};
use super::super::memory::PhysicalMemory;
use super::super::nested::NestedWalk;
use super::super::nested_mmu::located;
use super::super::second::SecondLevel;
use super::super::tlb::{Flush, Tag, Tlb};
use super::super::walk::Translation;
use super::tables::{Tables, entry_at};
use super::{ShadowHooks, Verdict};
use crate::memory::{Gpa, Gva, Hpa};

/// The most tables that one fault can need: one for each level, and the splits of a 1 GiB page.
const TABLES_PER_FAULT: usize = 8;

/// Shadow page tables for one guest.
#[derive(Debug)]
pub struct ShadowMmu<'m, M, S> {
    /// The guest's memory, by guest-physical address.
    memory: &'m M,
    second: &'m S,
    paging: Paging,
    tables: Tables,
    root: Gpa,
    /// The huge pages of the guest that the TLB may have in pieces, in whatever address space.
    /// One `invlpg` must forget them all, and the processor, which sees small pages, would not.
    split: HashSet<(Gva, PageSize)>,
}

impl<'m, M: PhysicalMemory, S: SecondLevel> ShadowMmu<'m, M, S> {
    /// Shadows of the tables in `memory`, whose pages are on the host where `second` says. At most
    /// `capacity` merged tables of 4 KiB are kept (at least 16); when they run out, all are dropped
    /// and filled again.
    pub fn new(memory: &'m M, second: &'m S, paging: Paging, capacity: usize) -> Self {
        let mut mmu = Self {
            memory,
            second,
            paging,
            tables: Tables::new(capacity.max(2 * TABLES_PER_FAULT)),
            root: Gpa(0),
            split: HashSet::new(),
        };
        mmu.root = mmu
            .tables
            .add(Some((paging.top_table(), paging.levels.top())));
        mmu
    }

    /// Drops every merged table and starts again from the root.
    fn start_again(&mut self, tlb: &mut Tlb, asid: u16) {
        self.tables.reset();
        self.split.clear();
        self.root = self
            .tables
            .add(Some((self.paging.top_table(), self.paging.levels.top())));
        tlb.flush(asid, Flush::Everything);
    }

    /// The table merged from the guest's at `guest` and `level`: the one there is, or a new one.
    fn merged(&mut self, tlb: &mut Tlb, asid: u16, guest: Gpa, level: Level) -> Gpa {
        if let Some(table) = self.tables.merged_from(guest, level) {
            return table;
        }
        if !self.tables.is_guest_table(guest) {
            // The page becomes a table: from here on every write of it must be seen. Whatever maps
            // it loses the right to write, and so does the TLB: all of it, since it may remember
            // mappings that were cleared long ago and that the guest has not flushed yet.
            self.tables.protect(guest);
            tlb.flush(asid, Flush::Everything);
        }
        self.tables.add(Some((guest, level)))
    }

    /// Enters the translation that `walk` found: the tables on the way and the page's entry.
    fn fill(
        &mut self,
        tlb: &mut Tlb,
        asid: u16,
        walk: &NestedWalk,
        found: &Translation,
        host: Hpa,
    ) {
        if self.tables.free_tables() < TABLES_PER_FAULT {
            self.start_again(tlb, asid);
        }
        let address = walk.guest.address;
        let mut table = self.root;
        // The guest's tables below its top one: each step's entry points to the next step's table.
        let steps = walk.guest.steps();
        for (step, below) in steps.iter().zip(&steps[1..]) {
            let at = entry_at(table, usize::from(step.index));
            table = match child(self.tables.read(at)) {
                Some(child) => child,
                None => {
                    let child = self.merged(tlb, asid, below.table, below.level);
                    self.tables.link(at, child, table_flags(step.entry));
                    child
                }
            };
        }
        // A huge page is split down to the host's small ones.
        if found.size != PageSize::Kib4 {
            let start = address.align_down(found.size.bytes());
            self.split.insert((start, found.size));
        }
        let mut level = found.size.level();
        while let Some(below) = level.below() {
            let at = entry_at(table, level.index(address));
            table = match child(self.tables.read(at)) {
                Some(child) => child,
                None => {
                    let child = self.tables.add(None);
                    self.tables.link(at, child, table_flags(found.entry));
                    child
                }
            };
            level = below;
        }
        let at = entry_at(table, Level::Pt.index(address));
        let entry = self.page_entry(found, host);
        self.tables.map(at, entry, found.gpa);
    }

    /// The merged entry for the page that `found` leads to.
    fn page_entry(&self, found: &Translation, host: Hpa) -> Entry {
        let guest = found.entry;
        let mut flags = table_flags(guest) | Flags::DIRTY;
        flags |= guest.flags() & (Flags::GLOBAL | Flags::WRITE_THROUGH | Flags::CACHE_DISABLE);
        // The PAT bit of a small page is where others have the huge bit.
        let pat = guest.pat_index(found.size.level()) & 4 != 0;
        flags.set(Flags::HUGE, pat);
        let writable = self.second.back(found.gpa).is_some_and(|b| b.writable)
            && guest.has(Flags::DIRTY)
            && !self.tables.is_guest_table(found.gpa);
        if !writable {
            flags.remove(Flags::WRITABLE);
        }
        Entry::page(Gpa(host.page().0), PageSize::Kib4, flags)
            .with_protection_key(guest.protection_key())
    }
}

impl<M: PhysicalMemory, S: SecondLevel> ShadowHooks for ShadowMmu<'_, M, S> {
    fn root(&self) -> Gpa {
        self.root
    }

    fn tables(&self) -> &impl PhysicalMemory {
        self.tables.memory()
    }

    fn is_guest_table(&self, at: Gpa) -> bool {
        self.tables.is_guest_table(at)
    }

    fn on_cr3_write(&mut self, tlb: &mut Tlb, asid: u16, paging: Paging, flush: Option<Flush>) {
        self.paging = paging;
        if self.tables.free_tables() == 0 {
            self.start_again(tlb, asid);
        } else {
            self.root = self.merged(tlb, asid, paging.top_table(), paging.levels.top());
        }
        if let Some(flush) = flush {
            tlb.flush(asid, flush);
        }
    }

    fn on_controls(&mut self, tlb: &mut Tlb, asid: u16, paging: Paging) {
        // Which entries are well formed may have changed, and how many levels there are.
        self.paging = paging;
        self.start_again(tlb, asid);
    }

    fn on_fault(&mut self, tlb: &mut Tlb, asid: u16, address: Gva, access: Access) -> Verdict {
        // What the guest's own processor would do: walk, refuse or mark.
        let paging = self.paging;
        let walk = paging.walk_nested_and_mark(self.memory, self.second, address, access);
        let (found, host) = match located(&walk) {
            Ok(located) => located,
            Err(fault) => return Verdict::Refuse(fault),
        };
        let write = access.kind == Kind::Write;
        // With CR0.WP clear the supervisor may write what is read-only. The processor runs with WP
        // set, so as to see writes of page tables; the merged table must stay as it is.
        if write && (!found.rights.write || self.tables.is_guest_table(found.gpa)) {
            return Verdict::Emulate {
                at: found.gpa,
                host,
            };
        }
        self.fill(tlb, asid, &walk, &found, host);
        Verdict::Retry
    }

    fn on_guest_write(&mut self, _: &mut Tlb, _: u16, at: Gpa, value: u64) {
        if self.memory.write_u64(at, value).is_none() {
            // No memory, or none that the guest may write: nothing changed.
            return;
        }
        // Only the merged table forgets. The TLB may remember until the guest flushes it, as on a
        // processor of its own.
        self.tables.clear_merged_from(at);
        self.tables.release_unused(at, self.root);
    }

    fn on_invlpg(&mut self, tlb: &mut Tlb, tag: Tag, address: Gva) {
        let pcid = tag.pcid;
        let in_huge_page = [PageSize::Mib2, PageSize::Gib1].into_iter().any(|size| {
            self.split
                .contains(&(address.align_down(size.bytes()), size))
        });
        tlb.flush(
            tag.asid,
            if in_huge_page {
                Flush::Everything
            } else {
                Flush::Page { pcid, address }
            },
        );
    }

    fn on_host_moved(&mut self, tlb: &mut Tlb, asid: u16, at: Gpa) {
        self.tables.unmap(at);
        tlb.flush(asid, Flush::Everything);
    }
}

/// The merged table that `entry` points to, if it does.
fn child(entry: Entry) -> Option<Gpa> {
    entry.is_present().then(|| entry.address(Level::Pml4))
}

/// The rights of a guest's entry, for a merged entry of the same level. Marked as used, so that the
/// processor need not mark it.
fn table_flags(guest: Entry) -> Flags {
    let rights = Flags::PRESENT | Flags::WRITABLE | Flags::USER | Flags::NO_EXECUTE;
    guest.flags() & rights | Flags::ACCESSED
}

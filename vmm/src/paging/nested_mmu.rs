//! Nested paging as a technique: the processor walks both trees itself, and the hypervisor hears
//! only of guest-physical memory that is not there.

use std::collections::HashSet;

use super::control::Paging;
use super::entry::Flags;
use super::fault::{Access, Kind, Privilege};
use super::memory::PhysicalMemory;
use super::nested::{NestedFault, NestedTranslation, NestedWalk};
use super::second::{SecondLevel, Through};
use super::tlb::{Flush, Tlb, TlbEntry};
use super::trace::{Costs, GuestState, Mmu, store_access};
use super::walk::Translation;
use crate::memory::{Gpa, Gva, Hpa};

/// A guest on a processor with nested paging.
#[derive(Debug)]
pub struct NestedMmu<'m, H, S> {
    /// The host's memory, by host-physical address.
    host: &'m H,
    second: &'m S,
    state: GuestState,
    tlb: Tlb,
    /// Guest-physical pages that the second tree has. It starts empty and is filled on demand.
    filled: HashSet<Gpa>,
    costs: Costs,
}

impl<'m, H: PhysicalMemory, S: SecondLevel> NestedMmu<'m, H, S> {
    /// A guest in `state` whose memory is where `second` says in `host`.
    pub fn new(host: &'m H, second: &'m S, state: GuestState, tlb: Tlb) -> Self {
        Self {
            host,
            second,
            state,
            tlb,
            filled: HashSet::new(),
            costs: Costs::default(),
        }
    }

    fn guest(&self) -> Through<'m, H, S> {
        Through::new(self.host, self.second)
    }

    /// Counts the exits by which the second tree comes to have all that `walk` went through.
    fn fill_second_tree(&mut self, walk: &NestedWalk) {
        let tables = walk.steps().map(|(step, _)| step.table);
        let page = walk.outcome.ok().map(|found| found.guest.gpa.page());
        for page in tables.chain(page) {
            self.costs.exits.fill += u64::from(self.filled.insert(page));
        }
    }
}

impl<H: PhysicalMemory, S: SecondLevel> Mmu for NestedMmu<'_, H, S> {
    fn access(&mut self, address: Gva, access: Access) -> Result<Hpa, NestedFault> {
        let GuestState { paging, tag, .. } = self.state;
        if let Some(hit) = self.tlb.look_up(tag, address) {
            let dirty = hit.dirty || access.kind != Kind::Write;
            if dirty && hit.rights.check(access, &paging).is_ok() {
                self.costs.tlb_hits += 1;
                return Ok(Hpa(hit.host.0 + address.page_offset()));
            }
            // What is remembered does not do: walk, as real processors do before they fault.
            self.tlb.forget(tag, address);
        }
        let guest = self.guest();
        let walk = paging.walk_nested_and_mark(&guest, self.second, address, access);
        self.fill_second_tree(&walk);
        self.costs.walks += 1;
        self.costs.references += u64::from(walk.references());
        let (found, host) = located(&walk).inspect_err(|fault| {
            self.costs.exits.violation += u64::from(matches!(fault, NestedFault::Violation { .. }));
        })?;
        let host_writable = self.second.back(found.gpa).is_some_and(|b| b.writable);
        self.tlb.insert(TlbEntry {
            tag,
            page: address.page(),
            host: host.page(),
            rights: found.rights,
            dirty: found.entry.has(Flags::DIRTY) && host_writable,
            global: found.entry.has(Flags::GLOBAL),
            size: found.size,
        });
        Ok(host)
    }

    fn store(
        &mut self,
        address: Gva,
        privilege: Privilege,
        value: u64,
    ) -> Result<Hpa, NestedFault> {
        let host = self.access(address.align_down(8), store_access(privilege))?;
        // Where the host has no memory the store is lost, as on a bus.
        let _ = self.host.write_u64(Gpa(host.0), value);
        Ok(host)
    }

    fn edit(&mut self, at: Gpa, value: u64) {
        let _ = self.guest().write_u64(at, value);
    }

    fn write_cr3(&mut self, value: u64) {
        if let Some(flush) = self.state.load_cr3(value) {
            self.tlb.flush(self.state.tag.asid, flush);
        }
    }

    fn invlpg(&mut self, address: Gva) {
        let pcid = self.state.tag.pcid;
        self.tlb
            .flush(self.state.tag.asid, Flush::Page { pcid, address });
    }

    fn set_controls(&mut self, controls: Paging) {
        self.state.load_controls(controls);
        self.tlb.flush(self.state.tag.asid, Flush::Everything);
    }

    fn host_moved(&mut self, at: Gpa) {
        self.filled.remove(&at.page());
        self.tlb.flush(self.state.tag.asid, Flush::Everything);
    }

    fn costs(&self) -> Costs {
        self.costs
    }
}

/// The guest's translation and the host's address, of a walk that found both.
pub(super) fn located(walk: &NestedWalk) -> Result<(Translation, Hpa), NestedFault> {
    let NestedTranslation { guest, host } = walk.outcome?;
    let host = host.host_address().ok_or(NestedFault::Violation {
        at: guest.gpa,
        level: None,
        write: walk.guest.access.kind == Kind::Write,
    })?;
    Ok((guest, host))
}

//! The processor's half: a TLB, the walk of the merged table, and the exits to the hypervisor.

use super::super::control::Paging;
use super::super::entry::Flags;
use super::super::fault::{Access, Fault, Privilege};
use super::super::memory::PhysicalMemory;
use super::super::nested::NestedFault;
use super::super::tlb::{Tlb, TlbEntry};
use super::super::trace::{Costs, GuestState, Mmu, store_access};
use super::{ShadowHooks, Verdict};
use crate::memory::{Gpa, Gva, Hpa};

/// How often an access is retried after the hypervisor said that the merged table has it: once for
/// the fill, once more because the filled page turned out to be a table itself.
const RETRIES: usize = 3;

/// A guest on a processor without nested paging, under a hypervisor `K` that shadows its tables.
#[derive(Debug)]
pub struct ShadowMachine<'m, H, K> {
    /// The host's memory, by host-physical address.
    host: &'m H,
    hypervisor: K,
    state: GuestState,
    tlb: Tlb,
    costs: Costs,
}

/// Where an access ended.
enum Reached {
    /// At this host address, and the processor may do it.
    Host(Hpa),
    /// There, and the hypervisor does it.
    Emulated(Gpa, Hpa),
}

impl<'m, H: PhysicalMemory, K: ShadowHooks> ShadowMachine<'m, H, K> {
    /// A guest in `state`, whose pages are in `host`; `hypervisor` shadows the tables of that state.
    pub fn new(host: &'m H, hypervisor: K, state: GuestState, tlb: Tlb) -> Self {
        Self {
            host,
            hypervisor,
            state,
            tlb,
            costs: Costs::default(),
        }
    }

    /// The hypervisor's half.
    pub fn hypervisor(&self) -> &K {
        &self.hypervisor
    }

    /// What the TLB remembers.
    pub fn tlb(&self) -> &Tlb {
        &self.tlb
    }

    /// The guest's registers.
    pub fn state(&self) -> GuestState {
        self.state
    }

    fn reach(&mut self, address: Gva, access: Access) -> Result<Reached, NestedFault> {
        if !self.state.paging.levels.is_canonical(address) {
            return Err(Fault::NotCanonical(address).into());
        }
        let tag = self.state.tag;
        for _ in 0..=RETRIES {
            let paging = self.hypervisor.merged_paging(&self.state.paging);
            if let Some(hit) = self.tlb.look_up(tag, address) {
                if hit.rights.check(access, &paging).is_ok() {
                    self.costs.tlb_hits += 1;
                    return Ok(Reached::Host(Hpa(hit.host.0 + address.page_offset())));
                }
                self.tlb.forget(tag, address);
            }
            let walk = paging.walk(self.hypervisor.tables(), address, access);
            self.costs.walks += 1;
            self.costs.references += walk.steps().len() as u64;
            if let Ok(found) = walk.outcome {
                self.tlb.insert(TlbEntry {
                    tag,
                    page: address.page(),
                    host: Hpa(found.gpa.page().0),
                    rights: found.rights,
                    // The merged entry is writable only once the guest's is dirty.
                    dirty: found.rights.write,
                    global: found.entry.has(Flags::GLOBAL),
                    size: found.size,
                });
                return Ok(Reached::Host(Hpa(found.gpa.0)));
            }
            let verdict = self
                .hypervisor
                .on_fault(&mut self.tlb, tag.asid, address, access);
            let exits = &mut self.costs.exits;
            match verdict {
                Verdict::Retry => exits.fill += 1,
                Verdict::Emulate { at, host } => {
                    if self.hypervisor.is_guest_table(at) {
                        exits.table_write += 1;
                    } else {
                        exits.emulated_write += 1;
                    }
                    return Ok(Reached::Emulated(at, host));
                }
                Verdict::Refuse(fault) => {
                    match fault {
                        NestedFault::Guest(_) => exits.guest_fault += 1,
                        NestedFault::Violation { .. } => exits.violation += 1,
                    }
                    return Err(fault);
                }
            }
        }
        // The hypervisor said each time that it had filled the table, and had not.
        Err(Fault::Unstable(address).into())
    }

    /// What the hypervisor does for the guest where [`Verdict::Emulate`] says so.
    fn emulate_store(&mut self, at: Gpa, value: u64) {
        let asid = self.state.tag.asid;
        self.hypervisor
            .on_guest_write(&mut self.tlb, asid, at, value);
    }
}

impl<H: PhysicalMemory, K: ShadowHooks> Mmu for ShadowMachine<'_, H, K> {
    fn access(&mut self, address: Gva, access: Access) -> Result<Hpa, NestedFault> {
        match self.reach(address, access)? {
            Reached::Host(host) => Ok(host),
            Reached::Emulated(at, host) => {
                if let Some(same) = self.host.read_u64(Gpa(host.0).align_down(8)) {
                    self.emulate_store(at.align_down(8), same);
                }
                Ok(host)
            }
        }
    }

    fn store(
        &mut self,
        address: Gva,
        privilege: Privilege,
        value: u64,
    ) -> Result<Hpa, NestedFault> {
        match self.reach(address.align_down(8), store_access(privilege))? {
            Reached::Host(host) => {
                // Where the host has no memory the store is lost, as on a bus.
                let _ = self.host.write_u64(Gpa(host.0), value);
                Ok(host)
            }
            Reached::Emulated(at, host) => {
                self.emulate_store(at, value);
                Ok(host)
            }
        }
    }

    fn edit(&mut self, at: Gpa, value: u64) {
        if self.hypervisor.is_guest_table(at) {
            self.costs.exits.table_write += 1;
        }
        self.emulate_store(at, value);
    }

    fn write_cr3(&mut self, value: u64) {
        self.costs.exits.cr3_write += 1;
        let flush = self.state.load_cr3(value);
        let GuestState { paging, tag, .. } = self.state;
        self.hypervisor
            .on_cr3_write(&mut self.tlb, tag.asid, paging, flush);
    }

    fn invlpg(&mut self, address: Gva) {
        self.costs.exits.invlpg += 1;
        self.hypervisor
            .on_invlpg(&mut self.tlb, self.state.tag, address);
    }

    fn set_controls(&mut self, controls: Paging) {
        self.costs.exits.controls += 1;
        self.state.load_controls(controls);
        let GuestState { paging, tag, .. } = self.state;
        self.hypervisor.on_controls(&mut self.tlb, tag.asid, paging);
    }

    fn host_moved(&mut self, at: Gpa) {
        let asid = self.state.tag.asid;
        self.hypervisor.on_host_moved(&mut self.tlb, asid, at);
    }

    fn costs(&self) -> Costs {
        self.costs
    }
}

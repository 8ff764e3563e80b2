//! What a guest does to its MMU, as data, and what that costs under each technique.
//!
//! | The guest | nested paging | shadow paging |
//! |---|---|---|
//! | misses the TLB | up to 24 references | 4 references |
//! | touches a page for the first time | an exit, unless the second tree has it | an exit |
//! | writes a page table | – | an exit |
//! | writes CR3, `invlpg` | – | an exit each |
//! | takes a page fault of its own | – | an exit, and back in |
//!
//! So a guest that computes likes shadow tables, and one that forks likes nested ones.

use super::control::Paging;
use super::fault::{Access, Kind, Privilege};
use super::nested::NestedFault;
use super::tlb::{Flush, Tag};
use crate::memory::{Gpa, Gva, Hpa};

/// One thing that a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads, fetches, or writes back what is there.
    Access {
        /// Where.
        address: Gva,
        /// How.
        access: Access,
    },
    /// Writes eight aligned bytes: the lowest three bits of `address` are dropped.
    Store {
        /// Where.
        address: Gva,
        /// For whom.
        privilege: Privilege,
        /// What.
        value: u64,
    },
    /// The guest's kernel writes a table's entry at `at`, through some mapping of all its memory
    /// that the trace does not spell out.
    Edit {
        /// Where the entry is.
        at: Gpa,
        /// What it becomes.
        value: u64,
    },
    /// Writes CR3: bits 51..12 are the root; with PCIDs, 11..0 are the PCID, and bit 63 says not to
    /// flush.
    Cr3(u64),
    /// `invlpg`.
    Invlpg(Gva),
    /// Changes CR0, CR4 or EFER: everything but the root is taken over, and all is flushed.
    Controls(Paging),
}

/// The guest's registers, as far as translation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestState {
    /// How the guest's tables are walked.
    pub paging: Paging,
    /// Whether CR4.PCIDE is set: CR3 has a PCID.
    pub pcids: bool,
    /// Whose translations these are.
    pub tag: Tag,
}

impl GuestState {
    /// A guest with PCIDs off, as VM number 1.
    #[must_use]
    pub fn new(paging: Paging) -> Self {
        Self {
            paging,
            pcids: false,
            tag: Tag { asid: 1, pcid: 0 },
        }
    }

    /// Takes a new CR3, and says what it flushes.
    pub fn load_cr3(&mut self, value: u64) -> Option<Flush> {
        self.paging.root = Gpa(value & 0x000f_ffff_ffff_f000);
        if !self.pcids {
            return Some(Flush::Pcid(0));
        }
        self.tag.pcid = (value & 0xfff) as u16;
        let keep = value >> 63 == 1;
        (!keep).then_some(Flush::Pcid(self.tag.pcid))
    }

    /// Takes new controls, but not their root.
    pub fn load_controls(&mut self, controls: Paging) {
        let root = self.paging.root;
        self.paging = Paging { root, ..controls };
    }
}

/// How often the hypervisor was entered, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// A translation was missing in the hypervisor's table (shadow or second), and now is there.
    pub fill: u64,
    /// The guest wrote one of its own page tables, which the hypervisor does for it.
    pub table_write: u64,
    /// The guest wrote a read-only page with CR0.WP clear, which the hypervisor does for it.
    pub emulated_write: u64,
    /// The guest wrote CR3.
    pub cr3_write: u64,
    /// The guest used `invlpg`.
    pub invlpg: u64,
    /// The guest changed CR0, CR4 or EFER.
    pub controls: u64,
    /// A fault that the guest made and gets, through the hypervisor.
    pub guest_fault: u64,
    /// An access where the guest has no memory, or none that it may write.
    pub violation: u64,
}

impl Exits {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self {
            fill,
            table_write,
            emulated_write,
            cr3_write,
            invlpg,
            controls,
            guest_fault,
            violation,
        } = self;
        fill + table_write
            + emulated_write
            + cr3_write
            + invlpg
            + controls
            + guest_fault
            + violation
    }
}

/// What a trace cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// Entries into the hypervisor.
    pub exits: Exits,
    /// Accesses whose translation the TLB had.
    pub tlb_hits: u64,
    /// Walks of tables by the processor.
    pub walks: u64,
    /// Words that those walks read.
    pub references: u64,
}

/// A memory-management unit that a guest runs on: one technique, processor and hypervisor together.
pub trait Mmu {
    /// Translates for `access`; a write stores what is there already. The outcome is the host's
    /// address, or what the access ends in.
    ///
    /// # Errors
    /// The guest's fault, or a violation of the second level.
    fn access(&mut self, address: Gva, access: Access) -> Result<Hpa, NestedFault>;

    /// Stores `value` in the aligned word at `address`.
    ///
    /// # Errors
    /// As [`access`](Self::access).
    fn store(&mut self, address: Gva, privilege: Privilege, value: u64)
    -> Result<Hpa, NestedFault>;

    /// The guest's kernel writes a table entry; see [`Op::Edit`].
    fn edit(&mut self, at: Gpa, value: u64);

    /// The guest writes CR3; see [`Op::Cr3`].
    fn write_cr3(&mut self, value: u64);

    /// The guest executes `invlpg`.
    fn invlpg(&mut self, address: Gva);

    /// The guest changes its controls; see [`Op::Controls`].
    fn set_controls(&mut self, controls: Paging);

    /// The hypervisor took the host page behind `at` away, or put another in its place.
    fn host_moved(&mut self, at: Gpa);

    /// What it cost so far.
    fn costs(&self) -> Costs;

    /// Does one thing of a trace, and says what an access came to.
    fn run(&mut self, op: Op) -> Option<Result<Hpa, NestedFault>> {
        match op {
            Op::Access { address, access } => return Some(self.access(address, access)),
            Op::Store {
                address,
                privilege,
                value,
            } => return Some(self.store(address, privilege, value)),
            Op::Edit { at, value } => self.edit(at, value),
            Op::Cr3(value) => self.write_cr3(value),
            Op::Invlpg(address) => self.invlpg(address),
            Op::Controls(controls) => self.set_controls(controls),
        }
        None
    }
}

/// What a guest does, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace(pub Vec<Op>);

impl Trace {
    /// Runs all of it, and says what it cost together with what went before.
    pub fn run(&self, mmu: &mut impl Mmu) -> Costs {
        for op in &self.0 {
            mmu.run(*op);
        }
        mmu.costs()
    }
}

/// The access that a store makes.
pub(super) const fn store_access(privilege: Privilege) -> Access {
    Access::new(Kind::Write, privilege)
}

//! Shadow page tables: one merged table instead of two levels, for processors that can walk but one.
//!
//! ```text
//!    guest-virtual ──[ the guest's tables ]──▶ guest-physical ──[ slots ]──▶ host
//!          │            write-protected:                                      ▲
//!          │            each edit exits                                       │
//!          └───────────[ merged tables, which CR3 really points to ]──────────┘
//! ```
//!
//! The guest believes in its own tables; the processor sees only the merged ones, which the
//! hypervisor fills on demand. Both are kept the same by four rules:
//!
//! 1. **Fill on fault.** A merged entry appears only when a page fault asks for it, copied from
//!    the guest's entry of the same level, with the guest-physical address of a page replaced by the
//!    host's. On the way the guest's accessed and dirty bits are set, as the processor would; a page
//!    that is not dirty yet is merged read-only, so that its first write faults and sets the bit.
//! 2. **Write-protect.** A guest page that is merged as a table is mapped read-only everywhere. An
//!    edit faults; the hypervisor does it for the guest, and clears what it had merged from there.
//! 3. **Forget with the guest.** What the guest flushes (CR3, `invlpg`) is flushed from the TLB.
//! 4. **Forget for oneself.** Where a page becomes a table or leaves the host, the TLB is flushed
//!    although the guest never asked; and where the guest flushes one address of a huge page, which
//!    the merged table has in small pieces, all of them are.
//!
//! The room has two halves, so that either can be replaced: [`ShadowMachine`] is the processor
//! (TLB, walk of the merged table, exits), and whoever implements [`ShadowHooks`], such as
//! [`ShadowMmu`], is the hypervisor. [`audit`] finds what is stale in a merged table.
//!
//! Two assumptions. No host page backs two guest-physical pages: otherwise a table could be written
//! through its other address, which nobody protects. And the guest has one processor: with more,
//! each flush above has to reach every TLB.

mod audit;
mod machine;
mod mmu;
mod tables;

pub use audit::{Stale, audit};
pub use machine::ShadowMachine;
pub use mmu::ShadowMmu;

use super::control::{Paging, Processor};
use super::fault::Access;
use super::memory::PhysicalMemory;
use super::nested::NestedFault;
use super::tlb::{Flush, Tag, Tlb};
use crate::memory::{Gpa, Gva, Hpa};

/// What the hypervisor says to a page fault on the merged table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The merged table has the translation now: run the instruction again.
    Retry,
    /// The access is the guest's right, but the merged table must not allow it: the hypervisor
    /// does it instead (a write of a page table, or of a read-only page with CR0.WP clear).
    Emulate {
        /// The guest-physical address.
        at: Gpa,
        /// The host's.
        host: Hpa,
    },
    /// The guest is at fault and gets its page fault, or nothing is there and a device may answer.
    Refuse(NestedFault),
}

/// The hypervisor's half of shadow paging: what it does at each exit. Each hook may flush the TLB
/// (the entries of its VM, `asid`), and must where this keeps a promise to the guest.
pub trait ShadowHooks {
    /// Where the merged top table of the current address space is, in [`tables`](Self::tables).
    fn root(&self) -> Gpa;

    /// The memory that holds the merged tables. Their entries have the processor's format; those
    /// that map pages hold host addresses.
    fn tables(&self) -> &impl PhysicalMemory;

    /// How the processor really walks while the guest believes in `guest`: the merged table, with
    /// the guest's SMEP and SMAP, and with write protection and no-execute on whatever it chose.
    fn merged_paging(&self, guest: &Paging) -> Paging {
        Paging {
            root: self.root(),
            no_execute: true,
            write_protect: true,
            processor: Processor::default(),
            ..*guest
        }
    }

    /// Whether the guest page that holds `at` is merged as a table, and so write-protected.
    fn is_guest_table(&self, at: Gpa) -> bool;

    /// The guest wrote CR3: `paging` has the new root. `flush` is what the guest may expect to be
    /// forgotten, `None` if it asked to keep all.
    fn on_cr3_write(&mut self, tlb: &mut Tlb, asid: u16, paging: Paging, flush: Option<Flush>);

    /// The guest changed CR0, CR4 or EFER: `paging` is what holds now. Everything is flushed.
    fn on_controls(&mut self, tlb: &mut Tlb, asid: u16, paging: Paging);

    /// The merged table refused `access` at `address`.
    fn on_fault(&mut self, tlb: &mut Tlb, asid: u16, address: Gva, access: Access) -> Verdict;

    /// The guest writes the aligned word at `at`, which is in a page table or otherwise protected:
    /// write it for the guest, and forget what was merged from it.
    fn on_guest_write(&mut self, tlb: &mut Tlb, asid: u16, at: Gpa, value: u64);

    /// The guest executed `invlpg` in the address space of `tag`.
    fn on_invlpg(&mut self, tlb: &mut Tlb, tag: Tag, address: Gva);

    /// The host page behind `at` went away or was replaced.
    fn on_host_moved(&mut self, tlb: &mut Tlb, asid: u16, at: Gpa);
}

#[cfg(test)]
mod tests;

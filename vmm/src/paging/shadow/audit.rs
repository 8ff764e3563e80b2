//! Whether a merged table says anything that the guest's tables and the slots do not.

use super::super::control::Paging;
use super::super::entry::{Entry, Flags};
use super::super::fault::{Access, Kind, Privilege};
use super::super::level::{ENTRIES, Level};
use super::super::memory::PhysicalMemory;
use super::super::nested::{NestedFault, NestedWalk};
use super::super::second::SecondLevel;
use super::super::walk::{Rights, Translation};
use super::ShadowHooks;
use crate::memory::{Gpa, Gva, Hpa};

/// A merged translation that should not be as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// The guest has no such translation (any more).
    #[error(
        "{address} is merged to {merged}, but both levels together say: {fault}; clear the entry when the guest edits its tables"
    )]
    Gone {
        /// The address.
        address: Gva,
        /// Where the merged table leads.
        merged: Hpa,
        /// What the nested walk says.
        fault: NestedFault,
    },
    /// The guest's translation leads elsewhere.
    #[error(
        "{address} is merged to {merged}, but both levels together lead to {nested}; clear the entry when the guest edits its tables"
    )]
    Moved {
        /// The address.
        address: Gva,
        /// Where the merged table leads.
        merged: Hpa,
        /// Where the nested walk leads.
        nested: Hpa,
    },
    /// The merged translation has other rights.
    #[error("{address} is merged with {merged:?}, but both levels together allow {nested:?}")]
    Rights {
        /// The address.
        address: Gva,
        /// The merged rights.
        merged: Rights,
        /// The guest's.
        nested: Rights,
    },
    /// The guest's entries miss a mark that the processor would have set.
    #[error(
        "{address} is merged although a guest entry on its way is not marked accessed, or it is writable and not dirty; mark entries when filling"
    )]
    Unmarked {
        /// The address.
        address: Gva,
    },
    /// A page table of the guest can be written without an exit.
    #[error(
        "{address} is merged writable, but guest-physical {table} is one of the guest's page tables; write-protect it"
    )]
    Unprotected {
        /// The address.
        address: Gva,
        /// The guest's table.
        table: Gpa,
    },
}

/// Goes through every translation that the merged table of the current address space has, and holds
/// it against the nested walk. Returns how many there are.
///
/// # Errors
/// The first that is stale, too generous, or not marked in the guest's tables.
pub fn audit(
    hypervisor: &impl ShadowHooks,
    paging: &Paging,
    memory: &impl PhysicalMemory,
    second: &impl SecondLevel,
) -> Result<usize, Stale> {
    let mut leaves = Vec::new();
    let top = paging.levels.top();
    collect(
        hypervisor.tables(),
        hypervisor.root(),
        top,
        Gva(0),
        ALL,
        &mut leaves,
    );
    for (address, entry, rights) in &leaves {
        let address = paging.levels.canonical(*address);
        let merged = Hpa(entry.address(Level::Pt).0);
        // A read that nothing but absence can refuse.
        let read = Access::new(Kind::Read, Privilege::SupervisorAc);
        let walk = paging.walk_nested(memory, second, address, read);
        let found = walk.outcome.map_err(|fault| Stale::Gone {
            address,
            merged,
            fault,
        })?;
        let nested = found.host.host_address().unwrap_or_default();
        if nested != merged {
            return Err(Stale::Moved {
                address,
                merged,
                nested,
            });
        }
        compare(address, *rights, &walk, &found.guest, found.host.writable)?;
        if rights.write && hypervisor.is_guest_table(found.guest.gpa) {
            let table = found.guest.gpa;
            return Err(Stale::Unprotected { address, table });
        }
    }
    Ok(leaves.len())
}

const ALL: Rights = Rights {
    write: true,
    user: true,
    execute: true,
};

/// Rights and marks of one translation.
fn compare(
    address: Gva,
    merged: Rights,
    walk: &NestedWalk,
    found: &Translation,
    host_writable: bool,
) -> Result<(), Stale> {
    let nested = found.rights;
    let too_generous = merged.write && !(nested.write && host_writable);
    if too_generous || merged.user != nested.user || merged.execute != nested.execute {
        return Err(Stale::Rights {
            address,
            merged,
            nested,
        });
    }
    let accessed = walk
        .guest
        .steps()
        .iter()
        .all(|s| s.entry.has(Flags::ACCESSED));
    if !accessed || merged.write && !found.entry.has(Flags::DIRTY) {
        return Err(Stale::Unmarked { address });
    }
    Ok(())
}

/// All pages below `table`, with their rights over all levels.
fn collect(
    tables: &impl PhysicalMemory,
    table: Gpa,
    level: Level,
    base: Gva,
    above: Rights,
    leaves: &mut Vec<(Gva, Entry, Rights)>,
) {
    for index in 0..ENTRIES as u64 {
        let raw = tables.read_u64(Gpa(table.0 + index * 8)).unwrap_or(0);
        let entry = Entry::from_raw(raw);
        if !entry.is_present() {
            continue;
        }
        let address = Gva(base.0 | index << level.shift());
        let rights = Rights {
            write: above.write && entry.has(Flags::WRITABLE),
            user: above.user && entry.has(Flags::USER),
            execute: above.execute && !entry.has(Flags::NO_EXECUTE),
        };
        match level.below() {
            Some(below) => {
                let child = entry.address(Level::Pml4);
                collect(tables, child, below, address, rights, leaves);
            }
            None => leaves.push((address, entry, rights)),
        }
    }
}

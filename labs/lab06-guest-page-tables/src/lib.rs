//! Lab 06: guest page tables. You write this file; `README.md` tells how, `given.rs` has the types.

mod given;

pub use given::*;
pub use ringside_vmm::memory::{Gpa, Gva, PAGE_BYTES};
pub use ringside_vmm::paging::PhysicalMemory;

/// Task 1. The index of `gva` in each of the four tables, from the PML4 down to the page table.
///
/// ```text
///    63         48 47     39 38     30 29     21 20     12 11          0
///   ┌─────────────┬─────────┬─────────┬─────────┬─────────┬─────────────┐
///   │ copy of 47  │  PML4   │  PDPT   │   PD    │   PT    │   offset    │
///   └─────────────┴─────────┴─────────┴─────────┴─────────┴─────────────┘
/// ```
#[must_use]
pub fn indices(gva: Gva) -> [u64; 4] {
    // SOLUTION-BEGIN cut the address into its four indices (task 1)
    [39, 30, 21, 12].map(|shift| gva.0 >> shift & 0x1ff)
    // SOLUTION-END
}

/// Tasks 2 to 6. Translates `gva` as the processor does when its TLB is empty.
///
/// Reads one entry a level, and no more than it must: see [`Level`] for the levels, [`bits`] for the
/// entries, [`reserved_bits`] for the bits that must be 0.
///
/// # Errors
///
/// - [`Fault::NonCanonical`] before anything is read;
/// - [`Fault::NoMemory`] where an entry that it must read is not in guest memory;
/// - [`Fault::Page`] with the error code otherwise.
pub fn walk(
    memory: &dyn PhysicalMemory,
    registers: Registers,
    gva: Gva,
    access: Access,
) -> Result<Translation, Fault> {
    // SOLUTION-BEGIN walk the four tables (tasks 2 to 6)
    if !is_canonical(gva) {
        return Err(Fault::NonCanonical);
    }
    let code = |cause: u32| {
        let mut code = cause;
        if access.write {
            code |= code::WRITE;
        }
        if access.user {
            code |= code::USER;
        }
        if access.fetch && registers.nxe {
            code |= code::FETCH;
        }
        Fault::Page { code }
    };
    let mut table = Gpa(registers.cr3.0 & bits::ADDRESS);
    let (mut writable, mut user, mut executable) = (true, true, true);
    for (level, index) in Level::ALL.into_iter().zip(indices(gva)) {
        let at = Gpa(table.0 + 8 * index);
        let entry = memory.read_u64(at).ok_or(Fault::NoMemory { at })?;
        if entry & bits::PRESENT == 0 {
            return Err(code(0));
        }
        let leaf = level == Level::Pt || entry & bits::HUGE != 0;
        if entry & reserved_bits(level, leaf, registers.nxe) != 0 {
            return Err(code(code::PRESENT | code::RESERVED));
        }
        writable &= entry & bits::WRITABLE != 0;
        user &= entry & bits::USER != 0;
        executable &= entry & bits::NO_EXECUTE == 0;
        if !leaf {
            table = Gpa(entry & bits::ADDRESS);
            continue;
        }
        let refused = access.user && !user
            || access.write && !writable && (access.user || registers.wp)
            || access.fetch && !executable;
        if refused {
            return Err(code(code::PRESENT));
        }
        let bytes = level.page_bytes();
        let frame = entry & bits::ADDRESS & !(bytes - 1);
        return Ok(Translation {
            gpa: Gpa(frame | gva.0 & (bytes - 1)),
            page_bytes: bytes,
            rights: Rights {
                writable,
                user,
                executable,
            },
        });
    }
    unreachable!("an entry of the page table is a leaf")
    // SOLUTION-END
}

/// Task 7. Enters one page into the tables below `cr3`, making the tables that are missing.
///
/// The rights stand in the leaf; the entries above it allow everything, because rights are the
/// *and* over the path, and the next page in the same table may have others.
///
/// # Errors
///
/// Without having changed any translation:
/// - [`MapError::NonCanonical`], [`MapError::Misaligned`];
/// - [`MapError::Taken`] where the page, or a part of it, is mapped already;
/// - [`MapError::NoFrame`] when `frames` has none left for a table;
/// - [`MapError::NoMemory`] where a table is not in guest memory.
pub fn map(
    memory: &dyn PhysicalMemory,
    frames: &mut dyn Frames,
    cr3: Gpa,
    page: Page,
) -> Result<(), MapError> {
    // SOLUTION-BEGIN enter a page into the tables (task 7)
    if !is_canonical(page.gva) {
        return Err(MapError::NonCanonical);
    }
    let bytes = page.leaf.page_bytes();
    if !page.gva.is_aligned(bytes) || !page.gpa.is_aligned(bytes) {
        return Err(MapError::Misaligned);
    }
    let mut table = Gpa(cr3.0 & bits::ADDRESS);
    for (level, index) in Level::ALL.into_iter().zip(indices(page.gva)) {
        let at = Gpa(table.0 + 8 * index);
        let entry = memory.read_u64(at).ok_or(MapError::NoMemory)?;
        let present = entry & bits::PRESENT != 0;
        if level == page.leaf {
            if present {
                return Err(MapError::Taken);
            }
            let mut leaf = page.gpa.0 | bits::PRESENT;
            if level != Level::Pt {
                leaf |= bits::HUGE;
            }
            if page.rights.writable {
                leaf |= bits::WRITABLE;
            }
            if page.rights.user {
                leaf |= bits::USER;
            }
            if !page.rights.executable {
                leaf |= bits::NO_EXECUTE;
            }
            return memory.write_u64(at, leaf).ok_or(MapError::NoMemory);
        }
        if present && entry & bits::HUGE != 0 {
            return Err(MapError::Taken);
        }
        if present {
            table = Gpa(entry & bits::ADDRESS);
            continue;
        }
        table = frames.take().ok_or(MapError::NoFrame)?;
        for word in (0..PAGE_BYTES).step_by(8) {
            // Emptied before it is linked: a walk on another processor must not see old bytes.
            memory
                .write_u64(Gpa(table.0 + word), 0)
                .ok_or(MapError::NoMemory)?;
        }
        let link = table.0 | bits::PRESENT | bits::WRITABLE | bits::USER;
        memory.write_u64(at, link).ok_or(MapError::NoMemory)?;
    }
    unreachable!("the leaf is one of the levels")
    // SOLUTION-END
}

//! The types of lab 06. Read them; there is nothing to write here.

use ringside_vmm::memory::{Gpa, Gva};

/// The four levels of tables, from the root down (Intel SDM, volume 3, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Page map, level 4: CR3 points to it.
    Pml4,
    /// Page directory pointer table: an entry may be a page of 1 GiB.
    Pdpt,
    /// Page directory: an entry may be a page of 2 MiB.
    Pd,
    /// Page table: every entry is a page of 4 KiB.
    Pt,
}

impl Level {
    /// From the root down.
    pub const ALL: [Self; 4] = [Self::Pml4, Self::Pdpt, Self::Pd, Self::Pt];

    /// How many bytes an entry of this table covers: the size of the page when it is a leaf.
    #[must_use]
    pub const fn page_bytes(self) -> u64 {
        match self {
            Self::Pml4 => 1 << 39,
            Self::Pdpt => 1 << 30,
            Self::Pd => 1 << 21,
            Self::Pt => 1 << 12,
        }
    }
}

/// The bits of an entry (Intel SDM, volume 3, tables 4-15 to 4-20).
pub mod bits {
    /// The entry is in use; when it is 0, no other bit means anything.
    pub const PRESENT: u64 = 1;
    /// Writing is allowed.
    pub const WRITABLE: u64 = 1 << 1;
    /// Ring 3 may come here.
    pub const USER: u64 = 1 << 2;
    /// In a PDPT or a PD: the entry is a page and not a table.
    pub const HUGE: u64 = 1 << 7;
    /// Fetching instructions is not allowed.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// Where the next table or the page is. In a huge leaf, the low bits of this field are not
    /// part of the address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// The bits of a page fault's error code (Intel SDM, volume 3, section 4.7).
pub mod code {
    /// The page was there; something else was wrong. 0 when an entry was not present.
    pub const PRESENT: u32 = 1;
    /// The access was a write.
    pub const WRITE: u32 = 1 << 1;
    /// The access came from ring 3.
    pub const USER: u32 = 1 << 2;
    /// A reserved bit was set in an entry; `PRESENT` is then set as well.
    pub const RESERVED: u32 = 1 << 3;
    /// The access was an instruction fetch. Only reported while EFER.NXE is on.
    pub const FETCH: u32 = 1 << 4;
}

/// The bits of a present entry at `level` that must be 0; `leaf` says whether the entry is a page.
/// With EFER.NXE off the no-execute bit is one of them.
#[must_use]
pub const fn reserved_bits(level: Level, leaf: bool, nxe: bool) -> u64 {
    let no_execute = if nxe { 0 } else { bits::NO_EXECUTE };
    let by_level = match (level, leaf) {
        (Level::Pml4, _) => bits::HUGE,     // there are no pages of 512 GiB
        (Level::Pdpt, true) => 0x3fff_e000, // 1 GiB, but bit 12 is a memory type (PAT)
        (Level::Pd, true) => 0x001f_e000,
        _ => 0,
    };
    no_execute | by_level
}

/// Whether bits 48 to 63 are copies of bit 47; an address that is not canonical never reaches the
/// tables.
#[must_use]
pub const fn is_canonical(gva: Gva) -> bool {
    ((gva.0 << 16) as i64 >> 16) as u64 == gva.0
}

/// The control registers that a walk depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// CR3: the PML4's address, with flags in its low 12 bits.
    pub cr3: Gpa,
    /// CR0.WP: a read-only page is read-only for ring 0 too.
    pub wp: bool,
    /// EFER.NXE: the no-execute bit means something.
    pub nxe: bool,
}

/// What the instruction wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// It writes.
    pub write: bool,
    /// It runs in ring 3.
    pub user: bool,
    /// It *is* what is read: an instruction fetch.
    pub fetch: bool,
}

/// What the whole path allows: the *and* over its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Every entry has `WRITABLE`.
    pub writable: bool,
    /// Every entry has `USER`.
    pub user: bool,
    /// No entry has `NO_EXECUTE`.
    pub executable: bool,
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The guest-physical address of the same byte.
    pub gpa: Gpa,
    /// The size of the page that it lies in.
    pub page_bytes: u64,
    /// What the path allows.
    pub rights: Rights,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A page fault.
    #[error("page fault with error code {code:#07b}")]
    Page {
        /// The error code that the guest's handler finds on its stack.
        code: u32,
    },
    /// A general protection fault: the address is not canonical.
    #[error("general protection: not a canonical address")]
    NonCanonical,
    /// A table lies where the guest has no memory. A real processor reads all ones, or nobody knows
    /// what; a hypervisor has to notice.
    #[error("the entry at {at} is outside guest memory")]
    NoMemory {
        /// The entry that could not be read.
        at: Gpa,
    },
}

/// One page to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its first virtual address.
    pub gva: Gva,
    /// Its first guest-physical address.
    pub gpa: Gpa,
    /// The level of its leaf: `Pt` for 4 KiB, `Pd` for 2 MiB, `Pdpt` for 1 GiB.
    pub leaf: Level,
    /// What it allows.
    pub rights: Rights,
}

/// Where `map` gets memory for tables.
pub trait Frames {
    /// An unused page of 4 KiB, or `None` when there is no more. Nobody has emptied it: what
    /// another program left there is still in it.
    fn take(&mut self) -> Option<Gpa>;
}

/// Why a page was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The virtual address is not canonical.
    #[error("not a canonical address")]
    NonCanonical,
    /// An address is not a multiple of the page's size.
    #[error("an address is not a multiple of the page's size")]
    Misaligned,
    /// An entry on the way is in use: as this page, as a larger one, or as a table of smaller ones.
    #[error("an entry on the way is in use")]
    Taken,
    /// There is no memory left for a table.
    #[error("no frame left for a table")]
    NoFrame,
    /// A table lies outside guest memory.
    #[error("a table is outside guest memory")]
    NoMemory,
}

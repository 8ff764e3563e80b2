//! Who asks for what, and how the processor refuses.

use std::fmt;

use super::level::Level;
use crate::memory::{Gpa, Gva};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Reads data.
    Read,
    /// Writes data.
    Write,
    /// Fetches an instruction.
    Fetch,
}

/// On whose behalf an access is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Privilege {
    /// Ring 3.
    User,
    /// Rings 0 to 2 with EFLAGS.AC clear; also what the processor itself does in any ring, such as
    /// reading the GDT or pushing an interrupt frame, which AC never excuses from SMAP.
    Supervisor,
    /// Rings 0 to 2 with EFLAGS.AC set (`stac`): SMAP is lifted.
    SupervisorAc,
}

/// An access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// What it does.
    pub kind: Kind,
    /// For whom.
    pub privilege: Privilege,
}

impl Access {
    /// A read by the supervisor.
    pub const READ: Self = Self::new(Kind::Read, Privilege::Supervisor);
    /// A write by the supervisor.
    pub const WRITE: Self = Self::new(Kind::Write, Privilege::Supervisor);
    /// A fetch by the supervisor.
    pub const FETCH: Self = Self::new(Kind::Fetch, Privilege::Supervisor);
    /// A read in ring 3.
    pub const USER_READ: Self = Self::new(Kind::Read, Privilege::User);
    /// A write in ring 3.
    pub const USER_WRITE: Self = Self::new(Kind::Write, Privilege::User);
    /// A fetch in ring 3.
    pub const USER_FETCH: Self = Self::new(Kind::Fetch, Privilege::User);

    /// An access of this kind by this privilege.
    #[must_use]
    pub const fn new(kind: Kind, privilege: Privilege) -> Self {
        Self { kind, privilege }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Fetch => "fetch",
        };
        let privilege = match self.privilege {
            Privilege::User => "user",
            Privilege::Supervisor => "supervisor",
            Privilege::SupervisorAc => "supervisor with AC",
        };
        write!(f, "{kind} by {privilege}")
    }
}

bitflags::bitflags! {
    /// The error code that a page fault pushes (Intel SDM vol. 3A, 4.7, figure 4-12), as far as a
    /// walk decides it: bits 5 (protection key), 6 (shadow stack), 7 and 15 are never set here.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ErrorCode: u32 {
        /// P: an entry that is present refused; clear: an entry was not present.
        const PRESENT = 1 << 0;
        /// W/R: the access was a write.
        const WRITE = 1 << 1;
        /// U/S: the access came from ring 3.
        const USER = 1 << 2;
        /// RSVD: a reserved bit was set in an entry.
        const RESERVED = 1 << 3;
        /// I/D: the access was a fetch (only with NXE or SMEP).
        const FETCH = 1 << 4;
    }
}

/// What in the tables refused the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The entry's present bit is clear.
    NotPresent,
    /// These reserved bits of the entry are set.
    Reserved(u64),
    /// A write, and the entry's writable bit is clear.
    ReadOnly,
    /// Ring 3, and the entry's user bit is clear.
    SupervisorOnly,
    /// A fetch, and the entry's no-execute bit is set.
    NoExecute,
    /// A fetch by the supervisor from a user page, with CR4.SMEP.
    Smep,
    /// A read or write by the supervisor of a user page, with CR4.SMAP and EFLAGS.AC clear.
    Smap,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPresent => f.write_str("is not present"),
            Self::Reserved(bits) => write!(f, "has reserved bits {bits:#x}"),
            Self::ReadOnly => f.write_str("is read-only"),
            Self::SupervisorOnly => f.write_str("is supervisor-only"),
            Self::NoExecute => f.write_str("is no-execute"),
            Self::Smep => {
                f.write_str("maps a user page, which SMEP forbids the supervisor to fetch from")
            }
            Self::Smap => {
                f.write_str("maps a user page, which SMAP forbids the supervisor to touch")
            }
        }
    }
}

/// A page fault: exception 14, with the address in CR2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageFault {
    /// What CR2 holds.
    pub address: Gva,
    /// The error code on the handler's stack.
    pub code: ErrorCode,
    /// The level whose entry refused; of several, the highest. For SMEP and SMAP, the page's.
    pub level: Level,
    /// Why it refused.
    pub cause: Cause,
}

/// Why an access has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The address is not sign-extended: #GP(0), or #SS(0) through the stack. Nothing was read.
    #[error("{0} is not canonical: its upper bits do not repeat the sign")]
    NotCanonical(Gva),
    /// A page fault.
    #[error(
        "page fault at {} (error code {:#x}): the {} entry {}",
        .0.address, .0.code.bits(), .0.level, .0.cause
    )]
    Page(PageFault),
    /// A table's entry lies outside guest memory. Architecture says nothing: under a hypervisor the
    /// second level has no translation (EPT violation, nested page fault).
    #[error("the {level} entry at guest-physical {at} lies outside memory")]
    OutsideMemory {
        /// The level of the entry.
        level: Level,
        /// Where the entry would be.
        at: Gpa,
    },
    /// Another processor changed the entries again and again while their accessed and dirty bits
    /// were to be set. Only a walk that marks entries can fail so.
    #[error(
        "the entries of {0} kept changing under the walk; pause the other vCPUs or walk without marking"
    )]
    Unstable(Gva),
}

//! What the guest told the processor about paging, and what the processor can.

use super::entry::{Entry, Flags, bits};
use super::level::{Level, Levels, PageSize};
use crate::memory::Gpa;

/// CR0 bit 16: supervisor writes obey read-only entries too.
const CR0_WP: u64 = 1 << 16;
/// CR0 bit 31: paging is on.
const CR0_PG: u64 = 1 << 31;
/// CR4 bit 5: entries of eight bytes.
const CR4_PAE: u64 = 1 << 5;
/// CR4 bit 12: five levels.
const CR4_LA57: u64 = 1 << 12;
/// CR4 bit 20: no supervisor fetch from user pages.
const CR4_SMEP: u64 = 1 << 20;
/// CR4 bit 21: no supervisor data access to user pages.
const CR4_SMAP: u64 = 1 << 21;
/// EFER bit 10: the processor is in long mode.
const EFER_LMA: u64 = 1 << 10;
/// EFER bit 11: the no-execute bit exists.
const EFER_NXE: u64 = 1 << 11;

/// The four registers that decide how the processor walks, as KVM or a trap handler has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlRegisters {
    /// CR0: protection and paging on, write protect.
    pub cr0: u64,
    /// CR3: the top table, and flags or a PCID in its lowest twelve bits.
    pub cr3: u64,
    /// CR4: depth, SMEP, SMAP.
    pub cr4: u64,
    /// IA32_EFER: long mode, no-execute.
    pub efer: u64,
}

/// What depends on the processor's model and not on the guest's choice (CPUID).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Width of physical addresses, 32 to 52 bits: CPUID 0x8000_0008, EAX bits 7..0.
    pub physical_bits: u8,
    /// Whether pages of 1 GiB exist: CPUID 0x8000_0001, EDX bit 26.
    pub gigabyte_pages: bool,
    /// Whether bit 8 of PML4 and PML5 entries is reserved, as on AMD, or ignored, as on Intel.
    pub top_global_reserved: bool,
}

impl Default for Processor {
    /// The most permissive one: 52 bits, 1 GiB pages, bit 8 ignored.
    fn default() -> Self {
        Self {
            physical_bits: 52,
            gigabyte_pages: true,
            top_global_reserved: false,
        }
    }
}

/// Everything that a walk depends on besides memory and the access itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// Where the top table starts. Only bits 51..12 count, as of CR3.
    pub root: Gpa,
    /// How deep the tree is (CR4.LA57).
    pub levels: Levels,
    /// Whether bit 63 of an entry forbids fetches; where not, it is reserved (EFER.NXE).
    pub no_execute: bool,
    /// Whether supervisor writes obey read-only entries (CR0.WP).
    pub write_protect: bool,
    /// Whether the supervisor may not fetch from user pages (CR4.SMEP).
    pub smep: bool,
    /// Whether the supervisor may not read or write user pages unless EFLAGS.AC is set (CR4.SMAP).
    pub smap: bool,
    /// What the processor can.
    pub processor: Processor,
}

/// Why registers describe no 64-bit paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Paging is off: every guest-virtual address is the guest-physical one.
    #[error("paging is off (CR0 = {0:#x}): a guest-virtual address is the guest-physical address")]
    PagingOff(u64),
    /// The guest uses the 32-bit formats, which have other tables.
    #[error(
        "not in long mode (CR4 = {cr4:#x}, EFER = {efer:#x}); only 64-bit page tables are walked"
    )]
    NotLongMode {
        /// CR4, whose PAE bit may be missing.
        cr4: u64,
        /// EFER, whose LMA bit may be missing.
        efer: u64,
    },
}

impl Paging {
    /// Paging as a 64-bit kernel sets it up first: NX and WP on, SMEP and SMAP off, on the most
    /// permissive [`Processor`]. Change the fields for anything else.
    #[must_use]
    pub fn new(root: Gpa, levels: Levels) -> Self {
        Self {
            root: root.page(),
            levels,
            no_execute: true,
            write_protect: true,
            smep: false,
            smap: false,
            processor: Processor::default(),
        }
    }

    /// Paging as these registers say.
    ///
    /// # Errors
    /// Where paging is off or not 64-bit.
    pub fn from_registers(
        registers: ControlRegisters,
        processor: Processor,
    ) -> Result<Self, ControlError> {
        let ControlRegisters {
            cr0,
            cr3,
            cr4,
            efer,
        } = registers;
        if cr0 & CR0_PG == 0 {
            return Err(ControlError::PagingOff(cr0));
        }
        if cr4 & CR4_PAE == 0 || efer & EFER_LMA == 0 {
            return Err(ControlError::NotLongMode { cr4, efer });
        }
        Ok(Self {
            root: Gpa(cr3 & bits(12, 51)),
            levels: if cr4 & CR4_LA57 == 0 {
                Levels::Four
            } else {
                Levels::Five
            },
            no_execute: efer & EFER_NXE != 0,
            write_protect: cr0 & CR0_WP != 0,
            smep: cr4 & CR4_SMEP != 0,
            smap: cr4 & CR4_SMAP != 0,
            processor,
        })
    }

    /// Where the top table starts: the bits of the root that count.
    pub(super) fn top_table(&self) -> Gpa {
        Gpa(self.root.0 & bits(12, 51))
    }

    /// The bits that a present `entry` at `level` must not have, and has: 0 where it is well formed.
    #[must_use]
    pub fn reserved_bits(&self, entry: Entry, level: Level) -> u64 {
        let processor = &self.processor;
        let reserved = self.reserved_everywhere()
            | match level {
                Level::Pml4 | Level::Pml5 if processor.top_global_reserved => {
                    Flags::HUGE.bits() | Flags::GLOBAL.bits()
                }
                Level::Pml4 | Level::Pml5 => Flags::HUGE.bits(),
                Level::Pdpt if !processor.gigabyte_pages => Flags::HUGE.bits(),
                Level::Pdpt | Level::Pd => match entry.page_size(level) {
                    Some(PageSize::Gib1) => bits(13, 29),
                    Some(PageSize::Mib2) => bits(13, 20),
                    _ => 0,
                },
                Level::Pt => 0,
            };
        entry.raw() & reserved
    }

    /// The bits that are reserved in entries of every level.
    fn reserved_everywhere(&self) -> u64 {
        let width = u32::from(self.processor.physical_bits.clamp(32, 52));
        let above_width = if width < 52 { bits(width, 51) } else { 0 };
        if self.no_execute {
            above_width
        } else {
            above_width | Flags::NO_EXECUTE.bits()
        }
    }

    /// An entry without any of these bits has no reserved bit at any level: one test instead of
    /// [`reserved_bits`](Self::reserved_bits) for nearly every entry.
    pub(super) fn suspicious_bits(&self) -> u64 {
        self.reserved_everywhere()
            | Flags::HUGE.bits()
            | if self.processor.top_global_reserved {
                Flags::GLOBAL.bits()
            } else {
                0
            }
    }

    /// Whether a fetch sets the I/D bit of a page fault's error code: only where a fetch can be
    /// refused as such (SDM vol. 3A, 4.7).
    pub(super) fn fetch_is_told(&self) -> bool {
        self.no_execute || self.smep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_taken_apart() {
        let registers = ControlRegisters {
            cr0: 0x8001_0001,
            cr3: 0x1234_5018,
            cr4: CR4_PAE | CR4_LA57 | CR4_SMEP,
            efer: 0xd00,
        };
        let paging = Paging::from_registers(registers, Processor::default()).expect("long mode");
        assert_eq!(paging.root, Gpa(0x1234_5000));
        assert_eq!(paging.levels, Levels::Five);
        assert!(paging.no_execute && paging.write_protect && paging.smep && !paging.smap);

        let off = ControlRegisters {
            cr0: 1,
            ..registers
        };
        let error = Paging::from_registers(off, Processor::default());
        assert_eq!(error, Err(ControlError::PagingOff(1)));
        let legacy = ControlRegisters {
            efer: 0,
            ..registers
        };
        assert!(Paging::from_registers(legacy, Processor::default()).is_err());
    }

    /// Every reserved bit of every kind of entry, from the tables of SDM 4.5.4, for 40 bits.
    #[test]
    fn reserved_bits_by_level() {
        let mut paging = Paging::new(Gpa(0), Levels::Five);
        paging.processor.physical_bits = 40;
        let high = 0x000f_ff00_0000_0000;
        let all = Entry::from_raw(u64::MAX);
        let no_huge = all.without(Flags::HUGE);
        let check = |paging: &Paging, expected: [u64; 5]| {
            for (level, expected) in Level::ALL.into_iter().zip(expected) {
                let got = paging.reserved_bits(all, level);
                assert_eq!(got, expected, "{level}: {got:#x}");
            }
        };
        check(
            &paging,
            [
                high,
                high | 0x1f_e000,
                high | 0x3fff_e000,
                high | 0x80,
                high | 0x80,
            ],
        );
        for level in Level::ALL {
            assert_eq!(paging.reserved_bits(no_huge, level), high);
        }
        paging.processor.gigabyte_pages = false;
        paging.processor.top_global_reserved = true;
        paging.no_execute = false;
        let high = high | 1 << 63;
        check(
            &paging,
            [
                high,
                high | 0x1f_e000,
                high | 0x80,
                high | 0x180,
                high | 0x180,
            ],
        );
    }
}

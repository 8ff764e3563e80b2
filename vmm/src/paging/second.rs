//! The second level: where guest-physical memory is on the host.
//!
//! Two pictures of it, behind one trait. [`Slots`] is what the hypervisor knows: ranges of its own
//! address space, and through `/proc/self/pagemap` the machine's pages. [`NestedTables`] is what the
//! processor knows: a second tree of page tables (EPT, NPT), walked with the same walker.

use super::control::Paging;
use super::fault::Access;
use super::memory::PhysicalMemory;
use crate::memory::{Gpa, Gva, Hpa, Hva};

/// Where a guest-physical address is on the host, as far as somebody can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backing {
    /// The number of the memory slot.
    pub slot: Option<u32>,
    /// The address in the hypervisor process.
    pub hva: Option<Hva>,
    /// The address in the machine.
    pub hpa: Option<Hpa>,
    /// Whether the guest may write there; where not, a write exits to the hypervisor.
    pub writable: bool,
    /// How many words the processor reads to find this out: one for each level of its second tree.
    pub references: u32,
}

impl Backing {
    /// The address in the machine; where nobody could tell it, the hypervisor's own stands for it.
    #[must_use]
    pub fn host_address(&self) -> Option<Hpa> {
        self.hpa.or(self.hva.map(|hva| Hpa(hva.0)))
    }
}

/// From guest-physical to the host. `None`: nothing there, so that an access exits to the
/// hypervisor (MMIO, or a bug of the guest).
pub trait SecondLevel {
    /// Where `at` is, offset in the page included.
    fn back(&self, at: Gpa) -> Option<Backing>;
}

impl<F: Fn(Gpa) -> Option<Backing>> SecondLevel for F {
    fn back(&self, at: Gpa) -> Option<Backing> {
        self(at)
    }
}

/// A range of guest-physical memory and the range of the hypervisor's memory behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// KVM's number for it.
    pub number: u32,
    /// Its first guest-physical address.
    pub gpa: Gpa,
    /// Its length in bytes.
    pub bytes: u64,
    /// Where it starts in the hypervisor.
    pub hva: Hva,
    /// Whether a guest's write exits instead of writing.
    pub read_only: bool,
}

/// Memory slots as a second level.
#[derive(Clone, Debug)]
pub struct Slots<P = fn(Hva) -> Option<Hpa>> {
    slots: Vec<Slot>,
    levels: u32,
    pagemap: P,
}

impl Slots {
    /// These slots, without host-physical addresses. Where slots overlap, the first one counts.
    #[must_use]
    pub fn new(slots: impl IntoIterator<Item = Slot>) -> Self {
        Self {
            slots: slots.into_iter().collect(),
            levels: 4,
            pagemap: |_| None,
        }
    }
}

impl<P> Slots<P> {
    /// The same slots, with `pagemap` to find the machine's page behind a host-virtual address, its
    /// offset included.
    #[must_use]
    pub fn with_pagemap<Q: Fn(Hva) -> Option<Hpa>>(self, pagemap: Q) -> Slots<Q> {
        Slots {
            slots: self.slots,
            levels: self.levels,
            pagemap,
        }
    }

    /// The same slots, with another number of references for each translation: how many levels
    /// deep the processor's second tree is. It is 4 to begin with; 3 where the host maps the slots
    /// with 2 MiB pages; 5 where the host itself has five levels.
    #[must_use]
    pub fn with_levels(self, levels: u32) -> Self {
        Self { levels, ..self }
    }
}

impl<P: Fn(Hva) -> Option<Hpa>> SecondLevel for Slots<P> {
    fn back(&self, at: Gpa) -> Option<Backing> {
        self.slots.iter().find_map(|slot| {
            let offset = at.checked_sub(slot.gpa).filter(|o| *o < slot.bytes)?;
            let hva = slot.hva.checked_add(offset)?;
            Some(Backing {
                slot: Some(slot.number),
                hva: Some(hva),
                hpa: (self.pagemap)(hva),
                writable: !slot.read_only,
                references: self.levels,
            })
        })
    }
}

/// A second tree of page tables, in `host` memory. AMD's nested tables have the format of ordinary
/// ones and treat every access as one from ring 3 (APM vol. 2, 15.25.5); so does this. Intel's EPT
/// has other flag bits and the same shape.
#[derive(Clone, Copy, Debug)]
pub struct NestedTables<'h, M> {
    /// The host's memory, addressed by host-physical address.
    pub host: &'h M,
    /// The second tree: its `root` is a host-physical address.
    pub paging: Paging,
}

impl<M: PhysicalMemory> SecondLevel for NestedTables<'_, M> {
    fn back(&self, at: Gpa) -> Option<Backing> {
        // The same walker, one world further down: "virtual" is the guest's physical.
        let walk = self.paging.walk(self.host, Gva(at.0), Access::USER_READ);
        let found = walk.outcome.ok()?;
        Some(Backing {
            hpa: Some(Hpa(found.gpa.0)),
            writable: found.rights.write,
            references: walk.steps().len() as u32,
            ..Backing::default()
        })
    }
}

/// Guest-physical memory, as it is found through a second level in the host's memory.
#[derive(Debug)]
pub struct Through<'m, H, S> {
    host: &'m H,
    second: &'m S,
}

impl<'m, H, S> Through<'m, H, S> {
    /// The memory that `second` shows of `host`, whose addresses are host-physical.
    pub const fn new(host: &'m H, second: &'m S) -> Self {
        Self { host, second }
    }
}

impl<H: PhysicalMemory, S: SecondLevel> PhysicalMemory for Through<'_, H, S> {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        let host = self.second.back(at)?.host_address()?;
        self.host.read_u64(Gpa(host.0))
    }

    fn write_u64(&self, at: Gpa, value: u64) -> Option<()> {
        let backing = self.second.back(at).filter(|b| b.writable)?;
        self.host.write_u64(Gpa(backing.host_address()?.0), value)
    }

    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool> {
        let backing = self.second.back(at).filter(|b| b.writable)?;
        let host = Gpa(backing.host_address()?.0);
        self.host.compare_exchange_u64(host, current, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let slot = |number, gpa, hva, read_only| Slot {
            number,
            gpa: Gpa(gpa),
            bytes: 0x2000,
            hva: Hva(hva),
            read_only,
        };
        Slots::new([
            slot(0, 0, 0x7f00_0000, false),
            slot(3, 0x1_0000, 0x7e00_0000, true),
        ])
    }

    #[test]
    fn an_address_has_its_slot_and_offset() {
        let slots = slots();
        let low = slots.back(Gpa(0x1fff)).expect("in slot 0");
        assert_eq!((low.slot, low.hva), (Some(0), Some(Hva(0x7f00_1fff))));
        assert!(low.writable && low.hpa.is_none());
        let high = slots.back(Gpa(0x1_0008)).expect("in slot 3");
        assert_eq!((high.slot, high.hva), (Some(3), Some(Hva(0x7e00_0008))));
        assert!(!high.writable);
    }

    #[test]
    fn holes_and_ends_have_none() {
        for at in [0x2000, 0xffff, 0x1_2000, u64::MAX] {
            assert_eq!(slots().back(Gpa(at)), None, "{at:#x}");
        }
        let wrapping = Slot {
            number: 0,
            gpa: Gpa(0),
            bytes: 0x2000,
            hva: Hva(!0xfff),
            read_only: false,
        };
        assert_eq!(Slots::new([wrapping]).back(Gpa(0x1000)), None);
    }

    #[test]
    fn the_page_map_adds_the_machine_address() {
        let slots = slots().with_pagemap(|hva| hva.checked_add(1 << 32).map(|a| Hpa(a.0)));
        let backing = slots.back(Gpa(0x10)).expect("in slot 0");
        assert_eq!(backing.hpa, Some(Hpa(0x1_7f00_0010)));
    }
}

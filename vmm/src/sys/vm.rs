//! A KVM virtual machine: memory slots and vCPUs.

use super::kvm::{Kvm, Unavailable};
use super::vcpu::Vcpu;
use crate::device::io_apic::Message;
use crate::memory::{DirtyPages, Gpa, GuestMemory};
use crate::paging::Slot;
use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_msi, kvm_userspace_memory_region,
};
use kvm_ioctls::IoEventAddress;
use std::io;
use std::sync::{Arc, OnceLock};
use thiserror::Error;
use vmm_sys_util::eventfd::EventFd;

/// What setting up a machine can fail with.
#[derive(Debug, Error)]
pub enum SetUpError {
    /// KVM itself refuses machines.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// No local interrupt controllers.
    #[error(
        "cannot give the machine interrupt controllers (KVM_CAP_SPLIT_IRQCHIP): {0}; this kernel's KVM may be older than Linux 4.4"
    )]
    Interrupts(io::Error),
    /// A memory slot was refused.
    #[error("cannot give the guest {bytes} bytes at guest-physical {start:#x}: {source}")]
    Slot {
        /// Where the slot begins.
        start: u64,
        /// Its length.
        bytes: u64,
        /// The ioctl's error.
        source: io::Error,
    },
    /// The log of written pages.
    #[error("cannot {what} the log of written pages: {source}")]
    DirtyLog {
        /// Which step failed.
        what: &'static str,
        /// The ioctl's error.
        source: io::Error,
    },
    /// A vCPU could not be made or prepared.
    #[error("cannot {what} (vCPU {index}): {source}")]
    Vcpu {
        /// Which step failed.
        what: &'static str,
        /// The vCPU's number.
        index: u64,
        /// The ioctl's error.
        source: io::Error,
    },
}

/// Interrupt lines of an I/O interrupt controller in user space, whose ends of interrupt would be
/// exits: there is none.
const IOAPIC_PINS: u64 = 0;

/// A virtual machine's file descriptor, and the memory behind its slots.
#[derive(Debug)]
pub struct VmHandle {
    // Field order is drop order: the machine goes before the memory that its slots point to.
    fd: Arc<kvm_ioctls::VmFd>,
    memory: GuestMemory,
    /// How long each vCPU's dirty ring is, if they have one.
    ring_entries: OnceLock<u32>,
}

impl VmHandle {
    /// A machine without interrupt controllers: [`create`](Self::create).
    ///
    /// # Errors
    /// As there.
    pub fn new(kvm: &Kvm, memory: &GuestMemory) -> Result<VmHandle, SetUpError> {
        VmHandle::create(kvm, memory, false)
    }

    /// Creates a machine whose guest-physical memory is `memory`, one slot a region.
    ///
    /// With `interrupts`, each vCPU gets a local interrupt controller in the kernel, and there is no
    /// other: the cheapest order is this one, then the slots, then the vCPUs.
    ///
    /// Slots come before anything on KVM's in-kernel I/O bus: after it, each costs 5–20 ms.
    ///
    /// # Errors
    /// [`Unavailable`] when KVM makes no machine (another hypervisor holds the processor), or the
    /// slot that it refused.
    pub fn create(
        kvm: &Kvm,
        memory: &GuestMemory,
        interrupts: bool,
    ) -> Result<VmHandle, SetUpError> {
        let fd = loop {
            match kvm.fd.create_vm() {
                Ok(fd) => break fd,
                // A signal came while the kernel made it; nothing was made.
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(Unavailable::from_errno(&kvm.path, error.errno()).into()),
            }
        };
        if interrupts {
            let split = kvm_bindings::kvm_enable_cap {
                cap: kvm_bindings::KVM_CAP_SPLIT_IRQCHIP,
                args: [IOAPIC_PINS, 0, 0, 0],
                ..Default::default()
            };
            fd.enable_cap(&split)
                .map_err(|error| SetUpError::Interrupts(error.into()))?;
        }
        let handle = VmHandle {
            fd: Arc::new(fd),
            memory: memory.clone(),
            ring_entries: OnceLock::new(),
        };
        for slot in memory.slots() {
            handle.set_slot(slot, 0)?;
        }
        Ok(handle)
    }

    /// Makes or changes one of the memory's slots, with `flags` beside what the slot asks for.
    fn set_slot(&self, slot: Slot, flags: u32) -> Result<(), SetUpError> {
        let read_only = match slot.read_only {
            true => KVM_MEM_READONLY,
            false => 0,
        };
        let description = kvm_userspace_memory_region {
            slot: slot.number,
            flags: flags | read_only,
            guest_phys_addr: slot.gpa.0,
            memory_size: slot.bytes,
            userspace_addr: slot.hva.0,
        };
        // SAFETY: the slot is one of `memory`'s, so the range is mapped, of that length, and lives
        // as long as `memory` does, which outlives `fd`; guest memory is never a Rust reference.
        unsafe { self.fd.set_user_memory_region(description) }.map_err(|error| SetUpError::Slot {
            start: slot.gpa.0,
            bytes: slot.bytes,
            source: error.into(),
        })
    }

    /// A way to send interrupt messages to the machine's local interrupt controllers
    /// (`KVM_SIGNAL_MSI`). One that no processor takes is lost, as on a real machine.
    pub fn messages(&self) -> impl Fn(Message) + Send + Sync + use<> {
        let fd = self.fd.clone();
        // The slots stay valid as long as anybody holds the machine.
        let memory = self.memory.clone();
        move |message| {
            let _: &GuestMemory = &memory;
            let message = kvm_msi {
                address_lo: message.address,
                data: message.data,
                ..Default::default()
            };
            let _: Result<i32, kvm_ioctls::Error> = fd.signal_msi(message);
        }
    }

    /// A way to have KVM itself hear a guest's notifications (`KVM_IOEVENTFD`): a write of this value, of 32
    /// bits, to this address counts the event file up, and is no exit any more.
    ///
    /// Its errors are the ioctl's: `EEXIST` for an address and value that have one, `ENOSPC` when there are
    /// too many.
    pub fn doorbells(&self) -> impl Fn(Gpa, u32, &EventFd) -> io::Result<()> + Send + use<> {
        let fd = self.fd.clone();
        // As of `messages`.
        let memory = self.memory.clone();
        move |address, value, bell| {
            let _: &GuestMemory = &memory;
            Ok(fd.register_ioevent(bell, &IoEventAddress::Mmio(address.0), value)?)
        }
    }

    /// The memory behind its slots.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    pub(super) fn fd(&self) -> &kvm_ioctls::VmFd {
        &self.fd
    }

    pub(super) fn ring_entries(&self) -> Option<u32> {
        self.ring_entries.get().copied()
    }

    /// Notes what KVM has accepted, which it does once.
    pub(super) fn set_ring_entries(&self, entries: u32) {
        self.ring_entries.get_or_init(|| entries);
    }

    /// Has KVM log which pages vCPUs write, or stops it. Begins with no page logged.
    ///
    /// # Errors
    /// The slot that KVM refused to change.
    pub fn log_dirty(&self, on: bool) -> Result<(), SetUpError> {
        let flags = if on { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
        // Nobody writes to a read-only slot.
        let mut slots = self.memory.slots().filter(|slot| !slot.read_only);
        slots.try_for_each(|slot| self.set_slot(slot, flags))
    }

    /// Takes the pages that vCPUs wrote since the last call, or since the log is on
    /// (`KVM_GET_DIRTY_LOG`).
    ///
    /// # Errors
    /// `ENOENT` if the log is off, `ENXIO` if rings hold it instead.
    pub fn take_dirty(&self) -> Result<DirtyPages, SetUpError> {
        let mut dirty = DirtyPages::none(self.memory.layout());
        for slot in self.memory.slots().filter(|slot| !slot.read_only) {
            let bitmap = self
                .fd
                .get_dirty_log(slot.number, slot.bytes as usize)
                .map_err(|source| SetUpError::DirtyLog {
                    what: "read",
                    source: source.into(),
                })?;
            dirty.insert_bitmap(slot.number, &bitmap);
        }
        Ok(dirty)
    }

    /// Creates vCPU number `index`.
    ///
    /// # Errors
    /// The ioctl's.
    pub fn create_vcpu(&self, index: u64) -> Result<Vcpu, SetUpError> {
        let fd = self
            .fd
            .create_vcpu(index)
            .map_err(|error| SetUpError::Vcpu {
                what: "create it",
                index,
                source: error.into(),
            })?;
        Ok(Vcpu::new(fd, self.fd.run_size(), index))
    }
}

//! A KVM virtual machine: memory slots and vCPUs.

use super::kvm::{Kvm, Unavailable};
use super::vcpu::Vcpu;
use crate::memory::GuestMemory;
use kvm_bindings::kvm_userspace_memory_region;
use std::io;
use thiserror::Error;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// What setting up a machine can fail with.
#[derive(Debug, Error)]
pub enum SetUpError {
    /// KVM itself refuses machines.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
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

/// A virtual machine's file descriptor, and the memory behind its slots.
#[derive(Debug)]
pub struct VmHandle {
    // Field order is drop order: the machine goes before the memory that its slots point to.
    fd: kvm_ioctls::VmFd,
    _memory: GuestMemory,
}

impl VmHandle {
    /// Creates a machine whose guest-physical memory is `memory`, one slot a region.
    ///
    /// Slots come before anything on KVM's in-kernel I/O bus: after it, each costs 5–20 ms.
    ///
    /// # Errors
    /// [`Unavailable`] when KVM makes no machine (another hypervisor holds the processor), or the
    /// slot that it refused.
    pub fn new(kvm: &Kvm, memory: &GuestMemory) -> Result<VmHandle, SetUpError> {
        let fd = loop {
            match kvm.fd.create_vm() {
                Ok(fd) => break fd,
                // A signal came while the kernel made it; nothing was made.
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(Unavailable::from_errno(&kvm.path, error.errno()).into()),
            }
        };
        for (slot, region) in memory.inner().iter().enumerate() {
            let start = region.start_addr().raw_value();
            let host = memory
                .host_address(crate::memory::Gpa(start))
                .expect("a region's start is in memory");
            let description = kvm_userspace_memory_region {
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: start,
                memory_size: region.len(),
                userspace_addr: host.0,
            };
            // SAFETY: the region is mapped, of that length, and lives as long as `_memory` does,
            // which outlives `fd`; guest memory is never a Rust reference.
            unsafe { fd.set_user_memory_region(description) }.map_err(|error| {
                SetUpError::Slot {
                    start,
                    bytes: region.len(),
                    source: error.into(),
                }
            })?;
        }
        Ok(VmHandle {
            fd,
            _memory: memory.clone(),
        })
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

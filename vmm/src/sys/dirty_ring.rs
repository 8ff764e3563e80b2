//! KVM's dirty ring: each vCPU notes the pages that it writes in a ring that it shares with us (the
//! kernel's `api.rst`, 8.29; `struct kvm_dirty_gfn`).
//!
//! ```text
//!   flags:  0 empty ──▶ 1 dirty (KVM writes slot and page, then this) ──▶ 2 harvested (ours)
//!              ▲                                                             │
//!              └───────────── KVM_RESET_DIRTY_RINGS: the page is watched again
//! ```

use super::vcpu::Vcpu;
use super::vm::{SetUpError, VmHandle};
use crate::memory::DirtyPages;
use kvm_bindings::{
    KVM_CAP_DIRTY_LOG_RING, KVM_DIRTY_LOG_PAGE_OFFSET, kvm_dirty_gfn, kvm_enable_cap,
};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// `_IO(KVMIO, 0xc7)`.
const KVM_RESET_DIRTY_RINGS: libc::Ioctl = 0xaec7;

/// KVM's names for an entry's states.
const DIRTY: u32 = 1;
const HARVESTED: u32 = 2;

/// A vCPU's ring.
#[derive(Debug)]
pub struct DirtyRing {
    entries: NonNull<kvm_dirty_gfn>,
    count: u32,
    next: u32,
}

// SAFETY: the mapping is this value's alone and belongs to no thread; what KVM writes there
// concurrently is read by atomics.
unsafe impl Send for DirtyRing {}

impl DirtyRing {
    /// Maps the ring of a vCPU whose machine has rings of so many entries.
    fn of(vcpu: &Vcpu, entries: u32) -> io::Result<DirtyRing> {
        // SAFETY: a new mapping at an address of the kernel's choice; the caller knows the length,
        // beyond which an access would be a SIGBUS.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes(entries),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                i64::from(KVM_DIRTY_LOG_PAGE_OFFSET) * crate::memory::PAGE_BYTES as i64,
            )
        };
        match NonNull::new(start.cast()) {
            Some(entries_start) if start != libc::MAP_FAILED => Ok(DirtyRing {
                entries: entries_start,
                count: entries,
                next: 0,
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the next entry, if KVM has filled it in: a slot's number, and the page's in the slot.
    fn take(&mut self) -> Option<(u32, u64)> {
        // SAFETY: `next` is below `count`, the length of the mapping in entries.
        let entry = unsafe { self.entries.add(self.next as usize) }.as_ptr();
        // SAFETY: the field is aligned and mapped as long as `self` lives; KVM, too, only writes it
        // whole.
        let flags = unsafe { AtomicU32::from_ptr(&raw mut (*entry).flags) };
        if flags.load(Ordering::Acquire) != DIRTY {
            return None;
        }
        // SAFETY: mapped as above; KVM wrote both before the flag and leaves them alone until reset.
        let (slot, page) = unsafe { ((*entry).slot, (*entry).offset) };
        flags.store(HARVESTED, Ordering::Release);
        self.next = (self.next + 1) % self.count;
        // The upper half says which address space: system-management mode has one of its own.
        Some((slot & 0xffff, page))
    }
}

impl Drop for DirtyRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nobody uses it any more.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), bytes(self.count)) };
    }
}

fn bytes(entries: u32) -> usize {
    entries as usize * size_of::<kvm_dirty_gfn>()
}

fn error(what: &'static str, source: io::Error) -> SetUpError {
    SetUpError::DirtyLog { what, source }
}

impl VmHandle {
    /// Has every vCPU that is made from now on note the pages that it writes in a ring of so many
    /// entries, instead of the bitmap; for slots whose log is on ([`log_dirty`](Self::log_dirty)).
    /// A vCPU whose ring is full exits with [`Exit::DirtyRingFull`](crate::trap::Exit::DirtyRingFull) until it is harvested.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no power of two, below 1024 (KVM keeps some hundred entries in
    /// reserve) or above 65536, or of a machine that has vCPUs already.
    pub fn enable_dirty_rings(&self, entries: u32) -> Result<(), SetUpError> {
        let capability = kvm_enable_cap {
            cap: KVM_CAP_DIRTY_LOG_RING,
            args: [bytes(entries) as u64, 0, 0, 0],
            ..Default::default()
        };
        self.fd()
            .enable_cap(&capability)
            .map_err(|source| error("make the rings of", source.into()))?;
        self.set_ring_entries(entries);
        Ok(())
    }

    /// Creates vCPU number `index` with its ring.
    ///
    /// # Errors
    /// `EINVAL` if the machine has no rings; the ioctl's.
    pub fn create_vcpu_with_ring(&self, index: u64) -> Result<(Vcpu, DirtyRing), SetUpError> {
        let failed = |source| error("map a vCPU's ring of", source);
        let entries = self
            .ring_entries()
            .ok_or_else(|| failed(io::Error::from_raw_os_error(libc::EINVAL)))?;
        let vcpu = self.create_vcpu(index)?;
        let ring = DirtyRing::of(&vcpu, entries).map_err(failed)?;
        Ok((vcpu, ring))
    }

    /// Takes the pages that vCPUs noted since the last call, and has them watched again. Stop the
    /// vCPUs first if the answer is to be complete.
    ///
    /// # Errors
    /// `EOVERFLOW` if a ring is full to its last entry: KVM stops a vCPU well before, so the ring was
    /// overrun and pages are lost; so are all after that. Software KVM lets this happen, because it
    /// emulates ring 0 many instructions at a time without a look at the ring. Else the ioctl's.
    pub fn harvest(&self, rings: &mut [DirtyRing]) -> Result<DirtyPages, SetUpError> {
        let mut dirty = DirtyPages::none(self.memory().layout());
        for ring in rings {
            let mut taken = 0;
            while let Some((slot, page)) = ring.take() {
                dirty.insert(slot, page);
                taken += 1;
                if taken == ring.count {
                    let overflow = io::Error::from_raw_os_error(libc::EOVERFLOW);
                    return Err(error("trust the overrun rings of", overflow));
                }
            }
        }
        // SAFETY: the descriptor is open; the ioctl has no argument.
        match unsafe { libc::ioctl(self.fd().as_raw_fd(), KVM_RESET_DIRTY_RINGS, 0) } {
            0.. => Ok(dirty),
            _ => Err(error("reset the rings of", io::Error::last_os_error())),
        }
    }
}

//! A virtual processor: `KVM_RUN`, and what came out of it as an owned [`Exit`].
//!
use super::exit::{io_data, owned, read_io};
use super::signal;
use super::vm::SetUpError;
use crate::memory::{Gpa, Gva};
use crate::trap::Exit;
use kvm_bindings::{kvm_regs, kvm_sregs};
use kvm_ioctls::{SyncReg, VcpuFd};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// `_IO(KVMIO, 0x80)`.
const KVM_RUN: libc::Ioctl = 0xae80;

/// A virtual processor. It belongs to the thread that runs it.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    /// Bytes of the mapping that begins with `struct kvm_run`.
    run_size: usize,
    index: u64,
}

impl Vcpu {
    pub(super) fn new(fd: VcpuFd, run_size: usize, index: u64) -> Vcpu {
        Vcpu {
            fd,
            run_size,
            index,
        }
    }

    /// The descriptor's number, for the mappings that a vCPU has beside `kvm_run`.
    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Sets the CPUID leaves that the guest sees.
    ///
    /// # Errors
    /// The ioctl's.
    pub fn set_cpuid(&self, cpuid: &kvm_bindings::CpuId) -> Result<(), SetUpError> {
        self.fd
            .set_cpuid2(cpuid)
            .map_err(|error| self.error("set its CPUID", error))
    }

    /// Reads the general registers.
    ///
    /// # Errors
    /// The ioctl's.
    pub fn registers(&self) -> Result<kvm_regs, SetUpError> {
        self.fd
            .get_regs()
            .map_err(|error| self.error("read its registers", error))
    }

    /// Reads the system registers.
    ///
    /// # Errors
    /// The ioctl's.
    pub fn system_registers(&self) -> Result<kvm_sregs, SetUpError> {
        self.fd
            .get_sregs()
            .map_err(|error| self.error("read its system registers", error))
    }

    /// Writes the general registers.
    ///
    /// # Errors
    /// The ioctl's.
    pub fn set_registers(&self, registers: &kvm_regs) -> Result<(), SetUpError> {
        self.fd
            .set_regs(registers)
            .map_err(|error| self.error("set its registers", error))
    }

    /// Writes the system registers.
    ///
    /// # Errors
    /// The ioctl's: `EINVAL` for a combination that the processor would refuse.
    pub fn set_system_registers(&self, registers: &kvm_sregs) -> Result<(), SetUpError> {
        self.fd
            .set_sregs(registers)
            .map_err(|error| self.error("set its system registers", error))
    }

    /// Lets it run at once, and not wait for a start-up message, as all but the first do that have a
    /// local interrupt controller (`KVM_SET_MP_STATE`).
    ///
    /// # Errors
    /// The ioctl's.
    pub fn make_runnable(&self) -> Result<(), SetUpError> {
        let state = kvm_bindings::kvm_mp_state {
            mp_state: kvm_bindings::KVM_MP_STATE_RUNNABLE,
        };
        self.fd
            .set_mp_state(state)
            .map_err(|error| self.error("let it run", error))
    }

    /// Guest-physical address behind a guest-virtual one, as KVM itself translates it
    /// (`KVM_TRANSLATE`); `None` where nothing is mapped.
    pub fn translate(&self, address: Gva) -> Option<Gpa> {
        let translation = self.fd.translate_gva(address.0).ok()?;
        (translation.valid != 0).then_some(Gpa(translation.physical_address))
    }

    /// Has every exit bring the general registers with it (`KVM_CAP_SYNC_REGS`), or not.
    pub fn sync_registers(&mut self, on: bool) {
        match on {
            true => self.fd.set_sync_valid_reg(SyncReg::Register),
            false => self.fd.clear_sync_valid_reg(SyncReg::Register),
        }
    }

    /// The registers that the last exit brought; zeros before the first.
    pub fn synced_registers(&mut self) -> kvm_regs {
        // SAFETY: every bit pattern is valid for this member of the union, which the kernel fills.
        unsafe { self.fd.get_kvm_run().s.regs.regs }
    }

    fn error(&self, what: &'static str, error: kvm_ioctls::Error) -> SetUpError {
        SetUpError::Vcpu {
            what,
            index: self.index,
            source: error.into(),
        }
    }

    /// `KVM_RUN` as it is: for who measures what the rest of this crate adds to it.
    ///
    /// # Errors
    /// The ioctl's, `EINTR` among them.
    pub fn run_raw(&mut self) -> io::Result<kvm_ioctls::VcpuExit<'_>> {
        Ok(self.fd.run()?)
    }

    /// Runs the guest until it exits. A signal that [`signal`] watches ends it with
    /// [`Exit::Interrupted`], also when it came just before.
    ///
    /// # Errors
    /// `KVM_RUN`'s: none is the guest's doing.
    pub fn run(&mut self) -> io::Result<Exit> {
        // SAFETY: the descriptor is a vCPU's, and the ioctl has no argument. What it writes lies in
        // the vCPU's own mapping, which is looked at only afterwards.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_RUN, 0) } {
            0 => Ok(owned(self.fd.get_kvm_run(), self.run_size)),
            _ => match io::Error::last_os_error() {
                // EAGAIN: the vCPU waits for its start-up message; nothing of it ran.
                error if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {
                    Ok(Exit::Interrupted)
                }
                error => Err(error),
            },
        }
    }

    /// Registers this vCPU as the one that a signal to this thread interrupts, for as long as the
    /// guard lives.
    pub fn interruptible(&mut self) -> signal::Interruptible {
        let flag = &raw mut self.fd.get_kvm_run().immediate_exit;
        // SAFETY: the flag is in the vCPU's mapping, which lives as long as `self`; the guard's
        // holder keeps `self` (documented there).
        unsafe { signal::Interruptible::new(flag) }
    }

    /// Forgets that an interruption was asked for.
    pub fn clear_interruption(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
    }

    /// Element `index` of the string access that the last exit was, as an access of its own.
    pub fn string_element(&mut self, string: Exit, index: u32) -> Option<Exit> {
        let Exit::IoString {
            port,
            width,
            count,
            out,
        } = string
        else {
            return None;
        };
        let value = |vcpu: &mut Vcpu| read_io(vcpu.fd.get_kvm_run(), vcpu.run_size, index, width);
        (index < count).then(|| match out {
            true => Exit::IoOut {
                port,
                width,
                value: value(self),
            },
            false => Exit::IoIn { port, width },
        })
    }

    /// Answers a read: element `index` of a port's (0 unless it is a string access), or MMIO's.
    pub fn answer(&mut self, exit: Exit, index: u32, value: u64) {
        let run_size = self.run_size;
        let run = self.fd.get_kvm_run();
        match exit {
            Exit::IoIn { width, .. } => {
                if let Some(at) = io_data(run, run_size, index, width) {
                    let bytes = value.to_le_bytes();
                    // SAFETY: `io_data` checked that the element lies within the mapping.
                    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, width.bytes()) };
                }
            }
            Exit::MmioRead { .. } => run.__bindgen_anon_1.mmio.data = value.to_le_bytes(),
            Exit::MsrRead { .. } => run.__bindgen_anon_1.msr.data = value,
            _ => {}
        }
    }

    /// Answers an access to a model-specific register that is not there: the guest gets #GP.
    pub fn refuse_msr(&mut self) {
        self.fd.get_kvm_run().__bindgen_anon_1.msr.error = 1;
    }
}

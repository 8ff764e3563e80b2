//! A virtual processor: `KVM_RUN`, and what came out of it as an owned [`Exit`].
//!
//! The kernel and user space share a page or three with each vCPU: `struct kvm_run`, and behind it
//! the data of port accesses. Everything is copied out of there at once, so that no borrow of it
//! outlives this file.

use super::signal;
use super::vm::SetUpError;
use crate::memory::{Gpa, Gva};
use crate::trap::{Exit, Width};
use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_EXCEPTION, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_HYPERCALL,
    KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_IOAPIC_EOI,
    KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_NMI, KVM_EXIT_SET_TPR,
    KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT, KVM_EXIT_TPR_ACCESS, KVM_EXIT_X86_RDMSR,
    KVM_EXIT_X86_WRMSR, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, kvm_regs, kvm_run, kvm_sregs,
};
use kvm_ioctls::{SyncReg, VcpuFd};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

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
        match self.fd.run() {
            Ok(_) => {}
            // EAGAIN: the vCPU waits for its start-up message; nothing of it ran.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                return Ok(Exit::Interrupted);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.exit())
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

    /// What `kvm_run` says, owned.
    fn exit(&mut self) -> Exit {
        let run_size = self.run_size;
        let run = self.fd.get_kvm_run();
        match run.exit_reason {
            KVM_EXIT_IO => {
                // SAFETY: the exit reason says that this member of the union is the valid one.
                let io = unsafe { run.__bindgen_anon_1.io };
                let width = Width::from_bytes(io.size.into()).unwrap_or(Width::Byte);
                let out = u32::from(io.direction) == KVM_EXIT_IO_OUT;
                match (io.count, out) {
                    (1, true) => Exit::IoOut {
                        port: io.port,
                        width,
                        value: read_io(run, run_size, 0, width),
                    },
                    (1, false) => Exit::IoIn {
                        port: io.port,
                        width,
                    },
                    (count, out) => Exit::IoString {
                        port: io.port,
                        width,
                        count,
                        out,
                    },
                }
            }
            KVM_EXIT_MMIO => {
                // SAFETY: as above.
                let mmio = unsafe { run.__bindgen_anon_1.mmio };
                let width = Width::from_bytes(mmio.len as usize).unwrap_or(Width::Byte);
                match mmio.is_write {
                    0 => Exit::MmioRead {
                        address: mmio.phys_addr,
                        width,
                    },
                    _ => Exit::MmioWrite {
                        address: mmio.phys_addr,
                        width,
                        value: u64::from_le_bytes(mmio.data) & width.mask(),
                    },
                }
            }
            KVM_EXIT_HLT => Exit::Hlt,
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: as above; the emulation failure's layout is a view of the same bytes.
                let (internal, emulation) = unsafe {
                    (
                        run.__bindgen_anon_1.internal,
                        run.__bindgen_anon_1.emulation_failure,
                    )
                };
                let has_bytes = internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                    && emulation.ndata >= 1
                    && emulation.flags
                        & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
                        != 0;
                // SAFETY: the flag says that the kernel filled these in.
                let instruction = unsafe { emulation.__bindgen_anon_1.__bindgen_anon_1 };
                Exit::InternalError {
                    suberror: internal.suberror,
                    bytes: if has_bytes {
                        instruction.insn_bytes
                    } else {
                        [0; 15]
                    },
                    len: if has_bytes {
                        instruction.insn_size.min(15)
                    } else {
                        0
                    },
                }
            }
            KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: as above.
                let fail = unsafe { run.__bindgen_anon_1.fail_entry };
                Exit::FailEntry {
                    reason: fail.hardware_entry_failure_reason,
                }
            }
            KVM_EXIT_DEBUG => {
                // SAFETY: as above.
                let debug = unsafe { run.__bindgen_anon_1.debug.arch };
                Exit::Debug {
                    exception: debug.exception,
                    pc: debug.pc,
                    dr6: debug.dr6,
                }
            }
            KVM_EXIT_X86_RDMSR => {
                // SAFETY: as above.
                let msr = unsafe { run.__bindgen_anon_1.msr };
                Exit::MsrRead { index: msr.index }
            }
            KVM_EXIT_X86_WRMSR => {
                // SAFETY: as above.
                let msr = unsafe { run.__bindgen_anon_1.msr };
                Exit::MsrWrite {
                    index: msr.index,
                    value: msr.data,
                }
            }
            KVM_EXIT_SYSTEM_EVENT => {
                // SAFETY: as above.
                let event = unsafe { run.__bindgen_anon_1.system_event };
                Exit::SystemEvent { kind: event.type_ }
            }
            KVM_EXIT_MEMORY_FAULT => {
                // SAFETY: as above.
                let fault = unsafe { run.__bindgen_anon_1.memory_fault };
                Exit::MemoryFault {
                    address: fault.gpa,
                    bytes: fault.size,
                }
            }
            KVM_EXIT_HYPERCALL => {
                // SAFETY: as above.
                let hypercall = unsafe { run.__bindgen_anon_1.hypercall };
                Exit::Hypercall {
                    number: hypercall.nr,
                }
            }
            KVM_EXIT_IOAPIC_EOI => {
                // SAFETY: as above.
                let eoi = unsafe { run.__bindgen_anon_1.eoi };
                Exit::IoapicEoi { vector: eoi.vector }
            }
            KVM_EXIT_EXCEPTION => Exit::Exception,
            KVM_EXIT_IRQ_WINDOW_OPEN => Exit::IrqWindowOpen,
            KVM_EXIT_INTR => Exit::Interrupted,
            KVM_EXIT_SET_TPR | KVM_EXIT_TPR_ACCESS => Exit::TprAccess,
            KVM_EXIT_NMI => Exit::Nmi,
            reason => Exit::Other { reason },
        }
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

/// Where element `index` of a port access lies, if it is within the mapping of `run_size` bytes.
fn io_data(run: &mut kvm_run, run_size: usize, index: u32, width: Width) -> Option<*mut u8> {
    // SAFETY: called only after KVM_EXIT_IO, for which this member is the valid one.
    let offset = unsafe { run.__bindgen_anon_1.io.data_offset };
    let at = usize::try_from(offset)
        .ok()?
        .checked_add(index as usize * width.bytes())?;
    (at.checked_add(width.bytes())? <= run_size).then(|| {
        let start: *mut u8 = std::ptr::from_mut(run).cast();
        start.wrapping_add(at)
    })
}

fn read_io(run: &mut kvm_run, run_size: usize, index: u32, width: Width) -> u32 {
    let mut bytes = [0; 4];
    if let Some(at) = io_data(run, run_size, index, width) {
        // SAFETY: `io_data` checked that the element lies within the mapping; ports are at most 4 bytes wide.
        unsafe { std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), width.bytes().min(4)) };
    }
    u32::from_le_bytes(bytes)
}

//! What `struct kvm_run` says after an exit, as an owned [`Exit`].
//!
//! The kernel and user space share a few pages with each vCPU: `struct kvm_run`, and behind it the
//! data of port accesses. Everything is copied out of there at once, so that no borrow of it
//! outlives this file.

use crate::trap::{Exit, Width};
use kvm_bindings::*;

/// `KVM_EXIT_TDX`, of Linux 6.16.
const KVM_EXIT_TDX: u32 = 40;

/// The exit that `run` tells of, in a mapping of `run_size` bytes.
///
/// Ports and memory come first and by themselves: they are what a guest exits for, and the other
/// reasons' code need not be in the processor's caches meanwhile.
#[inline]
pub(super) fn owned(run: &mut kvm_run, run_size: usize) -> Exit {
    let exit = match run.exit_reason {
        KVM_EXIT_IO => port(run, run_size),
        KVM_EXIT_MMIO => memory(run),
        _ => None,
    };
    exit.unwrap_or_else(|| rare(run))
}

/// A port access; `None` for a width that no port has.
fn port(run: &mut kvm_run, run_size: usize) -> Option<Exit> {
    // SAFETY: the exit reason says that this member of the union is the valid one.
    let io = unsafe { run.__bindgen_anon_1.io };
    let width = Width::of_port(io.size.into())?;
    let (port, out) = (io.port, u32::from(io.direction) == KVM_EXIT_IO_OUT);
    Some(match (io.count, out) {
        (1, true) => Exit::IoOut {
            port,
            width,
            value: read_io(run, run_size, 0, width),
        },
        (1, false) => Exit::IoIn { port, width },
        (count, out) => Exit::IoString {
            port,
            width,
            count,
            out,
        },
    })
}

/// A memory access; `None` for a width that there is not.
fn memory(run: &kvm_run) -> Option<Exit> {
    // SAFETY: the exit reason says that this member of the union is the valid one.
    let mmio = unsafe { run.__bindgen_anon_1.mmio };
    let width = Width::from_bytes(mmio.len as usize)?;
    let address = mmio.phys_addr;
    Some(match mmio.is_write {
        0 => Exit::MmioRead { address, width },
        _ => Exit::MmioWrite {
            address,
            width,
            value: u64::from_le_bytes(mmio.data) & width.mask(),
        },
    })
}

/// Every other reason.
#[cold]
fn rare(run: &kvm_run) -> Exit {
    // Every member of the union is plain integers, for which every bit pattern is valid; the exit
    // reason says which of them the kernel filled in.
    let union = &run.__bindgen_anon_1;
    match run.exit_reason {
        KVM_EXIT_UNKNOWN => Exit::Unknown {
            // SAFETY: as above.
            reason: unsafe { union.hw.hardware_exit_reason },
        },
        KVM_EXIT_EXCEPTION => {
            // SAFETY: as above.
            let exception = unsafe { union.ex };
            Exit::Exception {
                vector: exception.exception,
                error_code: exception.error_code,
            }
        }
        KVM_EXIT_HYPERCALL => {
            // SAFETY: as above.
            let hypercall = unsafe { union.hypercall };
            let [a, b, c, ..] = hypercall.args;
            Exit::Hypercall {
                number: hypercall.nr,
                arguments: [a, b, c],
            }
        }
        KVM_EXIT_DEBUG => {
            // SAFETY: as above.
            let debug = unsafe { union.debug.arch };
            Exit::Debug {
                exception: debug.exception,
                pc: debug.pc,
                dr6: debug.dr6,
            }
        }
        KVM_EXIT_HLT => Exit::Hlt,
        KVM_EXIT_IRQ_WINDOW_OPEN => Exit::IrqWindowOpen,
        KVM_EXIT_SHUTDOWN => Exit::Shutdown,
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: as above.
            let fail = unsafe { union.fail_entry };
            Exit::FailEntry {
                reason: fail.hardware_entry_failure_reason,
                processor: fail.cpu,
            }
        }
        KVM_EXIT_INTR => Exit::Interrupted,
        KVM_EXIT_SET_TPR => Exit::SetTpr,
        KVM_EXIT_TPR_ACCESS => {
            // SAFETY: as above.
            let access = unsafe { union.tpr_access };
            Exit::TprAccess {
                rip: access.rip,
                write: access.is_write != 0,
            }
        }
        KVM_EXIT_NMI => Exit::Nmi,
        KVM_EXIT_INTERNAL_ERROR => internal_error(run),
        KVM_EXIT_SYSTEM_EVENT => {
            // SAFETY: as above.
            let (event, [data, ..]) = unsafe {
                let event = union.system_event;
                (event, event.__bindgen_anon_1.data)
            };
            Exit::SystemEvent {
                kind: event.type_,
                data: if event.ndata > 0 { data } else { 0 },
            }
        }
        KVM_EXIT_IOAPIC_EOI => Exit::IoapicEoi {
            // SAFETY: as above.
            vector: unsafe { union.eoi.vector },
        },
        KVM_EXIT_HYPERV => Exit::Hyperv {
            // SAFETY: as above.
            kind: unsafe { union.hyperv.type_ },
        },
        KVM_EXIT_X86_RDMSR => {
            // SAFETY: as above.
            let msr = unsafe { union.msr };
            Exit::MsrRead {
                index: msr.index,
                why: msr.reason,
            }
        }
        KVM_EXIT_X86_WRMSR => {
            // SAFETY: as above.
            let msr = unsafe { union.msr };
            Exit::MsrWrite {
                index: msr.index,
                value: msr.data,
                why: msr.reason,
            }
        }
        KVM_EXIT_DIRTY_RING_FULL => Exit::DirtyRingFull,
        KVM_EXIT_AP_RESET_HOLD => Exit::ApResetHold,
        KVM_EXIT_X86_BUS_LOCK => Exit::BusLock,
        KVM_EXIT_XEN => Exit::Xen {
            // SAFETY: as above.
            kind: unsafe { union.xen.type_ },
        },
        KVM_EXIT_NOTIFY => Exit::Notify {
            // SAFETY: as above.
            flags: unsafe { union.notify.flags },
        },
        KVM_EXIT_MEMORY_FAULT => {
            // SAFETY: as above.
            let fault = unsafe { union.memory_fault };
            Exit::MemoryFault {
                address: fault.gpa,
                bytes: fault.size,
                flags: fault.flags,
            }
        }
        KVM_EXIT_TDX => Exit::Tdx {
            // SAFETY: as above. The bindings are older than this member: `flags`, then `nr`, as the
            // memory fault's `flags` and `gpa` are.
            number: unsafe { union.memory_fault.gpa },
        },
        reason => Exit::Other { reason },
    }
}

fn internal_error(run: &kvm_run) -> Exit {
    // SAFETY: called for this reason only; the emulation failure is a view of the same bytes. All of
    // them are integers.
    let (internal, emulation, instruction) = unsafe {
        let emulation = run.__bindgen_anon_1.emulation_failure;
        (
            run.__bindgen_anon_1.internal,
            emulation,
            emulation.__bindgen_anon_1.__bindgen_anon_1,
        )
    };
    let has_bytes = internal.suberror == KVM_INTERNAL_ERROR_EMULATION
        && emulation.ndata >= 1
        && emulation.flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
    let (bytes, len) = match has_bytes {
        true => (instruction.insn_bytes, instruction.insn_size.min(15)),
        false => ([0; 15], 0),
    };
    Exit::InternalError {
        suberror: internal.suberror,
        bytes,
        len,
    }
}

/// Where element `index` of a port access lies, if it is within the mapping of `run_size` bytes.
pub(super) fn io_data(
    run: &mut kvm_run,
    run_size: usize,
    index: u32,
    width: Width,
) -> Option<*mut u8> {
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

pub(super) fn read_io(run: &mut kvm_run, run_size: usize, index: u32, width: Width) -> u32 {
    let mut bytes = [0; 4];
    if let Some(at) = io_data(run, run_size, index, width) {
        // SAFETY: `io_data` checked that the element lies within the mapping; ports are at most 4 bytes wide.
        unsafe { std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), width.bytes().min(4)) };
    }
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests;

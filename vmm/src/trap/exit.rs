//! An exit, owned and `Copy`: everything that KVM said, and nothing borrowed from it
//! (`Documentation/virt/kvm/api.rst`, section 5, "The kvm_run structure").

use super::Width;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why the guest stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// `out`: a write to a port.
    IoOut {
        /// The port.
        port: u16,
        /// How wide.
        width: Width,
        /// The value, zero-extended.
        value: u32,
    },
    /// `in`: a read from a port; the answer is due.
    IoIn {
        /// The port.
        port: u16,
        /// How wide.
        width: Width,
    },
    /// `rep outs` or `rep ins`: many accesses of one port in one exit.
    IoString {
        /// The port.
        port: u16,
        /// How wide each access is.
        width: Width,
        /// How many accesses.
        count: u32,
        /// Whether the guest writes.
        out: bool,
    },
    /// A read of guest-physical memory that is in no slot; the answer is due.
    MmioRead {
        /// Guest-physical.
        address: u64,
        /// How wide.
        width: Width,
    },
    /// A write to guest-physical memory that is in no slot, or in a read-only one.
    MmioWrite {
        /// Guest-physical.
        address: u64,
        /// How wide.
        width: Width,
        /// The value, zero-extended.
        value: u64,
    },
    /// `hlt`, where no interrupt controller in the kernel waits in its place.
    Hlt,
    /// Triple fault: a fault while delivering a double fault. A real machine resets.
    Shutdown,
    /// KVM could not go on, most often for an instruction that it cannot emulate.
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`; 1 is a failed emulation.
        suberror: u32,
        /// The instruction's bytes, where KVM knows them.
        bytes: [u8; 15],
        /// How many of them are valid.
        len: u8,
    },
    /// The processor refused to enter the guest: its state is invalid.
    FailEntry {
        /// The processor's own reason.
        reason: u64,
        /// Which of the host's processors.
        processor: u32,
    },
    /// A breakpoint or single step that the VMM asked for.
    Debug {
        /// The exception's vector: 1 or 3.
        exception: u32,
        /// Guest-virtual address of the instruction.
        pc: u64,
        /// Debug status register.
        dr6: u64,
    },
    /// `rdmsr` of a register that the VMM answers for; the answer is due.
    MsrRead {
        /// The register's number.
        index: u32,
        /// Why KVM asks: `KVM_MSR_EXIT_REASON_*`.
        why: u32,
    },
    /// `wrmsr` to a register that the VMM answers for.
    MsrWrite {
        /// The register's number.
        index: u32,
        /// The value.
        value: u64,
        /// Why KVM asks: `KVM_MSR_EXIT_REASON_*`.
        why: u32,
    },
    /// The guest asked to be shut down or reset through a paravirtual interface, or crashed.
    SystemEvent {
        /// `KVM_SYSTEM_EVENT_*`.
        kind: u32,
        /// The first word that came with it; 0 without one.
        data: u64,
    },
    /// A guest access for which the host has no memory to give.
    MemoryFault {
        /// Guest-physical.
        address: u64,
        /// How many bytes.
        bytes: u64,
        /// `KVM_MEMORY_EXIT_FLAG_*`.
        flags: u64,
    },
    /// `vmcall` with a number that KVM passes on.
    Hypercall {
        /// The number.
        number: u64,
        /// The first of its arguments; those that x86's KVM passes on have no more.
        arguments: [u64; 3],
    },
    /// End of an interrupt, where the I/O interrupt controller is the VMM's.
    IoapicEoi {
        /// The interrupt's vector.
        vector: u8,
    },
    /// An exception that KVM passes on.
    Exception {
        /// Its vector.
        vector: u32,
        /// Its error code, zero for vectors without one.
        error_code: u32,
    },
    /// The guest can take an interrupt now, as the VMM asked to be told.
    IrqWindowOpen,
    /// A signal came for the thread.
    Interrupted,
    /// The guest changed its task priority, as the VMM asked to be told.
    SetTpr,
    /// The guest touched the task priority register, as the VMM asked to be told.
    TprAccess {
        /// Guest-virtual address of the instruction.
        rip: u64,
        /// Whether it writes.
        write: bool,
    },
    /// A non-maskable interrupt of the host's.
    Nmi,
    /// The ring in which this vCPU notes the pages that it writes is (almost) full.
    DirtyRingFull,
    /// An encrypted guest's processor waits for its start (SEV-ES).
    ApResetHold,
    /// The guest locked the whole bus, as the VMM asked to be told: a locked access across two cache
    /// lines, or to memory that is not cached.
    BusLock,
    /// The guest takes no interrupts for longer than the VMM said, so it may never again.
    Notify {
        /// `KVM_NOTIFY_*`: bit 0 says that its state is lost.
        flags: u32,
    },
    /// A request that Hyper-V would answer.
    Hyperv {
        /// `KVM_EXIT_HYPERV_*`.
        kind: u32,
    },
    /// A hypercall that Xen would answer.
    Xen {
        /// `KVM_EXIT_XEN_*`.
        kind: u32,
    },
    /// A call of an encrypted guest's (TDX).
    Tdx {
        /// The number of the call.
        number: u64,
    },
    /// The processor exited for a reason that KVM has no name for.
    Unknown {
        /// The processor's own reason.
        reason: u64,
    },
    /// A reason that x86 does not have, or an access of a width that it does not have.
    Other {
        /// `KVM_EXIT_*`.
        reason: u32,
    },
}

/// Makes [`Reason`]: a kind for each [`Exit`], with its name.
macro_rules! reasons {
    ($($reason:ident $name:literal,)*) => {
        /// The kind of an exit, by which exits are counted.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each is the Exit of its name")]
        pub enum Reason {
            $($reason,)*
        }

        impl Reason {
            /// Every kind, each at its own place: `ALL[reason as usize]`.
            pub const ALL: [Reason; Reason::COUNT] = [$(Reason::$reason,)*];

            /// How many kinds there are.
            pub const COUNT: usize = Reason::Other as usize + 1;

            /// The name, much as KVM's documentation has it in upper case after `KVM_EXIT_`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$reason => $name,)*
                }
            }
        }

        impl Exit {
            /// The exit's kind.
            pub const fn reason(&self) -> Reason {
                match self {
                    $(Exit::$reason { .. } => Reason::$reason,)*
                }
            }
        }
    };
}

reasons! {
    IoOut "io out",
    IoIn "io in",
    IoString "io string",
    MmioRead "mmio read",
    MmioWrite "mmio write",
    Hlt "hlt",
    Shutdown "shutdown",
    InternalError "internal error",
    FailEntry "fail entry",
    Debug "debug",
    MsrRead "rdmsr",
    MsrWrite "wrmsr",
    SystemEvent "system event",
    MemoryFault "memory fault",
    Hypercall "hypercall",
    IoapicEoi "ioapic eoi",
    Exception "exception",
    IrqWindowOpen "irq window",
    Interrupted "interrupted",
    SetTpr "set tpr",
    TprAccess "tpr access",
    Nmi "nmi",
    DirtyRingFull "dirty ring full",
    ApResetHold "ap reset hold",
    BusLock "bus lock",
    Notify "notify",
    Hyperv "hyper-v",
    Xen "xen",
    Tdx "tdx",
    Unknown "unknown",
    Other "other",
}

/// What KVM calls the reasons that are other architectures', for who meets one all the same.
const fn foreign_name(reason: u32) -> Option<&'static str> {
    Some(match reason {
        13 => "s390 sieic",
        14 => "s390 reset",
        15 => "dcr, of powerpc",
        18 => "osi, of powerpc",
        19 => "papr hcall, of powerpc",
        20 => "s390 ucontrol",
        21 => "watchdog, of powerpc",
        22 => "s390 tsch",
        23 => "epr, of powerpc",
        25 => "s390 stsi",
        28 => "arm nisv",
        35 => "riscv sbi",
        36 => "riscv csr",
        38 => "loongarch iocsr",
        41 => "arm sea",
        _ => return None,
    })
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.reason().name();
        match *self {
            Exit::IoOut { port, width, value } => {
                write!(f, "{name}: port {port:#x}, {width}, value {value:#x}")
            }
            Exit::IoIn { port, width } => write!(f, "{name}: port {port:#x}, {width}"),
            Exit::IoString {
                port, width, count, ..
            } => write!(f, "{name}: port {port:#x}, {count} × {width}"),
            Exit::MmioRead { address, width } => {
                write!(f, "{name}: guest-physical {address:#x}, {width}")
            }
            Exit::MmioWrite {
                address,
                width,
                value,
            } => write!(
                f,
                "{name}: guest-physical {address:#x}, {width}, value {value:#x}"
            ),
            Exit::InternalError { suberror, .. } => write!(f, "{name}: suberror {suberror}"),
            Exit::FailEntry { reason, processor } => write!(
                f,
                "{name}: hardware reason {reason:#x} on the host's processor {processor}"
            ),
            Exit::Debug { exception, pc, .. } => {
                write!(f, "{name}: exception {exception} at {pc:#x}")
            }
            Exit::MsrRead { index, .. } => write!(f, "{name} {index:#x}"),
            Exit::MsrWrite { index, value, .. } => write!(f, "{name} {index:#x}, value {value:#x}"),
            Exit::SystemEvent { kind, data } => write!(f, "{name} {kind}, data {data:#x}"),
            Exit::MemoryFault { address, bytes, .. } => {
                write!(f, "{name}: guest-physical {address:#x}, {bytes} bytes")
            }
            Exit::Hypercall { number, .. } => write!(f, "{name} {number}"),
            Exit::IoapicEoi { vector } => write!(f, "{name}: vector {vector}"),
            Exit::Exception { vector, error_code } => {
                write!(f, "{name}: vector {vector}, error code {error_code:#x}")
            }
            Exit::TprAccess { rip, write } => {
                let access = if write { "write" } else { "read" };
                write!(f, "{name}: {access} at {rip:#x}")
            }
            Exit::Notify { flags } => write!(f, "{name}: flags {flags:#x}"),
            Exit::Hyperv { kind } | Exit::Xen { kind } => write!(f, "{name}: kind {kind}"),
            Exit::Tdx { number } => write!(f, "{name}: call {number:#x}"),
            Exit::Unknown { reason } => write!(f, "{name}: hardware reason {reason:#x}"),
            Exit::Other { reason } => match foreign_name(reason) {
                Some(foreign) => write!(f, "KVM exit reason {reason}: {foreign}"),
                None => write!(f, "KVM exit reason {reason}"),
            },
            _ => f.write_str(name),
        }
    }
}

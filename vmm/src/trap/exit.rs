//! An exit, owned and `Copy`: everything that KVM said, and nothing borrowed from it
//! (`Documentation/virt/kvm/api.rst`, section 5, "The kvm_run structure").

use serde::{Deserialize, Serialize};
use std::fmt;

/// How many bytes an access is wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Double,
    /// 8 bytes; memory only, ports have no such width.
    Quad,
}

impl Width {
    /// The width of so many bytes, if there is one.
    pub const fn from_bytes(bytes: usize) -> Option<Width> {
        Some(match bytes {
            1 => Width::Byte,
            2 => Width::Word,
            4 => Width::Double,
            8 => Width::Quad,
            _ => return None,
        })
    }

    /// Bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Double => 4,
            Width::Quad => 8,
        }
    }

    /// The bits of a 64-bit value that an access of this width has.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

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
    },
    /// `wrmsr` to a register that the VMM answers for.
    MsrWrite {
        /// The register's number.
        index: u32,
        /// The value.
        value: u64,
    },
    /// The guest asked to be shut down or reset through a paravirtual interface.
    SystemEvent {
        /// `KVM_SYSTEM_EVENT_*`.
        kind: u32,
    },
    /// A guest access for which the host has no memory to give.
    MemoryFault {
        /// Guest-physical.
        address: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// `vmcall` with a number that KVM passes on.
    Hypercall {
        /// The number.
        number: u64,
    },
    /// End of an interrupt, where the I/O interrupt controller is the VMM's.
    IoapicEoi {
        /// The interrupt's vector.
        vector: u8,
    },
    /// An exception that KVM passes on.
    Exception,
    /// The guest can take an interrupt now, as the VMM asked to be told.
    IrqWindowOpen,
    /// A signal came for the thread.
    Interrupted,
    /// The guest touched the task priority register, as the VMM asked to be told.
    TprAccess,
    /// A non-maskable interrupt of the host's.
    Nmi,
    /// A reason that this program has no name for.
    Other {
        /// `KVM_EXIT_*`.
        reason: u32,
    },
}

/// The kind of an exit, by which exits are counted.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the Exit of its name")]
pub enum Reason {
    IoOut,
    IoIn,
    IoString,
    MmioRead,
    MmioWrite,
    Hlt,
    Shutdown,
    InternalError,
    FailEntry,
    Debug,
    MsrRead,
    MsrWrite,
    SystemEvent,
    MemoryFault,
    Hypercall,
    IoapicEoi,
    Exception,
    IrqWindowOpen,
    Interrupted,
    TprAccess,
    Nmi,
    Other,
}

impl Reason {
    /// How many kinds there are.
    pub const COUNT: usize = Reason::Other as usize + 1;

    /// The name, as KVM's documentation has it in upper case after `KVM_EXIT_`.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::IoOut => "io out",
            Reason::IoIn => "io in",
            Reason::IoString => "io string",
            Reason::MmioRead => "mmio read",
            Reason::MmioWrite => "mmio write",
            Reason::Hlt => "hlt",
            Reason::Shutdown => "shutdown",
            Reason::InternalError => "internal error",
            Reason::FailEntry => "fail entry",
            Reason::Debug => "debug",
            Reason::MsrRead => "rdmsr",
            Reason::MsrWrite => "wrmsr",
            Reason::SystemEvent => "system event",
            Reason::MemoryFault => "memory fault",
            Reason::Hypercall => "hypercall",
            Reason::IoapicEoi => "ioapic eoi",
            Reason::Exception => "exception",
            Reason::IrqWindowOpen => "irq window",
            Reason::Interrupted => "interrupted",
            Reason::TprAccess => "tpr access",
            Reason::Nmi => "nmi",
            Reason::Other => "other",
        }
    }
}

impl Exit {
    /// The exit's kind.
    pub const fn reason(&self) -> Reason {
        match self {
            Exit::IoOut { .. } => Reason::IoOut,
            Exit::IoIn { .. } => Reason::IoIn,
            Exit::IoString { .. } => Reason::IoString,
            Exit::MmioRead { .. } => Reason::MmioRead,
            Exit::MmioWrite { .. } => Reason::MmioWrite,
            Exit::Hlt => Reason::Hlt,
            Exit::Shutdown => Reason::Shutdown,
            Exit::InternalError { .. } => Reason::InternalError,
            Exit::FailEntry { .. } => Reason::FailEntry,
            Exit::Debug { .. } => Reason::Debug,
            Exit::MsrRead { .. } => Reason::MsrRead,
            Exit::MsrWrite { .. } => Reason::MsrWrite,
            Exit::SystemEvent { .. } => Reason::SystemEvent,
            Exit::MemoryFault { .. } => Reason::MemoryFault,
            Exit::Hypercall { .. } => Reason::Hypercall,
            Exit::IoapicEoi { .. } => Reason::IoapicEoi,
            Exit::Exception => Reason::Exception,
            Exit::IrqWindowOpen => Reason::IrqWindowOpen,
            Exit::Interrupted => Reason::Interrupted,
            Exit::TprAccess => Reason::TprAccess,
            Exit::Nmi => Reason::Nmi,
            Exit::Other { .. } => Reason::Other,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.reason().name();
        match *self {
            Exit::IoOut { port, width, value } => write!(
                f,
                "{name}: port {port:#x}, {} byte, value {value:#x}",
                width.bytes()
            ),
            Exit::IoIn { port, width } => {
                write!(f, "{name}: port {port:#x}, {} byte", width.bytes())
            }
            Exit::IoString {
                port, width, count, ..
            } => write!(
                f,
                "{name}: port {port:#x}, {count} × {} byte",
                width.bytes()
            ),
            Exit::MmioRead { address, width } => write!(
                f,
                "{name}: guest-physical {address:#x}, {} byte",
                width.bytes()
            ),
            Exit::MmioWrite {
                address,
                width,
                value,
            } => {
                write!(
                    f,
                    "{name}: guest-physical {address:#x}, {} byte, value {value:#x}",
                    width.bytes()
                )
            }
            Exit::InternalError { suberror, .. } => write!(f, "{name}: suberror {suberror}"),
            Exit::FailEntry { reason } => write!(f, "{name}: hardware reason {reason:#x}"),
            Exit::Debug { exception, pc, .. } => {
                write!(f, "{name}: exception {exception} at {pc:#x}")
            }
            Exit::MsrRead { index } => write!(f, "{name} {index:#x}"),
            Exit::MsrWrite { index, value } => write!(f, "{name} {index:#x}, value {value:#x}"),
            Exit::SystemEvent { kind } => write!(f, "{name} {kind}"),
            Exit::MemoryFault { address, bytes } => {
                write!(f, "{name}: guest-physical {address:#x}, {bytes} byte")
            }
            Exit::Hypercall { number } => write!(f, "{name} {number}"),
            Exit::IoapicEoi { vector } => write!(f, "{name}: vector {vector}"),
            Exit::Other { reason } => write!(f, "KVM exit reason {reason}"),
            _ => f.write_str(name),
        }
    }
}

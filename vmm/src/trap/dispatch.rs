//! From an exit to an answer: a function of the exit and the bus, with no KVM in it.

use super::Exit;
use crate::device::Buses;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is to happen after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The guest goes on.
    Resume,
    /// The guest goes on, and its read gets this value.
    Value(u64),
    /// No device answers there. What that means is the machine's policy.
    Unclaimed,
    /// The guest does not go on.
    Stop(Stop),
}

/// Why a guest does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// It ended itself with this status.
    Exited(u8),
    /// It halted, and no interrupt can wake it.
    Halted,
    /// It asked for a reset.
    Reset,
    /// It switched its machine off.
    PoweredOff,
    /// Its ring 0 met an exception that it cannot handle, and said so.
    GuestFault {
        /// The exception's vector.
        vector: u8,
        /// Its error code, zero for vectors without one.
        error_code: u64,
        /// Guest-virtual address of the instruction.
        rip: u64,
        /// The address that a page fault was about.
        cr2: u64,
    },
    /// A fault while delivering a double fault: a real machine would reset.
    TripleFault,
    /// A hypercall whose request is not in guest memory or not aligned.
    BadRequest {
        /// Guest-physical address of the request.
        address: u64,
    },
    /// It touched memory or a port behind which there is nothing.
    Unclaimed(Exit),
    /// KVM gave up, most often on an instruction that it cannot emulate.
    InternalError(Exit),
    /// An exit that no part of this machine asked for.
    Unexpected(Exit),
}

/// Decides about one exit. String accesses come here element by element.
pub fn dispatch(exit: Exit, buses: &Buses) -> Reply {
    match exit {
        Exit::IoOut { port, width, value } => buses.ports.write(port.into(), width, value.into()),
        Exit::IoIn { port, width } => buses.ports.read(port.into(), width),
        Exit::MmioRead { address, width } => buses.memory.read(address, width),
        Exit::MmioWrite {
            address,
            width,
            value,
        } => buses.memory.write(address, width, value),
        Exit::Hlt => Reply::Stop(Stop::Halted),
        Exit::Shutdown => Reply::Stop(Stop::TripleFault),
        Exit::InternalError { .. } | Exit::FailEntry { .. } => {
            Reply::Stop(Stop::InternalError(exit))
        }
        Exit::Interrupted | Exit::IrqWindowOpen | Exit::Nmi => Reply::Resume,
        Exit::IoString { .. }
        | Exit::Debug { .. }
        | Exit::MsrRead { .. }
        | Exit::MsrWrite { .. }
        | Exit::SystemEvent { .. }
        | Exit::MemoryFault { .. }
        | Exit::Hypercall { .. }
        | Exit::IoapicEoi { .. }
        | Exit::Exception { .. }
        | Exit::SetTpr
        | Exit::TprAccess { .. }
        | Exit::DirtyRingFull
        | Exit::ApResetHold
        | Exit::BusLock
        | Exit::Notify { .. }
        | Exit::Hyperv { .. }
        | Exit::Xen { .. }
        | Exit::Tdx { .. }
        | Exit::Unknown { .. }
        | Exit::Other { .. } => Reply::Stop(Stop::Unexpected(exit)),
    }
}

/// The names of the exceptions (SDM vol. 3A, table 6-1).
pub(crate) const fn exception_name(vector: u8) -> &'static str {
    match vector {
        0 => "#DE divide error",
        1 => "#DB debug",
        3 => "#BP breakpoint",
        4 => "#OF overflow",
        5 => "#BR bound range exceeded",
        6 => "#UD invalid opcode",
        7 => "#NM no floating-point unit",
        8 => "#DF double fault",
        10 => "#TS invalid task-state segment",
        11 => "#NP segment not present",
        12 => "#SS stack fault",
        13 => "#GP general protection",
        14 => "#PF page fault",
        16 => "#MF floating-point error",
        17 => "#AC alignment check",
        19 => "#XM SIMD floating-point",
        20 => "#VE virtualization exception",
        21 => "#CP control protection",
        _ => "interrupt",
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Stop::Exited(status) => write!(f, "the guest exited with status {status}"),
            Stop::Halted => f.write_str("the guest halted, and no interrupt can wake it"),
            Stop::Reset => f.write_str("the guest asked for a reset"),
            Stop::PoweredOff => f.write_str("the guest switched itself off"),
            Stop::GuestFault {
                vector: 14,
                error_code,
                rip,
                cr2,
            } => {
                let access = if error_code & 16 != 0 {
                    "fetch"
                } else if error_code & 2 != 0 {
                    "write"
                } else {
                    "read"
                };
                let ring = if error_code & 4 != 0 {
                    "ring 3"
                } else {
                    "ring 0"
                };
                let why = match error_code {
                    code if code & 8 != 0 => "a reserved bit is set in its page table",
                    code if code & 1 != 0 => "its page's rights forbid it",
                    _ => "no page is there",
                };
                write!(
                    f,
                    "the guest's {access} of {cr2:#x} from {ring} at rip {rip:#x} faulted: {why} (#PF, error code {error_code:#x})"
                )
            }
            Stop::GuestFault {
                vector,
                error_code,
                rip,
                ..
            } => {
                write!(
                    f,
                    "the guest could not handle {} (vector {vector}, error code {error_code:#x}) at rip {rip:#x}",
                    exception_name(vector)
                )
            }
            Stop::TripleFault => {
                f.write_str("triple fault: the guest faulted while delivering a double fault")
            }
            Stop::BadRequest { address } => {
                write!(
                    f,
                    "hypercall with a wild pointer: no request fits at guest-physical {address:#x} (8-byte aligned, within memory)"
                )
            }
            Stop::Unclaimed(exit @ (Exit::IoIn { .. } | Exit::IoOut { .. })) => {
                write!(f, "the guest used a port that no device has ({exit})")
            }
            Stop::Unclaimed(exit) => {
                write!(f, "the guest touched memory that is not there ({exit})")
            }
            Stop::InternalError(exit) => {
                write!(
                    f,
                    "KVM cannot go on ({exit}): most often an instruction that it cannot emulate, and on hosts with software KVM there are many"
                )
            }
            Stop::Unexpected(exit) => write!(
                f,
                "the guest exited for a reason that this machine never asked for ({exit})"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Buses, DebugExit};
    use crate::trap::Width;

    fn buses() -> Buses {
        let mut buses = Buses::default();
        buses.ports.insert(0xf4, 1, DebugExit).unwrap();
        buses
    }

    #[test]
    fn a_port_write_reaches_its_device() {
        let exit = Exit::IoOut {
            port: 0xf4,
            width: Width::Byte,
            value: 7,
        };
        assert_eq!(dispatch(exit, &buses()), Reply::Stop(Stop::Exited(7)));
    }

    #[test]
    fn what_no_device_has_is_unclaimed_whatever_its_width() {
        for width in Width::ALL {
            assert_eq!(
                dispatch(
                    Exit::IoOut {
                        port: 0xf5,
                        width,
                        value: 7
                    },
                    &buses()
                ),
                Reply::Unclaimed
            );
            assert_eq!(
                dispatch(
                    Exit::IoIn {
                        port: 0xffff,
                        width
                    },
                    &buses()
                ),
                Reply::Unclaimed
            );
            assert_eq!(
                dispatch(
                    Exit::MmioRead {
                        address: u64::MAX,
                        width
                    },
                    &buses()
                ),
                Reply::Unclaimed
            );
        }
        // An access that begins on a device but leaves it is nobody's.
        assert_eq!(
            dispatch(
                Exit::IoOut {
                    port: 0xf4,
                    width: Width::Word,
                    value: 7
                },
                &buses()
            ),
            Reply::Unclaimed
        );
        assert_eq!(
            dispatch(
                Exit::IoOut {
                    port: 0xf3,
                    width: Width::Word,
                    value: 7
                },
                &buses()
            ),
            Reply::Unclaimed
        );
    }

    #[test]
    fn the_ends_of_a_guest_are_told_apart() {
        let error = Exit::InternalError {
            suberror: 1,
            bytes: [0; 15],
            len: 0,
        };
        assert_eq!(dispatch(Exit::Hlt, &buses()), Reply::Stop(Stop::Halted));
        assert_eq!(
            dispatch(Exit::Shutdown, &buses()),
            Reply::Stop(Stop::TripleFault)
        );
        assert_eq!(
            dispatch(error, &buses()),
            Reply::Stop(Stop::InternalError(error))
        );
        assert_eq!(dispatch(Exit::Interrupted, &buses()), Reply::Resume);
        assert!(matches!(
            dispatch(Exit::Other { reason: 99 }, &buses()),
            Reply::Stop(Stop::Unexpected(_))
        ));
    }
}

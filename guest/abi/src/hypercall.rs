//! Hypercalls: the guest *asks* the hypervisor instead of being caught doing something.
//!
//! The guest fills in a [`Request`] anywhere in its memory, 8-byte aligned, and writes its
//! guest-physical address to [`port::HYPERCALL`](crate::port::HYPERCALL). A port and not `vmcall`:
//! a port write exits to user space on every kind of host, and costs one exit likewise.

/// One request, in guest memory. The VMM trusts nothing in it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// A [`Number`], raw because the guest chose it.
    pub number: u64,
    /// What the number says; addresses are guest-physical, lengths are bytes.
    pub arguments: [u64; 4],
    /// Set by the VMM: a count or value, or a negative error number (`-EFAULT`, `-ENOSYS`, …) as
    /// Linux returns them.
    pub result: i64,
}

impl Request {
    /// A request that was not answered yet.
    pub const fn new(number: Number, arguments: [u64; 4]) -> Self {
        Request {
            number: number as u64,
            arguments,
            result: 0,
        }
    }
}

/// What a guest can ask for.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// Nothing; the price of a hypercall. Result 0.
    Null = 0,
    /// The host's `CLOCK_MONOTONIC`. Result: nanoseconds.
    Clock = 1,
    /// `(address, length)`: writes to standard output. Result: bytes written.
    Write = 2,
    /// `(address, length)`: reads from standard input, blocking. Result: bytes read, 0 at its end.
    Read = 3,
    /// `(vector, error code, rip, cr2)`: ring 0 met an exception that it cannot handle and gives up.
    /// Does not return.
    Fault = 4,
    /// `(address, length)`: ring 0 returns pages to the host (a balloon inflates). Contents are lost;
    /// the next touch gets zeros. Result: bytes returned.
    Release = 5,
    /// `(bytes)`: says how many bytes the guest holds back now, and asks how many it should. Result:
    /// bytes; more than it said means inflate ([`Release`](Self::Release)), fewer means deflate
    /// (touch what was released).
    Balloon = 6,
    /// `(address of a [`Ring`])`: the doorbell. Writes every slot that was filled and not served yet
    /// to standard output. Result: slots served.
    Ring = 8,
}

impl Number {
    /// The number's meaning, if it has one.
    pub const fn from_raw(raw: u64) -> Option<Number> {
        Some(match raw {
            0 => Number::Null,
            1 => Number::Clock,
            2 => Number::Write,
            3 => Number::Read,
            4 => Number::Fault,
            5 => Number::Release,
            6 => Number::Balloon,
            8 => Number::Ring,
            _ => return None,
        })
    }
}

/// Slots of a [`Ring`].
pub const RING_SLOTS: usize = 64;

/// A queue in guest memory, shared by both sides: the guest fills slots and rings once for many of
/// them, which is how virtio devices save exits.
///
/// ```text
///  filled ─ counts up, the guest's          served ─ counts up, the VMM's
///  slots    [ n mod 64 ]: where the n-th piece lies; the guest's until filled says otherwise
/// ```
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// How many slots were ever filled; at most 64 more than `served`.
    pub filled: u64,
    /// How many the VMM ever served.
    pub served: u64,
    /// `(address, length)` of each piece, guest-physical and in bytes, at most 64 KiB.
    pub slots: [[u64; 2]; RING_SLOTS],
}

impl Ring {
    /// An empty ring.
    pub const fn new() -> Ring {
        Ring {
            filled: 0,
            served: 0,
            slots: [[0; 2]; RING_SLOTS],
        }
    }
}

impl Default for Ring {
    fn default() -> Ring {
        Ring::new()
    }
}

/// Error numbers that hypercalls return, negated (`man 3 errno`).
pub mod errno {
    /// A signal came before anything was done; ask again.
    pub const EINTR: i64 = 4;
    /// Input or output failed on the host.
    pub const EIO: i64 = 5;
    /// The address range is not in guest memory.
    pub const EFAULT: i64 = 14;
    /// An argument makes no sense.
    pub const EINVAL: i64 = 22;
    /// No such hypercall.
    pub const ENOSYS: i64 = 38;
}

//! How a driver can break the rules. None of it harms the VMM; it costs the driver its device.

use thiserror::Error;

/// What is wrong with a chain of descriptors (virtio 1.2, 2.7.5).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Broken {
    /// Its head, or its indirect table, is nowhere.
    #[error("its first descriptor is outside the table, or its indirect table is malformed")]
    Head,
    /// It does not end where it says that it goes on.
    #[error("it has a loop, leaves its table, is longer than 4 GiB or nests indirect tables")]
    Endless,
    /// It has more descriptors than the queue.
    #[error("it has more descriptors than its queue")]
    Long,
    /// A buffer is not memory.
    #[error("the {bytes} bytes at guest-physical {address:#x} are not all in guest memory")]
    Outside {
        /// Where the buffer begins.
        address: u64,
        /// Its length.
        bytes: u32,
    },
    /// What the device reads must come before what it writes (2.7.4.2).
    #[error("a buffer for the device to read follows one for it to write")]
    Order,
    /// No byte in it.
    #[error("it has no byte")]
    Empty,
}

/// A rule that a driver broke.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    /// A queue of a size that there is not.
    #[error("queue {queue} was given {size} descriptors; a power of two up to {max} can be")]
    Size {
        /// The queue.
        queue: usize,
        /// What the driver wrote.
        size: u32,
        /// What it could.
        max: u16,
    },
    /// A ring in no memory.
    #[error(
        "queue {queue} has its {part} at guest-physical {address:#x}, which is misaligned or not all in guest memory"
    )]
    Ring {
        /// The queue.
        queue: usize,
        /// Which part of it.
        part: &'static str,
        /// Where the driver put it.
        address: u64,
    },
    /// A change of what the device uses.
    #[error("queue {queue} was changed while the device used it")]
    Running {
        /// The queue.
        queue: usize,
    },
    /// The available ring went on by more than it holds.
    #[error("queue {queue} has more requests than descriptors")]
    Wrapped {
        /// The queue.
        queue: usize,
    },
    /// A request that is none.
    #[error("queue {queue}, the request at descriptor {head}: {broken}")]
    Chain {
        /// The queue.
        queue: usize,
        /// The chain's first descriptor.
        head: u16,
        /// What is wrong.
        broken: Broken,
    },
    /// A request that this device cannot read.
    #[error("queue {queue}: {what}")]
    Request {
        /// The queue.
        queue: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Features that nobody offered.
    #[error("the driver wants features {features:#x} that were not offered")]
    Features {
        /// Those.
        features: u64,
    },
    /// A step too many in the dance of 3.1.1.
    #[error("the driver set the status {to:#x} after {from:#x}")]
    Status {
        /// The status before.
        from: u32,
        /// What it wrote.
        to: u32,
    },
    /// The host has no thread for the device.
    #[error("the host has no thread for the device (error number {errno})")]
    Host {
        /// The system call's error.
        errno: i32,
    },
}

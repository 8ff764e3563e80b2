//! A balloon: memory that the host asks back of a running guest, and returns.
//!
//! Only the guest knows which of its pages it can do without, so the host cannot take them: it asks,
//! and the guest answers when it comes by (a hypercall each way, one exit each).
//!
//! ```text
//!   host    ask(8 MiB)                      resident − 8 MiB                ask(0)
//!   guest          Balloon(0) → 8 MiB,  Release(its pages),  Balloon(8 MiB) → 0,  touches them again
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

/// Both sides' wishes, in bytes.
#[derive(Debug, Default)]
pub struct Balloon {
    asked: AtomicU64,
    reported: AtomicU64,
}

impl Balloon {
    /// Asks the guest to hold back so many bytes in all from now on. It may take its time, or refuse.
    pub fn ask(&self, bytes: u64) {
        // Errors of a hypercall are negative: a wish stays below them.
        self.asked
            .store(bytes.min(i64::MAX as u64), Ordering::Relaxed);
    }

    /// How many bytes the guest is asked to hold back.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many bytes the guest last said that it holds back. It may lie: what it really gave back
    /// is in [`GuestMemory::usage`](super::GuestMemory::usage).
    #[must_use]
    pub fn reported(&self) -> u64 {
        self.reported.load(Ordering::Relaxed)
    }

    /// Notes what the guest says, and gives what it is asked.
    pub(crate) fn report(&self, bytes: u64) -> u64 {
        self.reported.store(bytes, Ordering::Relaxed);
        self.asked()
    }
}

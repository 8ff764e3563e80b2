//! The memory that page tables live in, as little of it as a page walk needs.

use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileMemory};

use crate::memory::{Gpa, GuestMemory, PAGE_BYTES};

/// Guest-physical memory, eight aligned bytes at a time.
///
/// The guest chooses the address, so every method answers `None` where there is no memory, where
/// the address is not a multiple of eight, and where it would wrap. Methods take `&self`: the guest
/// itself writes the same memory from other processors at any time, and a lock would not stop it.
pub trait PhysicalMemory {
    /// Reads the word at `at`.
    fn read_u64(&self, at: Gpa) -> Option<u64>;

    /// Writes the word at `at`.
    fn write_u64(&self, at: Gpa, value: u64) -> Option<()>;

    /// Writes `new` at `at` if the word there is still `current`, in one step, as a processor
    /// does when it sets an accessed or dirty bit; says whether it was.
    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool>;
}

impl<T: GuestMemoryBackend> PhysicalMemory for T {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        self.load(GuestAddress(at.0), Ordering::Relaxed).ok()
    }

    fn write_u64(&self, at: Gpa, value: u64) -> Option<()> {
        self.store(value, GuestAddress(at.0), Ordering::Relaxed)
            .ok()
    }

    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool> {
        let word = GuestMemoryBackend::get_slice(self, GuestAddress(at.0), 8).ok()?;
        let done = word
            .get_atomic_ref::<AtomicU64>(0)
            .ok()?
            .compare_exchange(current, new, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if done {
            // The reference above goes round the dirty bitmap; a store of the same type does not.
            vm_memory::bitmap::Bitmap::mark_dirty(word.bitmap(), 0, 8);
        }
        Some(done)
    }
}

/// A machine's memory, through the mapping behind it.
impl PhysicalMemory for GuestMemory {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        self.inner().read_u64(at)
    }

    fn write_u64(&self, at: Gpa, value: u64) -> Option<()> {
        self.inner().write_u64(at, value)
    }

    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool> {
        self.inner().compare_exchange_u64(at, current, new)
    }
}

/// Memory in a vector, for tests, labs and shadow tables: one region that starts at `base`.
///
/// ```
/// use ringside_vmm::memory::Gpa;
/// use ringside_vmm::paging::{PhysicalMemory, VecMemory};
///
/// let memory = VecMemory::new(Gpa(0x1000), 2);
/// assert_eq!(memory.write_u64(Gpa(0x2ff8), 7), Some(()));
/// assert_eq!(memory.read_u64(Gpa(0x2ff8)), Some(7));
/// assert_eq!(memory.read_u64(Gpa(0x3000)), None); // past the end
/// assert_eq!(memory.read_u64(Gpa(0x1004)), None); // not a multiple of eight
/// ```
#[derive(Debug)]
pub struct VecMemory {
    base: Gpa,
    words: Vec<AtomicU64>,
}

impl VecMemory {
    /// `pages` zeroed pages of 4 KiB from `base`, which is rounded down to a page.
    #[must_use]
    pub fn new(base: Gpa, pages: usize) -> Self {
        let words = pages * (PAGE_BYTES as usize / 8);
        Self {
            base: base.page(),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The first address.
    #[must_use]
    pub fn base(&self) -> Gpa {
        self.base
    }

    /// How many bytes there are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    fn word(&self, at: Gpa) -> Option<&AtomicU64> {
        let offset = at.checked_sub(self.base)?;
        if offset % 8 != 0 {
            return None;
        }
        self.words.get(usize::try_from(offset / 8).ok()?)
    }
}

impl Clone for VecMemory {
    fn clone(&self) -> Self {
        let copy = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Relaxed));
        Self {
            base: self.base,
            words: self.words.iter().map(copy).collect(),
        }
    }
}

impl PhysicalMemory for VecMemory {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        Some(self.word(at)?.load(Ordering::Relaxed))
    }

    fn write_u64(&self, at: Gpa, value: u64) -> Option<()> {
        self.word(at)?.store(value, Ordering::Relaxed);
        Some(())
    }

    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool> {
        let word = self.word(at)?;
        let exchanged = word.compare_exchange(current, new, Ordering::Relaxed, Ordering::Relaxed);
        Some(exchanged.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestMemoryMmap;

    fn both(check: impl Fn(&dyn PhysicalMemory)) {
        check(&VecMemory::new(Gpa(0x1000), 1));
        let mmap =
            GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0x1000), 0x1000)]).expect("mmap");
        check(&mmap);
    }

    #[test]
    fn reads_what_was_written() {
        both(|memory| {
            assert_eq!(memory.read_u64(Gpa(0x1ff8)), Some(0));
            assert_eq!(memory.write_u64(Gpa(0x1ff8), u64::MAX), Some(()));
            assert_eq!(memory.read_u64(Gpa(0x1ff8)), Some(u64::MAX));
        });
    }

    #[test]
    fn addresses_outside_misaligned_and_wrapping_have_no_word() {
        both(|memory| {
            for at in [0, 0xff8, 0x2000, 0x1001, 0x1ffc, u64::MAX, u64::MAX - 7] {
                assert_eq!(memory.read_u64(Gpa(at)), None, "{at:#x}");
                assert_eq!(memory.write_u64(Gpa(at), 1), None, "{at:#x}");
                assert_eq!(memory.compare_exchange_u64(Gpa(at), 0, 1), None, "{at:#x}");
            }
        });
    }

    #[test]
    fn exchange_only_over_the_expected_value() {
        both(|memory| {
            assert_eq!(memory.compare_exchange_u64(Gpa(0x1000), 0, 5), Some(true));
            assert_eq!(memory.compare_exchange_u64(Gpa(0x1000), 0, 6), Some(false));
            assert_eq!(memory.read_u64(Gpa(0x1000)), Some(5));
        });
    }
}

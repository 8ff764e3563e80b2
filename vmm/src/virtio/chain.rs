//! A request: the buffers that a chain of descriptors names, all of them checked.
//!
//! ```text
//!   available ring    descriptor table                      guest memory
//!   [ … 3 … ] ──────▶ 3: 0x1000, 16, next 5            ───▶ header   ┐ the device
//!                     5: 0x7000, 4096, next 1          ───▶ data     ┘ reads these
//!                     1: 0x1010, 1, the device writes  ───▶ status     and writes that
//! ```

use super::Broken;
use crate::memory::GuestMemory;
use std::collections::VecDeque;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

/// Buffers in guest memory, taken from front to back.
#[derive(Clone, Debug, Default)]
pub struct Buffers<'m> {
    slices: VecDeque<VolatileSlice<'m>>,
    bytes: usize,
}

impl<'m> Buffers<'m> {
    /// How many bytes are left.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where they are.
    pub fn slices(&mut self) -> &[VolatileSlice<'m>] {
        self.slices.make_contiguous()
    }

    fn push(&mut self, slice: VolatileSlice<'m>) {
        self.bytes += slice.len();
        self.slices.push_back(slice);
    }

    /// Takes the first `bytes` off; `None` if there are not as many.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> Option<Buffers<'m>> {
        if bytes > self.bytes {
            return None;
        }
        let mut taken = Buffers::default();
        while taken.bytes < bytes {
            let slice = self.slices.pop_front()?;
            let (first, rest) = slice.split_at(slice.len().min(bytes - taken.bytes)).ok()?;
            self.bytes -= first.len();
            taken.push(first);
            if !rest.is_empty() {
                self.slices.push_front(rest);
            }
        }
        Some(taken)
    }

    /// Copies as much as there is and as fits; how much that is.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.bytes);
        let taken = self.take(count).unwrap_or_default();
        let mut at = 0;
        for slice in &taken.slices {
            at += slice.copy_to(&mut into[at..]);
        }
        at
    }

    /// Copies a value of `N` bytes; `None` if there are not as many.
    #[must_use]
    pub fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut value = [0; N];
        (self.bytes >= N).then(|| self.read(&mut value))?;
        Some(value)
    }

    /// Copies as much as fits; how much that is.
    pub fn write(&mut self, from: &[u8]) -> usize {
        let count = from.len().min(self.bytes);
        let taken = self.take(count).unwrap_or_default();
        let mut at = 0;
        for slice in &taken.slices {
            slice.copy_from(&from[at..]);
            at += slice.len();
        }
        at
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Chain<'m> {
    /// Its first descriptor, by which the driver knows it.
    pub head: u16,
    /// What the device reads.
    pub readable: Buffers<'m>,
    /// What it writes.
    pub writable: Buffers<'m>,
}

impl<'m> Chain<'m> {
    /// Follows a chain of a queue of `size` descriptors.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(
        memory: &'m GuestMemory,
        mut descriptors: DescriptorChain<&GuestMemoryMmap<()>>,
        size: u16,
    ) -> Result<Chain<'m>, Broken> {
        let mut chain = Chain {
            head: descriptors.head_index(),
            readable: Buffers::default(),
            writable: Buffers::default(),
        };
        let (mut count, mut goes_on, mut writes) = (0, true, false);
        for descriptor in descriptors.by_ref() {
            count += 1;
            if count > size {
                return Err(Broken::Long);
            }
            goes_on = descriptor.has_next();
            let (address, bytes) = (descriptor.addr(), descriptor.len());
            let buffers = match descriptor.is_write_only() {
                true => &mut chain.writable,
                false if writes => return Err(Broken::Order),
                false => &mut chain.readable,
            };
            writes = descriptor.is_write_only();
            for slice in memory.inner().get_slices(address, bytes as usize) {
                buffers.push(slice.map_err(|_| Broken::Outside {
                    address: address.0,
                    bytes,
                })?);
            }
        }
        match (count, goes_on) {
            (0, _) => Err(Broken::Head),
            // The iterator stops at what it cannot follow.
            (_, true) => Err(Broken::Endless),
            _ if chain.readable.bytes + chain.writable.bytes == 0 => Err(Broken::Empty),
            _ => Ok(chain),
        }
    }
}

//! A disk (virtio 1.2, 5.2).
//!
//! ```text
//!   request   │ type, sector │ data … │ status │
//!              the device reads        it writes: data too, if it is a read
//! ```
//!
//! What went wrong on the host is told in the status: the guest's file system decides what becomes
//! of it; and at the host, where it can be mended ([`DiskFailure`]). A flush is answered when the host has written everything ([`Medium::flush`]), and a driver
//! that does not know flushes gets one after each write.

mod copy_on_write;
mod failure;
mod medium;
mod raw;

#[cfg(test)]
mod tests;

use super::{Buffers, Chain, Context, Event, Kind, Violation, VirtioDevice};
pub use copy_on_write::CopyOnWrite;
use failure::Failures;
pub use failure::{DiskFailure, DiskOperation};
pub use medium::{DiskError, Medium};
pub use raw::Raw;
use std::io;
use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

/// What addresses count (5.2.4).
pub const SECTOR_BYTES: u64 = 512;

const QUEUE: usize = 0;
const QUEUE_LENGTH: u16 = 256;
/// Beside data, a request has a descriptor for its header and one for its status.
const SEGMENTS_MAX: u32 = QUEUE_LENGTH as u32 - 2;
/// The most sectors that one request discards or zeroes: where the host cannot punch a hole it
/// writes zeros, and other requests wait for that.
const ZEROED_MAX: u32 = 1 << 16;
/// Guests do best to write whole pages: 2^3 sectors.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

/// The device.
pub struct Block {
    medium: Box<dyn Medium>,
    id: [u8; VIRTIO_BLK_ID_BYTES as usize],
    failures: Failures,
}

/// How a request fails.
enum Failure {
    /// The place or the range asked for.
    Io,
    /// The medium.
    Host(DiskOperation, u64, io::Error),
    /// A kind of request that there is not.
    Unsupported,
}

impl Block {
    /// A disk of which the guest learns that it is called `name`, as far as 20 bytes go.
    pub fn new(medium: impl Medium + 'static, name: &str) -> Block {
        let mut id = [0; VIRTIO_BLK_ID_BYTES as usize];
        let length = name.len().min(id.len());
        id[..length].copy_from_slice(&name.as_bytes()[..length]);
        Block {
            medium: Box::new(medium),
            id,
            failures: Failures::default(),
        }
    }

    /// Has `tell` hear of what the host could not do, once for each operation and error.
    #[must_use]
    pub fn telling(mut self, tell: impl Fn(&DiskFailure) + Send + 'static) -> Block {
        self.failures = Failures::told_to(tell);
        self
    }

    /// Serves a request; how many bytes were written to it.
    fn request(&mut self, mut chain: Chain<'_>, write_through: bool) -> Result<usize, Violation> {
        let wrong = |what| Violation::Request { queue: QUEUE, what };
        let header = chain.readable.read_array::<16>();
        let header = header.ok_or(wrong("a request to the disk without a header"))?;
        let data_bytes = chain.writable.bytes().checked_sub(1);
        let data_bytes =
            data_bytes.ok_or(wrong("a request to the disk with no room for a status"))?;
        let into = chain.writable.take(data_bytes).unwrap_or_default();
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let kind = u32::from_le_bytes([a, b, c, d]);
        let sector = u64::from_le_bytes(sector);
        let done = self.perform(kind, sector, chain.readable, into, write_through);
        let (status, written) = match done {
            Ok(written) => (VIRTIO_BLK_S_OK, written + 1),
            // Of data, nothing can be relied on, and the status lies behind it.
            Err(failure) => {
                let status = match failure {
                    Failure::Io => VIRTIO_BLK_S_IOERR,
                    Failure::Host(operation, sector, error) => {
                        self.failures.add(&*self.medium, operation, sector, error);
                        VIRTIO_BLK_S_IOERR
                    }
                    Failure::Unsupported => VIRTIO_BLK_S_UNSUPP,
                };
                (status, usize::from(data_bytes == 0))
            }
        };
        chain.writable.write(&[status as u8]);
        Ok(written)
    }

    /// Does what is asked; how many bytes of `into` were written.
    fn perform(
        &mut self,
        kind: u32,
        sector: u64,
        mut from: Buffers<'_>,
        mut into: Buffers<'_>,
        write_through: bool,
    ) -> Result<usize, Failure> {
        let changes = [
            VIRTIO_BLK_T_OUT,
            VIRTIO_BLK_T_DISCARD,
            VIRTIO_BLK_T_WRITE_ZEROES,
        ];
        if changes.contains(&kind) && self.medium.read_only() {
            return Err(Failure::Io);
        }
        let written = match kind {
            VIRTIO_BLK_T_IN => {
                let bytes = into.bytes();
                let offset = self.place(sector, bytes as u64)?;
                let done = self.medium.read(&mut into, offset);
                done.map_err(|error| Failure::Host(DiskOperation::Read, sector, error))?;
                bytes
            }
            VIRTIO_BLK_T_OUT => {
                let offset = self.place(sector, from.bytes() as u64)?;
                let done = self.medium.write(&mut from, offset);
                done.map_err(|error| Failure::Host(DiskOperation::Write, sector, error))?;
                0
            }
            VIRTIO_BLK_T_FLUSH => {
                self.flush(sector)?;
                0
            }
            VIRTIO_BLK_T_GET_ID => into.write(&self.id),
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
                self.zero(kind, &mut from)?;
                0
            }
            _ => return Err(Failure::Unsupported),
        };
        if write_through && changes.contains(&kind) {
            self.flush(sector)?;
        }
        Ok(written)
    }

    fn flush(&mut self, sector: u64) -> Result<(), Failure> {
        let done = self.medium.flush();
        done.map_err(|error| Failure::Host(DiskOperation::Flush, sector, error))
    }

    /// The range that a discard or a write of zeros names (5.2.6): one, as the configuration says.
    fn zero(&mut self, kind: u32, from: &mut Buffers<'_>) -> Result<(), Failure> {
        let range = from.read_array::<16>().filter(|_| from.bytes() == 0);
        let range = range.ok_or(Failure::Io)?;
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&range[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let sector = u64::from(word(0)) | u64::from(word(4)) << 32;
        let (sectors, flags) = (word(8), word(12));
        let known = match kind {
            VIRTIO_BLK_T_DISCARD => 0,
            _ => VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
        };
        if flags & !known != 0 {
            return Err(Failure::Unsupported);
        }
        if sectors > ZEROED_MAX {
            return Err(Failure::Io);
        }
        let bytes = u64::from(sectors) * SECTOR_BYTES;
        let offset = self.place(sector, bytes)?;
        let done = self.medium.zero(offset, bytes);
        done.map_err(|error| Failure::Host(DiskOperation::Zero, sector, error))
    }

    /// Where a range of the disk begins, in bytes, if it is one.
    fn place(&self, sector: u64, bytes: u64) -> Result<u64, Failure> {
        let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Failure::Io)?;
        let end = offset.checked_add(bytes).ok_or(Failure::Io)?;
        match bytes.is_multiple_of(SECTOR_BYTES) && end <= self.medium.bytes() {
            true => Ok(offset),
            false => Err(Failure::Io),
        }
    }
}

impl VirtioDevice for Block {
    fn kind(&self) -> Kind {
        Kind {
            id: VIRTIO_ID_BLOCK,
            name: "block",
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_LENGTH]
    }

    fn features(&self) -> u64 {
        let always = [
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_FLUSH,
            VIRTIO_BLK_F_TOPOLOGY,
        ];
        let own: &[u32] = match self.medium.read_only() {
            true => &[VIRTIO_BLK_F_RO],
            false => &[VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES],
        };
        let bits = always.iter().chain(own).map(|bit| 1 << bit);
        bits.fold(0, |all, bit: u64| all | bit)
    }

    /// `struct virtio_blk_config` (5.2.4).
    fn config(&self) -> Vec<u8> {
        let mut config = Vec::with_capacity(60);
        config.extend((self.medium.bytes() / SECTOR_BYTES).to_le_bytes());
        config.extend(0u32.to_le_bytes()); // size_max: not offered
        config.extend(SEGMENTS_MAX.to_le_bytes());
        config.extend([0; 4]); // geometry: not offered
        config.extend((SECTOR_BYTES as u32).to_le_bytes());
        config.extend([PHYSICAL_BLOCK_EXPONENT, 0]); // and no offset to it
        config.extend((1u16 << PHYSICAL_BLOCK_EXPONENT).to_le_bytes()); // best writes, in sectors
        config.extend([0; 4]); // the best of all: none
        config.extend([1, 0, 0, 0]); // write-back, and one queue
        config.extend(ZEROED_MAX.to_le_bytes()); // discard: sectors, ranges, alignment
        config.extend(1u32.to_le_bytes());
        config.extend((1u32 << PHYSICAL_BLOCK_EXPONENT).to_le_bytes());
        config.extend(ZEROED_MAX.to_le_bytes()); // zeros: sectors, ranges, may be holes
        config.extend(1u32.to_le_bytes());
        config.extend([1, 0, 0, 0]);
        config
    }

    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation> {
        let write_through = !context.has(VIRTIO_BLK_F_FLUSH);
        match event {
            Event::Queue(QUEUE) => {
                context.drain(QUEUE, |chain| self.request(chain, write_through).map(Some))
            }
            _ => Ok(()),
        }
    }
}

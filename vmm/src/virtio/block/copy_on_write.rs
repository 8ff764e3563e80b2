//! A disk over a base that never changes: many machines share the base, and each has an upper file
//! that holds only what it wrote, as a container's upper layer does for files.
//!
//! ```text
//!   upper file  │ header │ bitmap │ clusters, each at its place; holes where nothing was written │
//!   base file            ▲        │ │ │ │ │ │ │ │ …
//!                        └ one bit for each cluster of 4 KiB: whether it is in the upper file
//! ```
//!
//! *In what order things last* is all that there is to get right. The bitmap is written at a flush,
//! after the clusters that it speaks of: were a bit to last before its cluster, a crash would leave
//! a cluster of zeros where the base's data was. What was written after the last flush may be lost,
//! as on any disk.

use super::medium::{self, DiskError, Medium};
use super::raw;
use crate::sys::file::Hold;
use crate::sys::vectored;
use crate::virtio::Buffers;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is copied at once: a page, so that a guest's page cache never writes a part of one.
const CLUSTER: u64 = 4096;
const HEADER_BYTES: u64 = 4096;
const MAGIC: [u8; 8] = *b"ringcow\x01";

/// A base and an upper file.
#[derive(Debug)]
pub struct CopyOnWrite {
    name: String,
    base: File,
    upper: File,
    bytes: u64,
    bitmap: Vec<u8>,
    /// Pieces of the bitmap, of [`CLUSTER`] bytes, that differ from the file's.
    changed: BTreeSet<usize>,
    /// A flush failed: what it was about may be lost.
    lost: bool,
}

impl CopyOnWrite {
    /// A disk over `base`, which stays as it is; what is written goes to `upper`, which is made if
    /// there is none. No other machine may write to the base or use the upper file.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(base: &Path, upper: &Path) -> Result<CopyOnWrite, DiskError> {
        let read = OpenOptions::new().read(true).clone();
        let base_file = medium::open(base, &read, Hold::Shared)?;
        let bytes = medium::sectors_bytes(base, &base_file)?;
        let write = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .clone();
        let upper_file = medium::open(upper, &write, Hold::Exclusive)?;
        let failed = |source| DiskError::File {
            path: upper.to_owned(),
            source,
        };
        let mut disk = CopyOnWrite {
            name: format!("{} over {}", upper.display(), base.display()),
            base: base_file,
            upper: upper_file,
            bytes,
            bitmap: vec![0; bytes.div_ceil(CLUSTER).div_ceil(8) as usize],
            changed: BTreeSet::new(),
            lost: false,
        };
        match medium::length(&disk.upper).map_err(failed)? {
            0 => disk.format().map_err(failed)?,
            length => {
                let was = disk.load(length).map_err(failed)?;
                let was = was.ok_or_else(|| DiskError::NoUpper {
                    path: upper.to_owned(),
                })?;
                if was != bytes {
                    let (path, is) = (upper.to_owned(), bytes);
                    return Err(DiskError::OtherBase { path, was, is });
                }
            }
        }
        Ok(disk)
    }

    /// Where the clusters begin in the upper file.
    fn data(&self) -> u64 {
        HEADER_BYTES + (self.bitmap.len() as u64).next_multiple_of(CLUSTER)
    }

    fn upper_bytes(&self) -> u64 {
        self.data() + self.bytes.next_multiple_of(CLUSTER)
    }

    fn format(&self) -> io::Result<()> {
        self.upper.set_len(self.upper_bytes())?;
        let header = [MAGIC, self.bytes.to_le_bytes()].concat();
        self.upper.write_all_at(&header, 0)?;
        self.upper.sync_all()
    }

    /// Reads the header, and the bitmap if it is of this base; the length of the base that the
    /// upper file was made for.
    fn load(&mut self, length: u64) -> io::Result<Option<u64>> {
        if length < HEADER_BYTES {
            return Ok(None);
        }
        let (mut magic, mut was) = ([0; 8], [0; 8]);
        self.upper.read_exact_at(&mut magic, 0)?;
        self.upper.read_exact_at(&mut was, 8)?;
        let was = u64::from_le_bytes(was);
        if magic != MAGIC || was == self.bytes && length < self.upper_bytes() {
            return Ok(None);
        }
        if was == self.bytes {
            self.upper.read_exact_at(&mut self.bitmap, HEADER_BYTES)?;
        }
        Ok(Some(was))
    }

    fn has(&self, cluster: u64) -> bool {
        self.bitmap[(cluster / 8) as usize] & 1 << (cluster % 8) != 0
    }

    fn insert(&mut self, clusters: Range<u64>) {
        for cluster in clusters {
            let byte = (cluster / 8) as usize;
            if self.bitmap[byte] & 1 << (cluster % 8) == 0 {
                self.bitmap[byte] |= 1 << (cluster % 8);
                self.changed.insert(byte / CLUSTER as usize);
            }
        }
    }

    /// Before part of a cluster is written: the rest of it comes from the base.
    fn copy_up(&self, cluster: u64) -> io::Result<()> {
        if self.has(cluster) {
            return Ok(());
        }
        let offset = cluster * CLUSTER;
        let mut bytes = [0; CLUSTER as usize];
        // The last cluster may be longer than the disk.
        let there = (self.bytes - offset).min(CLUSTER) as usize;
        self.base.read_exact_at(&mut bytes[..there], offset)?;
        self.upper.write_all_at(&bytes, self.data() + offset)
    }

    /// The same for the first and the last cluster of a range, where it does not cover them.
    fn copy_edges_up(&self, offset: u64, bytes: u64) -> io::Result<Range<u64>> {
        let end = offset + bytes;
        let clusters = offset / CLUSTER..end.div_ceil(CLUSTER);
        if !offset.is_multiple_of(CLUSTER) {
            self.copy_up(clusters.start)?;
        }
        // What lies behind the disk's end is nobody's.
        if !end.is_multiple_of(CLUSTER) && end != self.bytes {
            self.copy_up(clusters.end - 1)?;
        }
        Ok(clusters)
    }

    /// Fails if the upper file lost bytes.
    fn check(&self) -> io::Result<()> {
        match medium::length(&self.upper)? < self.upper_bytes() {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        }
    }

    fn write_bitmap(&mut self) -> io::Result<()> {
        let piece = CLUSTER as usize;
        for &index in &self.changed {
            let end = self.bitmap.len().min((index + 1) * piece);
            let bytes = &self.bitmap[index * piece..end];
            let at = HEADER_BYTES + (index * piece) as u64;
            self.upper.write_all_at(bytes, at)?;
        }
        self.changed.clear();
        Ok(())
    }
}

impl Medium for CopyOnWrite {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read(&mut self, into: &mut Buffers<'_>, mut offset: u64) -> io::Result<()> {
        while into.bytes() > 0 {
            // As far as the clusters are all in the same file.
            let end = offset + into.bytes() as u64;
            let first = offset / CLUSTER;
            let mut clusters = first + 1..end.div_ceil(CLUSTER);
            let change = clusters.find(|&cluster| self.has(cluster) != self.has(first));
            let until = change.map_or(end, |cluster| cluster * CLUSTER);
            let part = into.take((until - offset) as usize);
            let mut part = part.ok_or(io::ErrorKind::UnexpectedEof)?;
            let (file, start) = match self.has(first) {
                true => (&self.upper, self.data()),
                false => (&self.base, 0),
            };
            medium::transfer(file, &mut part, start + offset, vectored::read_at)?;
            offset = until;
        }
        Ok(())
    }

    fn write(&mut self, from: &mut Buffers<'_>, offset: u64) -> io::Result<()> {
        if from.bytes() == 0 {
            return Ok(());
        }
        self.check()?;
        let clusters = self.copy_edges_up(offset, from.bytes() as u64)?;
        let at = self.data() + offset;
        medium::transfer(&self.upper, from, at, vectored::write_at)?;
        self.insert(clusters);
        Ok(())
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.check()?;
        let clusters = self.copy_edges_up(offset, bytes)?;
        raw::zero(&self.upper, self.data() + offset, bytes)?;
        self.insert(clusters);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut lost = self.lost;
        let result = raw::flush(&mut lost, || {
            self.upper.sync_data()?;
            if self.changed.is_empty() {
                return Ok(());
            }
            self.write_bitmap()?;
            self.upper.sync_data()
        });
        self.lost = lost;
        result.and_then(|()| self.check())
    }
}

impl Drop for CopyOnWrite {
    fn drop(&mut self) {
        // A machine that ended in order without a last flush: its guest is owed nothing, and gets
        // what it wrote all the same, if the host can.
        if !self.lost {
            let _ = self.upper.sync_data().and_then(|()| self.write_bitmap());
        }
    }
}

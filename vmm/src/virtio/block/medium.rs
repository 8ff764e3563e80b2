//! What a disk's bytes are on.

use crate::sys::file::{Hold, hold};
use crate::virtio::Buffers;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use thiserror::Error;
use vm_memory::VolatileSlice;

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; name a file that is there, or make one: truncate -s 64M FILE",
        io::ErrorKind::PermissionDenied => "; a disk that is only read is FILE:ro",
        _ => "",
    }
}

/// What keeps a file from being a disk.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The file.
    #[error("cannot use {} as a disk: {source}{}", path.display(), remedy(source))]
    File {
        /// Its path.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// Another machine writes to it, or uses it while this one wants to write.
    #[error("{} is in use by another machine; stop that, or give this one a file of its own (a copy-on-write upper costs nothing)", path.display())]
    Busy {
        /// Its path.
        path: PathBuf,
    },
    /// Not one sector in it.
    #[error("{} holds {bytes} bytes, and a disk has at least 512; make it larger (`truncate -s 1G`)", path.display())]
    Small {
        /// Its path.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// An upper file that is none.
    #[error("{} is no copy-on-write upper file; name one that does not exist, and it will be made", path.display())]
    NoUpper {
        /// Its path.
        path: PathBuf,
    },
    /// An upper file of another base.
    #[error("{} was made over a base of {was} bytes, and this one has {is}; use the base that it was made for", path.display())]
    OtherBase {
        /// The upper's path.
        path: PathBuf,
        /// The base's length when it was made.
        was: u64,
        /// The base's length.
        is: u64,
    },
}

/// What a disk's bytes are on. Offsets and lengths are whole sectors within [`bytes`](Self::bytes).
pub trait Medium: Send + Debug {
    /// What the host calls it: its file or files.
    fn name(&self) -> String;

    /// How many bytes there are.
    fn bytes(&self) -> u64;

    /// Whether nothing can be changed.
    fn read_only(&self) -> bool;

    /// Reads from `offset` on until the buffers are full.
    ///
    /// # Errors
    /// The host's; `UnexpectedEof` when it lost bytes.
    fn read(&mut self, into: &mut Buffers<'_>, offset: u64) -> io::Result<()>;

    /// Writes all of the buffers.
    ///
    /// # Errors
    /// The host's.
    fn write(&mut self, from: &mut Buffers<'_>, offset: u64) -> io::Result<()>;

    /// Makes a range zeros, and gives its room back where that can be.
    ///
    /// # Errors
    /// The host's.
    fn zero(&mut self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Returns when everything written before would survive the host's sudden end.
    ///
    /// # Errors
    /// The host's. Once it failed it fails for ever: the host may have dropped what it could not
    /// write, and would say the next time that all is well (`man 2 fsync`).
    fn flush(&mut self) -> io::Result<()>;
}

impl<M: Medium + ?Sized> Medium for Box<M> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn bytes(&self) -> u64 {
        (**self).bytes()
    }

    fn read_only(&self) -> bool {
        (**self).read_only()
    }

    fn read(&mut self, into: &mut Buffers<'_>, offset: u64) -> io::Result<()> {
        (**self).read(into, offset)
    }

    fn write(&mut self, from: &mut Buffers<'_>, offset: u64) -> io::Result<()> {
        (**self).write(from, offset)
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        (**self).zero(offset, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }
}

/// Opens a file, and holds it against other machines.
pub(super) fn open(path: &Path, options: &OpenOptions, how: Hold) -> Result<File, DiskError> {
    let failed = |source| DiskError::File {
        path: path.to_owned(),
        source,
    };
    let file = options.open(path).map_err(failed)?;
    match hold(&file, how) {
        Ok(()) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(DiskError::Busy {
            path: path.to_owned(),
        }),
        Err(error) => Err(failed(error)),
    }
}

/// The length of a file or a block device.
pub(super) fn length(mut file: &File) -> io::Result<u64> {
    // Nothing uses the file's position.
    file.seek(SeekFrom::End(0))
}

/// A file's length in whole sectors, which is at least one.
pub(super) fn sectors_bytes(path: &Path, file: &File) -> Result<u64, DiskError> {
    let bytes = length(file).map_err(|source| DiskError::File {
        path: path.to_owned(),
        source,
    })?;
    match bytes / super::SECTOR_BYTES * super::SECTOR_BYTES {
        0 => Err(DiskError::Small {
            path: path.to_owned(),
            bytes,
        }),
        whole => Ok(whole),
    }
}

/// Moves all of the buffers by one call or several.
pub(super) fn transfer(
    file: &File,
    buffers: &mut Buffers<'_>,
    mut offset: u64,
    call: impl Fn(BorrowedFd<'_>, &[VolatileSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    while buffers.bytes() > 0 {
        let count = call(file.as_fd(), buffers.slices(), offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let _ = buffers.take(count);
        offset += count as u64;
    }
    Ok(())
}

//! A disk whose bytes are a file's, or a block device's.

use super::medium::{self, DiskError, Medium};
use crate::sys::file::Hold;
use crate::sys::memfd;
use crate::sys::vectored;
use crate::virtio::Buffers;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A raw file.
#[derive(Debug)]
pub struct Raw {
    path: PathBuf,
    file: File,
    bytes: u64,
    read_only: bool,
    /// A flush failed: what it was about may be lost.
    lost: bool,
}

impl Raw {
    /// A file, which no other machine may write to; if this one is to write, none may use it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(path: &Path, read_only: bool) -> Result<Raw, DiskError> {
        let how = match read_only {
            true => Hold::Shared,
            false => Hold::Exclusive,
        };
        let options = OpenOptions::new().read(true).write(!read_only).clone();
        let file = medium::open(path, &options, how)?;
        Ok(Raw {
            path: path.to_owned(),
            bytes: medium::sectors_bytes(path, &file)?,
            file,
            read_only,
            lost: false,
        })
    }

    /// Fails if the file lost bytes: a write would make it long again, with zeros where data was.
    fn check(&self) -> io::Result<()> {
        match medium::length(&self.file)? < self.bytes {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        }
    }
}

impl Medium for Raw {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&mut self, into: &mut Buffers<'_>, offset: u64) -> io::Result<()> {
        medium::transfer(&self.file, into, offset, vectored::read_at)
    }

    fn write(&mut self, from: &mut Buffers<'_>, offset: u64) -> io::Result<()> {
        self.check()?;
        medium::transfer(&self.file, from, offset, vectored::write_at)
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        self.check()?;
        zero(&self.file, offset, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        flush(&mut self.lost, || self.file.sync_data())?;
        self.check()
    }
}

/// Zeros in a file: a hole, where its file system knows holes.
pub(super) fn zero(file: &File, mut offset: u64, mut bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match memfd::punch_hole(file, offset, bytes) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        result => return result,
    }
    let zeros = [0; 16 << 10];
    while bytes > 0 {
        let count = bytes.min(zeros.len() as u64);
        file.write_all_at(&zeros[..count as usize], offset)?;
        (offset, bytes) = (offset + count, bytes - count);
    }
    Ok(())
}

/// Runs a flush, unless one failed before: then the host may have dropped what it could not write.
pub(super) fn flush(lost: &mut bool, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if *lost {
        return Err(io::Error::from_raw_os_error(libc::EIO));
    }
    let result = run();
    *lost = result.is_err();
    result
}

//! Decompressed kernels, kept: a `vmlinuz` is decompressed once and then mapped, by every guest.
//!
//! A kept kernel's name is the SHA-256 of the payload that it came from, so that a `vmlinuz` that
//! changes finds another one, and its file never changes: it appears under its name when it is whole.
//!
//! A folder that cannot be used is no error: the kernel goes into a memory file then, and each start
//! decompresses it anew.

use super::payload::PayloadError;
use crate::sys::memfd;
use sha2::{Digest, Sha256};
use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use thiserror::Error;

/// How many kernels are kept: those last used.
const KEPT: usize = 8;

/// Why a kernel cannot be decompressed.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The bzImage.
    #[error("cannot read it: {0}")]
    Read(io::Error),
    /// No room for what comes out.
    #[error(
        "cannot write the decompressed kernel: {0}; make room in memory, or in the cache's folder (XDG_CACHE_HOME)"
    )]
    Write(io::Error),
    /// What is in it.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// A folder of decompressed kernels.
#[derive(Clone, Debug)]
pub struct KernelCache {
    folder: Option<PathBuf>,
}

impl KernelCache {
    /// In this folder, which is made when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> KernelCache {
        KernelCache {
            folder: Some(folder.into()),
        }
    }

    /// None: nothing is kept.
    pub fn off() -> KernelCache {
        KernelCache { folder: None }
    }

    /// The user's: `${XDG_CACHE_HOME:-~/.cache}/ringside/kernels/vmlinux`; none without a home.
    pub fn of_user() -> KernelCache {
        let absolute = |name| {
            let path = env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        KernelCache {
            folder: cache.map(|cache| cache.join("ringside/kernels/vmlinux")),
        }
    }

    /// The kernel that a payload decompresses to: kept from an earlier call, or made now by
    /// `decompress`, which gets a place for what comes out.
    pub(super) fn get(
        &self,
        payload: Part<'_>,
        decompress: impl FnOnce(&mut Sparse<'_>) -> Result<(), UnpackError>,
    ) -> Result<File, UnpackError> {
        let path = match &self.folder {
            Some(folder) => Some(folder.join(digest(payload).map_err(UnpackError::Read)?)),
            None => None,
        };
        if let Some(path) = &path
            && let Ok(kept) = File::open(path)
        {
            // So that the last used can be told; a folder that is not ours may forbid it.
            let _: io::Result<()> = kept.set_modified(SystemTime::now());
            return Ok(kept);
        }
        let unpack = |into: &File| {
            let mut sparse = Sparse { file: into, at: 0 };
            decompress(&mut sparse)?;
            into.set_len(sparse.at).map_err(UnpackError::Write)
        };
        if let Some(path) = &path
            && let Some(new) = Unfinished::create(path)
        {
            unpack(&new.file)?;
            self.forget_all_but(KEPT - 1);
            return new.finish(path).map_err(UnpackError::Write);
        }
        let memory = memfd::create(c"ringside-kernel", 0).map_err(UnpackError::Write)?;
        unpack(&memory)?;
        Ok(memory)
    }

    /// Removes kept kernels, those used longest ago first.
    fn forget_all_but(&self, rest: usize) {
        let entries = self
            .folder
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        let dated =
            |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
        // Those that are being made have names that begin with a dot.
        let hidden = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
        let entries = entries.flatten().flatten().filter(|entry| !hidden(entry));
        let mut kernels: Vec<_> = entries.filter_map(dated).collect();
        kernels.sort_unstable();
        for (_, path) in kernels.iter().rev().skip(rest) {
            // Somebody else may have been first.
            let _: io::Result<()> = fs::remove_file(path);
        }
    }
}

/// A part of a file, read piece by piece: what is read is never all in memory.
#[derive(Clone, Copy)]
pub(super) struct Part<'f> {
    /// The file.
    pub file: &'f File,
    /// Where what is left of the part begins.
    pub offset: u64,
    /// How much is left.
    pub bytes: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let len = into.len().min(most);
        let count = self.file.read_at(&mut into[..len], self.offset)?;
        self.offset += count as u64;
        self.bytes -= count as u64;
        Ok(count)
    }
}

/// The SHA-256 of a part of a file, in hexadecimal.
fn digest(mut part: Part<'_>) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; 128 << 10];
    while part.bytes > 0 {
        match part.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => digest.update(&piece[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let hexadecimal = |byte: &u8| format!("{byte:02x}");
    Ok(digest.finalize().iter().map(hexadecimal).collect())
}

/// A file that is not whole yet, and is removed unless it becomes so.
struct Unfinished {
    file: File,
    path: PathBuf,
}

impl Unfinished {
    /// Beside `path`; `None` where there is no making files.
    fn create(path: &Path) -> Option<Unfinished> {
        let folder = path.parent()?;
        fs::create_dir_all(folder).ok()?;
        (0..100).find_map(|attempt| {
            let path = folder.join(format!(".{}.{attempt}", std::process::id()));
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o444)
                .open(&path)
                .ok()?;
            Some(Unfinished { file, path })
        })
    }

    /// Gives it its name, for reading.
    fn finish(self, path: &Path) -> io::Result<File> {
        fs::rename(&self.path, path)?;
        File::open(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After `finish` there is none.
        let _: io::Result<()> = fs::remove_file(&self.path);
    }
}

/// A file written from its beginning on, whose zeros take no room and no time.
pub(super) struct Sparse<'f> {
    file: &'f File,
    at: u64,
}

impl Sparse<'_> {
    /// How much was written.
    pub(super) fn bytes(&self) -> u64 {
        self.at
    }

    /// Writes all that `reader` gives, up to `max` bytes; how many there were.
    pub(super) fn fill(&mut self, reader: &mut dyn Read, max: u64) -> Result<(), Copy> {
        let mut piece = vec![0; 256 << 10];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(len) if self.at + len as u64 > max => return Err(Copy::TooLong),
                Ok(len) => self.write_all(&piece[..len]).map_err(Copy::Write)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Copy::Read(error)),
            }
        }
    }
}

/// Why not all could be copied.
pub(super) enum Copy {
    Read(io::Error),
    Write(io::Error),
    TooLong,
}

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.iter().any(|byte| *byte != 0) {
            self.file.write_all_at(bytes, self.at)?;
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Decompressed kernels, kept: a `vmlinuz` is decompressed once and then mapped, by every guest.
//!
//! A kept kernel's name is the SHA-256 of the payload that it came from, so that a `vmlinuz` that
//! changes finds another one, and its file never changes: it appears under its name when it is whole.

use super::payload::PayloadError;
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

/// Why a decompressed kernel cannot be kept.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The folder or a file in it.
    #[error("cannot keep the decompressed kernel in {}: {source}; make room there, or name another folder by XDG_CACHE_HOME", path.display())]
    File {
        /// Where it should go.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// The decompressed kernel, as it comes.
    #[error(
        "cannot write the decompressed kernel: {0}; make room in the cache's folder, or name another one by XDG_CACHE_HOME"
    )]
    Write(io::Error),
    /// The bzImage itself.
    #[error("cannot read the kernel: {0}")]
    Read(io::Error),
    /// What is in it.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// A folder of decompressed kernels.
#[derive(Clone, Debug)]
pub struct KernelCache {
    folder: PathBuf,
}

impl KernelCache {
    /// In this folder, which is made when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> KernelCache {
        KernelCache {
            folder: folder.into(),
        }
    }

    /// The user's: `${XDG_CACHE_HOME:-~/.cache}/ringside/kernels/vmlinux`; without a home, a folder for
    /// this user in the one for temporary files.
    pub fn of_user() -> KernelCache {
        let absolute = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        KernelCache::new(match cache {
            Some(cache) => cache.join("ringside/kernels/vmlinux"),
            None => env::temp_dir().join("ringside-kernels"),
        })
    }

    /// The kernel that `bytes` bytes of `file` from `offset` on decompress to: kept from an earlier
    /// call, or made now by `decompress`, which gets these bytes and a place for its own.
    pub(super) fn get(
        &self,
        file: &File,
        offset: u64,
        bytes: u64,
        decompress: impl FnOnce(&[u8], &mut Sparse<'_>) -> Result<(), CacheError>,
    ) -> Result<File, CacheError> {
        let path = self.folder.join(digest(file, offset, bytes)?);
        if let Ok(kept) = File::open(&path) {
            // So that the last used can be told; a folder that is not ours may forbid it.
            let _: io::Result<()> = kept.set_modified(SystemTime::now());
            return Ok(kept);
        }
        let failed = |source| CacheError::File {
            path: self.folder.clone(),
            source,
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let mut payload = vec![
            0;
            usize::try_from(bytes)
                .map_err(|_| failed(io::ErrorKind::FileTooLarge.into()))?
        ];
        file.read_exact_at(&mut payload, offset)
            .map_err(CacheError::Read)?;
        let new = Unfinished::create(&self.folder).map_err(failed)?;
        let mut sparse = Sparse {
            file: &new.file,
            at: 0,
        };
        decompress(&payload, &mut sparse)?;
        new.file.set_len(sparse.at).map_err(failed)?;
        self.forget_all_but(KEPT - 1);
        new.finish(&path).map_err(failed)?;
        File::open(&path).map_err(failed)
    }

    /// Removes kept kernels, those used longest ago first.
    fn forget_all_but(&self, rest: usize) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let dated =
            |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
        let mut kernels: Vec<_> = entries.flatten().filter_map(dated).collect();
        kernels.sort_unstable();
        for (_, path) in kernels.iter().rev().skip(rest) {
            // Somebody else may have been first.
            let _: io::Result<()> = fs::remove_file(path);
        }
    }
}

/// The SHA-256 of a part of a file, in hexadecimal, read piece by piece.
fn digest(file: &File, offset: u64, bytes: u64) -> Result<String, CacheError> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; 128 << 10];
    let mut done = 0;
    while done < bytes {
        let len = piece
            .len()
            .min(usize::try_from(bytes - done).unwrap_or(usize::MAX));
        file.read_exact_at(&mut piece[..len], offset + done)
            .map_err(CacheError::Read)?;
        digest.update(&piece[..len]);
        done += len as u64;
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
    fn create(folder: &Path) -> io::Result<Unfinished> {
        for attempt in 0.. {
            let path = folder.join(format!(".{}.{attempt}", std::process::id()));
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o444)
                .open(&path);
            match file {
                Ok(file) => return Ok(Unfinished { file, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returned")
    }

    fn finish(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)
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

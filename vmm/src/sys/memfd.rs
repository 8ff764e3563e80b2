//! `man 2 memfd_create`: guest memory is a file without a name, so that `/proc/PID/smaps` tells it
//! from the VMM's own, holes can be punched in it, and a clone can map it copy-on-write.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use vm_memory::{GuestMemoryRegion, GuestRegionMmap};

/// A new memory file of `bytes` zeros. Memory is taken from the host only as pages are touched.
///
/// # Errors
/// The system call's: out of descriptors or memory, or a file-size limit below `bytes`.
pub fn create(name: &CStr, bytes: u64) -> io::Result<File> {
    create_with(name, bytes, libc::MFD_ALLOW_SEALING)
}

/// The same, of huge pages of 2 MiB (hugetlb). Mapping it reserves them; `bytes` is a multiple.
///
/// # Errors
/// As of [`create`]; the kernel's when it knows no huge pages.
pub fn create_huge(name: &CStr, bytes: u64) -> io::Result<File> {
    create_with(name, bytes, libc::MFD_HUGETLB | libc::MFD_HUGE_2MB)
}

fn create_with(name: &CStr, bytes: u64, flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: the name is a C string; the flags are known.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes)?;
    Ok(file)
}

/// Gives the pages of a range back to the host (`man 2 fallocate`, `FALLOC_FL_PUNCH_HOLE`), in
/// every mapping of the file; they read as zeros from then on. Parts of pages are zeroed.
///
/// # Errors
/// The system call's.
pub fn punch_hole(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let too_long = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let (offset, bytes) = (
        offset.try_into().map_err(too_long)?,
        bytes.try_into().map_err(too_long)?,
    );
    let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the descriptor is open; no memory of Rust's is involved.
    match unsafe { libc::fallocate(file.as_raw_fd(), flags, offset, bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes a memory file to every change of its size and contents, for ever (`man 2 fcntl`).
///
/// # Errors
/// `EBUSY` while somebody has it mapped writable and shared; `EPERM` if it cannot be sealed.
pub fn seal(file: &File) -> io::Result<()> {
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the descriptor is open; no memory of Rust's is involved.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The ranges of a file's first `bytes` for which there are pages (`man 2 lseek`, `SEEK_DATA`).
///
/// # Errors
/// The system call's.
pub fn data(file: &File, bytes: u64) -> io::Result<Vec<Range<u64>>> {
    let seek = |from: u64, whence| {
        let from = from.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the descriptor is open; nothing else uses its position.
        match unsafe { libc::lseek64(file.as_raw_fd(), from, whence) } {
            -1 => Err(io::Error::last_os_error()),
            to => Ok(to as u64),
        }
    };
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < bytes {
        let start = match seek(at, libc::SEEK_DATA) {
            Ok(start) if start < bytes => start,
            Ok(_) => break,
            // No data from there on.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => break,
            Err(error) => return Err(error),
        };
        at = seek(start, libc::SEEK_HOLE)?.min(bytes);
        ranges.push(start..at);
    }
    Ok(ranges)
}

/// Maps a file's pages from `offset` on, copy-on-write, over `bytes` of guest memory that begin
/// `from` bytes into its region. What was mapped there is gone from this process.
///
/// # Errors
/// `EINVAL` for a range that is not of whole pages or not all in the region; the system call's,
/// most likely `ENOMEM` where this process has too many mappings.
pub fn map_over(
    region: &GuestRegionMmap<()>,
    from: u64,
    bytes: u64,
    file: &File,
    offset: u64,
) -> io::Result<()> {
    map(region, from, bytes, file, offset, libc::MAP_PRIVATE)
}

/// Maps a region's own file again, shared, where [`map_over`] mapped another one.
///
/// # Errors
/// As there.
pub fn map_own(region: &GuestRegionMmap<()>, from: u64, bytes: u64) -> io::Result<()> {
    let own = region.file_offset().ok_or(io::ErrorKind::NotFound)?;
    let offset = own
        .start()
        .checked_add(from)
        .ok_or(io::ErrorKind::InvalidInput)?;
    map(region, from, bytes, own.file(), offset, libc::MAP_SHARED)
}

fn map(
    region: &GuestRegionMmap<()>,
    from: u64,
    bytes: u64,
    file: &File,
    offset: u64,
    sharing: i32,
) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let page = crate::memory::PAGE_BYTES;
    let end = from.checked_add(bytes).ok_or_else(invalid)?;
    if end > region.len() || [from, bytes, offset].iter().any(|n| n % page != 0) {
        return Err(invalid());
    }
    let offset = offset.try_into().map_err(|_| invalid())?;
    // SAFETY: the target lies within the region's own mapping, as checked, so nobody else's memory
    // is replaced; it stays mapped, readable and writable throughout, and nobody holds a Rust
    // reference into guest memory.
    let mapped = unsafe {
        libc::mmap64(
            region.as_ptr().wrapping_add(from as usize).cast(),
            bytes as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_FIXED | sharing | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset,
        )
    };
    match mapped {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Asks for huge pages behind a region, as far as the host has any (`man 2 madvise`).
///
/// # Errors
/// `EINVAL` of a kernel without transparent huge pages.
pub fn advise_huge(region: &GuestRegionMmap<()>) -> io::Result<()> {
    // SAFETY: the range is the region's own mapping; the advice changes no contents.
    match unsafe {
        libc::madvise(
            region.as_ptr().cast(),
            region.len() as usize,
            libc::MADV_HUGEPAGE,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

//! `man 2 readv`: one system call moves bytes between a file and pieces of guest memory, with no
//! copy in between.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use vm_memory::VolatileSlice;

/// The most pieces that one call takes (`man 2 readv`, `IOV_MAX`).
const PIECES_MAX: usize = 1024;

fn pieces(slices: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    let piece = |slice: &VolatileSlice<'_>| libc::iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    };
    slices.iter().take(PIECES_MAX).map(piece).collect()
}

fn offset_of(offset: u64) -> io::Result<i64> {
    offset
        .try_into()
        .map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

/// Calls until no signal interrupts it.
fn count(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// `preadv`: from `offset` of the file into the slices; how many bytes came.
///
/// # Errors
/// The system call's.
pub fn read_at(file: BorrowedFd<'_>, into: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let (pieces, offset) = (pieces(into), offset_of(offset)?);
    // SAFETY: the pieces are guest memory, mapped while the slices are borrowed and never a Rust
    // reference, so that the kernel may write there; their number is below `IOV_MAX`.
    count(|| unsafe {
        libc::preadv64(
            file.as_raw_fd(),
            pieces.as_ptr(),
            pieces.len() as i32,
            offset,
        )
    })
}

/// `pwritev`: from the slices to `offset` of the file; how many bytes went.
///
/// # Errors
/// The system call's.
pub fn write_at(
    file: BorrowedFd<'_>,
    from: &[VolatileSlice<'_>],
    offset: u64,
) -> io::Result<usize> {
    let (pieces, offset) = (pieces(from), offset_of(offset)?);
    // SAFETY: as of `read_at`; the kernel only reads there.
    count(|| unsafe {
        libc::pwritev64(
            file.as_raw_fd(),
            pieces.as_ptr(),
            pieces.len() as i32,
            offset,
        )
    })
}

/// `readv` from a stream or a tap.
///
/// # Errors
/// The system call's.
pub fn read(file: BorrowedFd<'_>, into: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let pieces = pieces(into);
    // SAFETY: as of `read_at`.
    count(|| unsafe { libc::readv(file.as_raw_fd(), pieces.as_ptr(), pieces.len() as i32) })
}

/// `writev` to a stream or a tap.
///
/// # Errors
/// The system call's.
pub fn write(file: BorrowedFd<'_>, from: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let pieces = pieces(from);
    // SAFETY: as of `write_at`.
    count(|| unsafe { libc::writev(file.as_raw_fd(), pieces.as_ptr(), pieces.len() as i32) })
}

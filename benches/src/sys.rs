//! The only unsafe code of this crate: fresh memory from the kernel.
#![expect(unsafe_code, reason = "a mapping becomes a reference")]

use std::io;
use std::num::NonZeroUsize;
use std::slice;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};

/// Maps `bytes` of zeros that nobody touched yet, for as long as the process lives, in pages of
/// 4 KiB if `small_pages` (man 2 mmap; man 2 madvise, `MADV_NOHUGEPAGE`).
///
/// # Errors
///
/// Those of `mmap`; `InvalidInput` for no bytes at all.
pub fn untouched(bytes: usize, small_pages: bool) -> io::Result<&'static mut [u8]> {
    let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let start = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }?;
    if small_pages {
        // A kernel without huge pages refuses, and has only small ones.
        // SAFETY: the range is the mapping above; the advice changes no contents.
        let _ = unsafe { madvise(start, bytes, MmapAdvise::MADV_NOHUGEPAGE) };
    }
    // SAFETY: the mapping is `bytes` long, readable, writable and zeroed, and aligned for anything;
    // it is private to this call's caller and never unmapped, so it lives for `'static`.
    Ok(unsafe { slice::from_raw_parts_mut(start.cast::<u8>().as_ptr(), bytes) })
}

/// Sees bytes as words; what does not fill a word is left out.
pub fn as_words(bytes: &'static mut [u8]) -> &'static mut [u64] {
    // SAFETY: every bit pattern is a valid u64, and `align_to_mut` keeps to the slice.
    unsafe { bytes.align_to_mut::<u64>() }.1
}

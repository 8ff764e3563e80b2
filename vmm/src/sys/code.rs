//! The program's own code, as memory.

use std::ptr;
use std::sync::Once;

// The linker's: where the program's image begins, and where its code ends.
unsafe extern "C" {
    static __executable_start: u8;
    static etext: u8;
}

/// Lets go of the program's code and constants, once in its life: what is needed again comes back from the
/// page cache by a minor fault (`man 2 madvise`, `MADV_DONTNEED`).
///
/// To set a machine up takes much more code than to run it, and the kernel maps sixteen pages about each
/// one that is touched: before this a program that runs a guest has three times as much memory of its own
/// as after it.
pub fn forget_set_up() {
    static FORGOTTEN: Once = Once::new();
    FORGOTTEN.call_once(|| {
        let start = (&raw const __executable_start).addr();
        // The last page may hold something else as well.
        let bytes = ((&raw const etext).addr() & !0xfff).saturating_sub(start);
        let start = ptr::without_provenance_mut(start);
        // SAFETY: the range is a part of the program's image that is mapped from its file and never
        // written, so that the file gives the same contents again. A refusal changes nothing.
        unsafe { libc::madvise(start, bytes, libc::MADV_DONTNEED) };
    });
}

//! What the compiler takes for granted where a C library would be: an entry, memory, a panic.

use super::call::call;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym entry,
);

extern "C" fn entry() -> ! {
    crate::main()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    super::write_all(super::Fd::STDERR, b"ringside-init: a bug ends the guest\n").ok();
    super::reboot()
}

/// The prebuilt `core` and `alloc` name it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    super::reboot()
}

/// Memory that is never given back: init allocates while it starts, and then reuses its buffers.
struct Bump;

#[global_allocator]
static MEMORY: Bump = Bump;

/// The next free byte and the end of what was mapped; one thread only.
static NEXT: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
/// Mapped at a time.
const CHUNK: usize = 256 << 10;

// SAFETY: every block lies in mapped memory that was handed out once, aligned as asked.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = NEXT
            .load(Ordering::Relaxed)
            .next_multiple_of(layout.align());
        if start + layout.size() > END.load(Ordering::Relaxed) {
            let size = layout.size().next_multiple_of(CHUNK);
            // SAFETY: mmap(9) of new private anonymous memory, readable and writable.
            let Ok(chunk) = (unsafe { call(9, [0, size, 3, 0x22, usize::MAX, 0]) }) else {
                return ptr::null_mut();
            };
            // A mapping is aligned to a page; nothing here asks for more.
            NEXT.store(chunk + layout.size(), Ordering::Relaxed);
            END.store(chunk + size, Ordering::Relaxed);
            return ptr::with_exposed_provenance_mut(chunk);
        }
        NEXT.store(start + layout.size(), Ordering::Relaxed);
        ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// `man 3 memcpy`.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's; the direction flag is clear by the calling convention.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _, options(nostack, preserves_flags))
    };
    to
}

/// `man 3 memmove`.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: the caller's; copying upwards never overwrites what is still to be read.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: the caller's; downwards, for the target begins within the source.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rdi") to.wrapping_add(count).wrapping_sub(1) => _,
             inout("rsi") from.wrapping_add(count).wrapping_sub(1) => _, inout("rcx") count => _, options(nostack));
    }
    to
}

/// `man 3 memset`.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, inout("rcx") count => _, in("al") byte as u8, options(nostack, preserves_flags))
    };
    to
}

/// `man 3 memcmp`.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for index in 0..count {
        // SAFETY: the caller's; volatile, lest the loop become a call of itself.
        let (left, right) = unsafe { (a.add(index).read_volatile(), b.add(index).read_volatile()) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

/// As [`memcmp`], but only tells whether they differ; `core` calls it by this name.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(a, b, count) }
}

/// `man 3 strlen`: `CStr` asks for it.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller's; volatile, lest the loop become a call of itself.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

//! What the compiler takes for granted where a C library would be: an entry, memory, a panic.

#[path = "../../../../c_memory.rs"]
mod c_memory;

use super::call::call;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::global_asm;
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

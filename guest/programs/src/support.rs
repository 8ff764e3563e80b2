//! What the compiler takes for granted where a C library would be. (Its memory functions: `c_memory`.)

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::println!("guest panicked: {info}");
    crate::guest::exit(101)
}

/// The prebuilt `core` names it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    crate::guest::exit(101)
}

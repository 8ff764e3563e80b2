//! Where the C library enters the program.
#![expect(
    unsafe_code,
    reason = "a symbol that C code could call by another type"
)]

// SAFETY: the one `main` of the program, of a type that ISO C allows (5.1.2.2.1).
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    ringside_container::enter(crate::run_command_line)
}

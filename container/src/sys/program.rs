//! How a program begins that is started for every container or machine: what the standard library does before
//! `main`, short of what costs more than it gives.
//!
//! std's own start reads `/proc/self/maps` to find the main thread's guard page, so that it can put a
//! name to a stack overflow. That takes 100 µs, a tenth of the time in which a machine starts; without
//! it an overflow is a plain SIGSEGV.

use std::process;

/// Runs a program to its end. To be called by the C library's `main`, before anything else:
/// ```text
/// #![no_main]
/// #[unsafe(no_mangle)]
/// extern "C" fn main() -> std::ffi::c_int {
///     ringside_container::enter(run)
/// }
/// ```
/// As in every Rust program, standard input, output and error are open (a closed one becomes `/dev/null`,
/// lest the next file to be opened be taken for it), and a pipe that nobody reads is an error, not a signal.
pub fn enter(run: fn() -> u8) -> ! {
    for stream in 0..=2 {
        // SAFETY: the calls take integers and a C string, and no descriptor of ours is open yet.
        unsafe {
            if libc::fcntl(stream, libc::F_GETFD) == -1 {
                // The lowest number that is free is this one. Without /dev/null it stays closed.
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
    }
    // SAFETY: no handler is installed, and no thread runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    process::exit(run().into())
}

//! Standard input and output as bare descriptors, and the clock.

use std::io;
use std::time::Duration;

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `man 2 read` of descriptor 0. A signal interrupts it.
///
/// # Errors
/// The system call's.
pub fn read_stdin(bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for writes of its length.
    count(unsafe { libc::read(0, bytes.as_mut_ptr().cast(), bytes.len()) })
}

/// `man 2 write` to descriptor 1. A signal interrupts it.
///
/// # Errors
/// The system call's.
pub fn write_stdout(bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for reads of its length.
    count(unsafe { libc::write(1, bytes.as_ptr().cast(), bytes.len()) })
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of `Instant`, whose value cannot be had.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32).as_nanos() as u64
}

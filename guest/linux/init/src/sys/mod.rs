//! The only unsafe code: the entry, and system calls (`man 2 syscalls`) as safe functions.
#![expect(unsafe_code, reason = "system calls and what a C library would be")]

mod bare;
mod call;
mod io;
mod network;
mod process;

pub use call::Errno;
pub use io::*;
pub use network::*;
pub use process::*;

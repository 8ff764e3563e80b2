//! The work that `compare` measures, written once and linked twice: into the command line, where it
//! runs as a process (natively or in a container), and into the bare guest's ring 3.
//!
//! *Virtualization: an extra interface that mimics a lower layer.* The interface is [`Platform`];
//! a process implements it with system calls, a guest with hypercalls, and the kernels cannot tell.
//!
//! Three habits keep the comparison fair:
//!
//! - The inner loops are neither generic nor inlined, so that one compilation of this crate (which
//!   the workspace optimizes in every profile) serves both sides.
//! - Integer and baseline SSE2 code only, and no dependencies: nothing that one side's build could
//!   tune for its processor and the other's could not.
//! - The clock is read a handful of times per run, because in a guest reading it may cost an exit.
//!
//! ```
//! struct Deaf(u64, Vec<u8>);
//! impl ringside_work::Platform for Deaf {
//!     fn now_ns(&mut self) -> u64 { self.0 }
//!     fn null_call(&mut self) { self.0 += 250 } // every call takes 250 ns of its time
//!     fn buffer(&mut self, _: usize) -> Option<&'static mut [u64]> { None }
//!     fn untouched_pages(&mut self, _: usize) -> Option<&'static mut [u8]> { None }
//!     fn write(&mut self, bytes: &[u8]) { self.1.extend(bytes) }
//!     fn wait_for_end_of_input(&mut self) {}
//! }
//! let mut platform = Deaf(0, Vec::new());
//! ringside_work::run("call", &["1"], &mut platform).unwrap();
//! assert_eq!(platform.1, b"call_ns 250.000\n");
//! ```
#![no_std]

mod args;
mod call;
mod error;
mod faults;
mod idle;
mod memory;
mod primes;
mod report;
mod timing;

#[cfg(test)]
mod tests;

pub use error::Error;

/// Bytes in a page, the unit of [`Platform::untouched_pages`].
pub const PAGE_BYTES: usize = 4096;

/// What a kernel needs of whatever it runs on.
pub trait Platform {
    /// Monotonic time in nanoseconds (of the host's `CLOCK_MONOTONIC`, under every model).
    fn now_ns(&mut self) -> u64;

    /// The cheapest way down and back: a null system call, or a null hypercall (one exit).
    fn null_call(&mut self);

    /// `bytes` of memory, already touched, in which nothing faults any more; `None` if there is not
    /// so much.
    fn buffer(&mut self, bytes: usize) -> Option<&'static mut [u64]>;

    /// `count` pages of 4 KiB that were never touched: each first touch faults. `None` if there are
    /// not so many.
    fn untouched_pages(&mut self, count: usize) -> Option<&'static mut [u8]>;

    /// Writes to standard output.
    fn write(&mut self, bytes: &[u8]);

    /// Blocks until standard input ends.
    fn wait_for_end_of_input(&mut self);
}

/// One piece of work, as a command line names it.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// The name, the first word of its command line.
    pub name: &'static str,
    /// Its arguments with their defaults, for a usage line.
    pub usage: &'static str,
    /// What it does and which lines it prints, in one line.
    pub summary: &'static str,
    run: for<'a> fn(&[&'a str], &mut dyn Platform) -> Result<(), Error<'a>>,
}

/// Everything that [`run`] can run.
pub const WORKS: [Work; 5] = [
    primes::WORK,
    memory::WORK,
    faults::WORK,
    call::WORK,
    idle::WORK,
];

/// Runs the work called `name` and writes its results to `platform`, a line `name value\n` each.
///
/// # Errors
///
/// [`Error`] when there is no such work, an argument is not a number in its range (or there are too
/// many), or the platform has too little memory. Nothing was written then.
pub fn run<'a>(
    name: &'a str,
    args: &[&'a str],
    platform: &mut dyn Platform,
) -> Result<(), Error<'a>> {
    let work = WORKS
        .iter()
        .find(|work| work.name == name)
        .ok_or(Error::UnknownWork { name })?;
    (work.run)(args, platform)
}

//! The work that `compare` measures, written once and linked twice: into the command line, where it
//! runs as a process (natively or in a container), and into the bare guest's ring 3.
//!
//! *Virtualization: an extra interface that mimics a lower layer.* The interface is [`Platform`];
//! a process implements it with system calls, a guest with hypercalls, and the kernels cannot tell.
#![no_std]

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

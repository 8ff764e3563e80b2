//! The runtime of bare guests: what stands where an operating system would.
//!
//! [`ring0`] is a page of assembly: the entry, the trap vectors, demand paging, a system call or
//! two. Everything else is ring 3: [`guest`] asks the VMM by hypercall, [`print`] formats.
#![no_std]

pub mod guest;
pub mod print;
pub mod ring0;
mod support;
pub mod work;

/// Names the function where ring 3 begins: `fn(&[&str]) -> u8`, from arguments to exit status.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Ring 0 comes here by `iretq`.
        #[unsafe(no_mangle)]
        extern "C" fn ring3_start() -> ! {
            $crate::guest::start($main)
        }
    };
}

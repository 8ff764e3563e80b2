//! The runtime of bare guests: what stands where an operating system would.
//!
//! [`ring0`] is a page of assembly: the entry, the trap vectors, demand paging, a system call or
//! two. Everything else is ring 3: [`guest`] asks the VMM by hypercall, [`print`] formats.
#![no_std]

#[path = "../../c_memory.rs"]
mod c_memory;
pub mod guest;
pub mod print;
pub mod ring0;
mod support;
pub mod virtio;
pub mod work;

pub use ringside_abi::needs;

/// Names the function where ring 3 begins: `fn(&[&str]) -> u8`, from arguments to exit status; and,
/// where several processors are asked for, the function of all but the first:
/// `fn(u64) -> !`, which is told which it is.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!($main, $crate::guest::park);
    };
    ($main:path, $others:path) => {
        /// Ring 0 comes here by `iretq`, on each processor.
        #[unsafe(no_mangle)]
        extern "C" fn ring3_start(index: u64) -> ! {
            match index {
                0 => $crate::guest::start($main),
                index => $others(index),
            }
        }
    };
}

/// Asks for so many processors, for interrupts or not, and for a virtio console: a note in the program's
/// file, which the VMM reads.
#[macro_export]
macro_rules! needs {
    (processors: $processors:literal, interrupts: $interrupts:literal $(, console: $console:literal)?) => {
        #[used]
        #[unsafe(link_section = ".note.ringside")]
        static NEEDS: $crate::needs::Note = $crate::needs::Note::new(
            $processors,
            ($interrupts as u32 * $crate::needs::INTERRUPTS)
                $(| ($console as u32 * $crate::needs::CONSOLE))?,
        );
    };
}

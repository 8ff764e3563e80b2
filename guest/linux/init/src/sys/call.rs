//! A system call: the number in RAX, up to six arguments, an error as a small negative result.

use alloc::format;
use alloc::vec::Vec;
use core::arch::asm;

/// What a system call failed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(u8);

impl Errno {
    pub const NOT_FOUND: Errno = Errno(2);
    pub const INTERRUPTED: Errno = Errno(4);
    pub const AGAIN: Errno = Errno(11);
    pub const INVALID: Errno = Errno(22);
    pub const PROTOCOL: Errno = Errno(71);
    pub const NO_PEER: Errno = Errno(104);

    pub fn from_raw(raw: u8) -> Errno {
        Errno(raw)
    }

    pub fn raw(self) -> u8 {
        self.0
    }

    /// In words, where they are known here.
    pub fn text(self) -> Vec<u8> {
        let words = match self.0 {
            2 => "no such file or directory",
            8 => "not a program that this kernel can execute",
            13 => "permission denied",
            16 => "in use",
            19 => "the kernel has no such device or file system",
            20 => "not a directory",
            22 => "invalid",
            71 => "the other side speaks another protocol",
            104 => "the other side is gone",
            number => return format!("errno {number}").into_bytes(),
        };
        words.as_bytes().to_vec()
    }
}

/// Calls the kernel.
///
/// # Safety
/// The arguments are what the call of that number asks for: pointers point to as much as it reads or
/// writes, and nothing that Rust relies on changes (memory maps, descriptors that others own).
pub unsafe fn call<const N: usize>(number: usize, arguments: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    let result: isize;
    // SAFETY: the caller's; the kernel changes RAX, RCX, R11 and what the arguments point to.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") all[0], in("rsi") all[1],
             in("rdx") all[2], in("r10") all[3], in("r8") all[4], in("r9") all[5],
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) => Err(Errno(result.unsigned_abs().try_into().unwrap_or(u8::MAX))),
    }
}

//! What ring 3 can ask the VMM for, and the start of every program.

use crate::ring0;
use core::arch::asm;
use core::cell::Cell;
use ringside_abi::boot_info::{BootInfo, MAGIC};
use ringside_abi::hypercall::{Number, Request, errno};
use ringside_abi::{layout, port};
use ringside_work::Platform;

/// Writes a byte to a port.
///
/// # Safety
/// The port's device does nothing that breaks this program's memory.
pub unsafe fn out8(port: u16, value: u8) {
    // SAFETY: the caller's.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// Writes 32 bits to a port.
///
/// # Safety
/// As of [`out8`].
pub unsafe fn out32(port: u16, value: u32) {
    // SAFETY: the caller's.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags))
    };
}

/// Reads 32 bits from a port.
///
/// # Safety
/// As of [`out8`].
pub unsafe fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: the caller's.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags))
    };
    value
}

/// Makes a hypercall: one exit. The result is the VMM's, negative for an error number.
pub fn hypercall(number: Number, arguments: [u64; 4]) -> i64 {
    let mut request = Request::new(number, arguments);
    // The stack is mapped where it is: its guest-virtual address is the guest-physical one.
    let address = (&raw mut request) as u32;
    // SAFETY: the VMM writes `result` of this request, and the memory that its number says. Without
    // `nomem`, the compiler assumes that memory changed.
    unsafe { out32(port::HYPERCALL, address) };
    // SAFETY: as above; volatile, for the compiler does not see the VMM write.
    unsafe { (&raw const request.result).read_volatile() }
}

/// Ends the program.
pub fn exit(status: u8) -> ! {
    // SAFETY: the VMM stops this machine.
    unsafe { out8(port::DEBUG_EXIT, status) };
    loop {
        core::hint::spin_loop();
    }
}

/// What a processor does that has nothing to do: it halts.
pub fn park(_: u64) -> ! {
    loop {
        ring0::halt();
    }
}

/// The VMM's page of facts.
pub fn boot_info() -> &'static BootInfo {
    // SAFETY: the VMM filled the page in before the first instruction and never changes it; ring 3
    // may read it.
    let info = unsafe { &*(layout::BOOT_INFO as *const BootInfo) };
    assert!(info.magic == MAGIC, "the VMM left no boot information");
    info
}

/// Where every program begins in ring 3.
pub fn start(main: fn(&[&str]) -> u8) -> ! {
    let info = boot_info();
    let line = &info.command_line[..info.command_line_len as usize];
    let mut arguments = [""; 32];
    let mut count = 0;
    for argument in line.split(|&byte| byte == 0).filter(|_| !line.is_empty()) {
        assert!(count < arguments.len(), "more than 32 arguments");
        arguments[count] = core::str::from_utf8(argument).expect("arguments in UTF-8");
        count += 1;
    }
    exit(main(&arguments[..count]))
}

/// This machine as the compute kernels see it.
#[derive(Default)]
pub struct Guest {
    heap_used: Cell<u64>,
    demand_used: Cell<u64>,
}

/// Takes `bytes` from `start..end`, of which `used` are gone already.
fn take(used: &Cell<u64>, start: u64, end: u64, bytes: u64) -> Option<*mut u8> {
    let address = start.checked_add(used.get())?;
    if bytes > end.checked_sub(address)? {
        return None;
    }
    used.set(used.get() + bytes);
    Some(address as *mut u8)
}

impl Platform for Guest {
    fn now_ns(&mut self) -> u64 {
        hypercall(Number::Clock, [0; 4]) as u64
    }

    fn null_call(&mut self) {
        hypercall(Number::Null, [0; 4]);
    }

    fn buffer(&mut self, bytes: usize) -> Option<&'static mut [u64]> {
        let info = boot_info();
        let bytes = bytes.next_multiple_of(layout::PAGE as usize);
        let start = take(
            &self.heap_used,
            info.heap_start,
            info.heap_end,
            bytes as u64,
        )?;
        // SAFETY: heap memory is mapped and zero, and `take` gives each byte out once.
        let buffer = unsafe { core::slice::from_raw_parts_mut(start.cast::<u64>(), bytes / 8) };
        for word in buffer.iter_mut().step_by(512) {
            // Not a plain store of the zero that is there already, which may be left out.
            // SAFETY: a valid reference.
            unsafe { (word as *mut u64).write_volatile(0) };
        }
        Some(buffer)
    }

    fn untouched_pages(&mut self, count: usize) -> Option<&'static mut [u8]> {
        let bytes = (count as u64).checked_mul(layout::PAGE)?;
        let end = layout::DEMAND_ZONE + boot_info().demand_bytes;
        let start = take(&self.demand_used, layout::DEMAND_ZONE, end, bytes)?;
        // SAFETY: ring 0 maps each page, zero, at its first touch, and `take` gives each out once.
        Some(unsafe { core::slice::from_raw_parts_mut(start, bytes as usize) })
    }

    fn write(&mut self, bytes: &[u8]) {
        crate::print::write(bytes);
    }

    fn wait_for_end_of_input(&mut self) {
        let mut sink = [0_u8; 256];
        loop {
            match hypercall(
                Number::Read,
                [(&raw mut sink) as u64, sink.len() as u64, 0, 0],
            ) {
                0 => return,
                error if error < 0 && error != -errno::EINTR => return,
                _ => {}
            }
        }
    }
}

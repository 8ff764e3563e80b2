//! The driver's side of a virtio device (virtio 1.2): of a console (5.3) behind registers in memory
//! (4.2), without interrupts. It waits by looking, and so costs an exit for each batch of buffers.
//!
//! ```text
//!   descriptors      where each buffer is                    the driver's
//!   available ring   which of them the device may take       the driver's
//!   used ring        which of them it is done with           the device's
//! ```

use core::hint::spin_loop;
use core::sync::atomic::{Ordering, fence};
use ringside_abi::layout;
use ringside_work::Platform;

/// Buffers that can be with the device at once.
pub const QUEUE_LENGTH: usize = 64;

/// Registers (4.2.2).
mod register {
    pub const MAGIC: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE: u64 = 0x008;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SELECT: u64 = 0x024;
    pub const QUEUE_SELECT: u64 = 0x030;
    pub const QUEUE_LENGTH_MAX: u64 = 0x034;
    pub const QUEUE_LENGTH: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESCRIPTORS: u64 = 0x080;
    pub const QUEUE_AVAILABLE: u64 = 0x090;
    pub const QUEUE_USED: u64 = 0x0a0;
}

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const CONSOLE: u32 = 3;
/// The steps of a driver (2.1), each with those before it.
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = ACKNOWLEDGE | 2;
const FEATURES_OK: u32 = DRIVER | 8;
const DRIVER_OK: u32 = FEATURES_OK | 4;
/// Feature 32, "version 1", is the lowest bit of the upper half.
const UPPER_HALF: u32 = 1;
const VERSION_1: u32 = 1;
/// The queue of what the guest writes.
const TRANSMIT: u32 = 1;
/// In the available ring: no interrupts, please.
const NO_INTERRUPT: u16 = 1;

#[repr(C)]
struct Descriptor {
    address: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

/// A queue as both sides see it (2.7), on one page.
#[repr(C, align(4096))]
struct Queue {
    descriptors: [Descriptor; QUEUE_LENGTH],
    available_flags: u16,
    available: u16,
    available_ring: [u16; QUEUE_LENGTH],
    used_flags: u16,
    /// Aligned to 4 bytes, as it has to be: what is before it has an even number of 16-bit words.
    used: u16,
    used_ring: [[u32; 2]; QUEUE_LENGTH],
}

const _: () = assert!(size_of::<Queue>() == layout::PAGE as usize);
const _: () = assert!(core::mem::offset_of!(Queue, used_flags).is_multiple_of(4));

/// The machine's console.
pub struct Console {
    queue: *mut Queue,
    sent: u16,
    exits: u64,
}

impl Console {
    /// Brings the device up; `None` if there is none, or if it does not want.
    pub fn start(platform: &mut impl Platform) -> Option<Console> {
        let page = platform.buffer(size_of::<Queue>())?;
        let mut console = Console {
            queue: page.as_mut_ptr().cast(),
            sent: 0,
            exits: 0,
        };
        let found = [
            console.read(register::MAGIC),
            console.read(register::VERSION),
            console.read(register::DEVICE),
        ];
        if found != [MAGIC, 2, CONSOLE] {
            return None;
        }
        for status in [0, ACKNOWLEDGE, DRIVER] {
            console.write(register::STATUS, status);
        }
        console.write(register::DRIVER_FEATURES_SELECT, UPPER_HALF);
        console.write(register::DRIVER_FEATURES, VERSION_1);
        console.write(register::STATUS, FEATURES_OK);
        if console.read(register::STATUS) != FEATURES_OK {
            return None;
        }
        console.write(register::QUEUE_SELECT, TRANSMIT);
        if console.read(register::QUEUE_LENGTH_MAX) < QUEUE_LENGTH as u32 {
            return None;
        }
        console.write(register::QUEUE_LENGTH, QUEUE_LENGTH as u32);
        // SAFETY: the page is zero, which is a queue, and is this console's alone.
        let places = unsafe {
            let queue = console.queue;
            (*queue).available_flags = NO_INTERRUPT;
            [
                (
                    register::QUEUE_DESCRIPTORS,
                    (&raw mut (*queue).descriptors) as u64,
                ),
                (
                    register::QUEUE_AVAILABLE,
                    (&raw mut (*queue).available_flags) as u64,
                ),
                (register::QUEUE_USED, (&raw mut (*queue).used_flags) as u64),
            ]
        };
        for (at, address) in places {
            // The heap is mapped where it is: guest-virtual is guest-physical.
            console.write(at, address as u32);
            console.write(at + 4, (address >> 32) as u32);
        }
        console.write(register::QUEUE_READY, 1);
        console.write(register::STATUS, DRIVER_OK);
        Some(console)
    }

    /// How many exits this driver has caused.
    pub fn exits(&self) -> u64 {
        self.exits
    }

    /// Hands up to [`QUEUE_LENGTH`] buffers to the device at once, and waits until it has read them.
    pub fn send<'b>(&mut self, buffers: impl Iterator<Item = &'b [u8]>) {
        let before = self.sent;
        for (index, buffer) in buffers.enumerate() {
            assert!(index < QUEUE_LENGTH, "more buffers than the queue holds");
            // SAFETY: within the queue, of which the device reads what was made available only.
            unsafe {
                (*self.queue).descriptors[index] = Descriptor {
                    address: buffer.as_ptr() as u64,
                    bytes: buffer.len() as u32,
                    flags: 0,
                    next: 0,
                };
                let slot = usize::from(self.sent) % QUEUE_LENGTH;
                (*self.queue).available_ring[slot] = index as u16;
            }
            self.sent = self.sent.wrapping_add(1);
        }
        if self.sent == before {
            return;
        }
        // The device sees the buffers before it sees that there are more, and that before the bell.
        fence(Ordering::SeqCst);
        // SAFETY: as above; volatile, for the compiler does not see the device.
        unsafe { (&raw mut (*self.queue).available).write_volatile(self.sent) };
        fence(Ordering::SeqCst);
        self.write(register::QUEUE_NOTIFY, TRANSMIT);
        // SAFETY: as above.
        while unsafe { (&raw const (*self.queue).used).read_volatile() } != self.sent {
            spin_loop();
        }
        fence(Ordering::SeqCst);
    }

    fn read(&mut self, register: u64) -> u32 {
        self.exits += 1;
        // SAFETY: a register of the device, which a read does not change.
        unsafe { ((layout::CONSOLE + register) as *const u32).read_volatile() }
    }

    fn write(&mut self, register: u64, value: u32) {
        self.exits += 1;
        // SAFETY: a register of the device, which touches only memory that is in its queue.
        unsafe { ((layout::CONSOLE + register) as *mut u32).write_volatile(value) };
    }
}

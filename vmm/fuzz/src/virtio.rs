//! A driver that does whatever the fuzzer says to a virtio device, and a host that does as well.
//!
//! The bytes are a list of deeds: memory, descriptors and rings are written, registers too, queues
//! are notified, the host's side acts. The device may serve, refuse or ask for a reset.

use ringside_vmm::device::Interrupt;
use ringside_vmm::memory::{Gpa, GuestMemory};
use ringside_vmm::trap::Width;
use ringside_vmm::virtio::{Event, Transport, VirtioDevice};

/// Bytes of guest memory: 64 pages.
pub const MEMORY_BYTES: u64 = 64 << 12;
const LENGTH: u32 = 16;
/// Each queue has three pages for its rings, from here on.
const RINGS: u64 = 0x1000;

/// The fuzzer's bytes, as many at a time as a deed wants.
pub struct Bytes<'i>(pub &'i [u8]);

impl Bytes<'_> {
    /// The next so many bytes, up to eight; zeros behind the end.
    pub fn number(&mut self, bytes: usize) -> u64 {
        let mut raw = [0; 8];
        let taken = self.slice(bytes);
        raw[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(raw)
    }

    /// The next so many, or what is left.
    pub fn slice(&mut self, bytes: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(self.0.len().min(bytes));
        self.0 = rest;
        taken
    }
}

/// Guest memory for one input.
pub fn memory() -> GuestMemory {
    GuestMemory::new(MEMORY_BYTES).expect("memory")
}

/// Does to a device what the bytes say; `host` is called for what the host's side does.
pub fn run(
    device: impl VirtioDevice + 'static,
    memory: GuestMemory,
    input: &[u8],
    mut host: impl FnMut(&mut Bytes<'_>),
) {
    let queues = device.queue_sizes().len() as u64;
    let sources = device.sources().len();
    let interrupt = Interrupt::unconnected();
    let transport = Transport::new(device, memory.clone(), interrupt, |_, _| ()).expect("device");
    let mut bytes = Bytes(input);
    let without = bytes.number(4);
    start(&transport, queues, without);
    let mut available = [0u16; 4];
    while !bytes.0.is_empty() {
        let deed = bytes.number(1);
        let queue = (deed >> 4) % queues;
        let [descriptors, ring, _] = rings(queue);
        match deed & 15 {
            0 | 1 => {
                let at = bytes.number(3) % MEMORY_BYTES;
                let count = bytes.number(1) as usize;
                let _ = memory.write(Gpa(at), bytes.slice(count));
            }
            2..=6 => {
                let index = bytes.number(1) % u64::from(LENGTH);
                // Most addresses are memory.
                let address = match bytes.number(1) {
                    255 => bytes.number(8),
                    high => high << 10 | bytes.number(1),
                };
                let length = match bytes.number(1) {
                    255 => bytes.number(4),
                    254 => bytes.number(2),
                    short => short,
                };
                let flags = bytes.number(1);
                let next = flags >> 3;
                let rest = length | (flags & 7) << 32 | next << 48;
                let _ = memory.write_value(Gpa(descriptors + 16 * index), [address, rest]);
            }
            7..=9 => {
                let slot = available[queue as usize] % LENGTH as u16;
                let head = bytes.number(1) as u16 & 31;
                let _ = memory.write_value(Gpa(ring + 4 + 2 * u64::from(slot)), head);
                available[queue as usize] = available[queue as usize].wrapping_add(1);
                let _ = memory.write_value(Gpa(ring + 2), available[queue as usize]);
                if deed & 15 == 9 {
                    transport.write(0x50, Width::Double, queue);
                    transport.poll();
                }
            }
            10 => {
                transport.write(0x50, Width::Double, queue);
                transport.poll();
            }
            11 => {
                let width = [Width::Byte, Width::Word, Width::Double, Width::Quad];
                let width = width[(deed >> 4) as usize % 4];
                let register = bytes.number(2) % 0x180;
                transport.write(register, width, bytes.number(4));
            }
            12 => {
                transport.read(bytes.number(2) % 0x180, Width::Double);
            }
            13 => {
                available = [0; 4];
                start(&transport, queues, bytes.number(4));
            }
            14 => host(&mut bytes),
            _ => {
                for source in 0..sources {
                    transport.serve(Event::Source(source));
                }
            }
        }
    }
    transport.poll();
}

fn rings(queue: u64) -> [u64; 3] {
    let at = RINGS + queue * 0x3000;
    [at, at + 0x1000, at + 0x2000]
}

/// What a driver does first, with all features but some.
fn start(transport: &Transport, queues: u64, without: u64) {
    let write = |register: u64, value: u64| {
        transport.write(register, Width::Double, value);
    };
    for status in [0, 1, 3] {
        write(0x70, status);
    }
    for half in [0, 1] {
        write(0x14, half);
        let offered = transport.read(0x10, Width::Double);
        write(0x24, half);
        write(
            0x20,
            if half == 0 {
                offered & !without
            } else {
                offered
            },
        );
    }
    write(0x70, 11);
    for queue in 0..queues {
        write(0x30, queue);
        write(0x38, transport.read(0x34, Width::Double).min(LENGTH.into()));
        for (register, address) in [0x80, 0x90, 0xa0].into_iter().zip(rings(queue)) {
            write(register, address);
        }
        write(0x44, 1);
    }
    write(0x70, 15);
    for queue in 0..queues {
        write(0x50, queue);
    }
}

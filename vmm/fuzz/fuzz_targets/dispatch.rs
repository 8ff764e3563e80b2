//! Any sequence of exits over buses with every device, and any guest memory for them to read: an
//! answer to each, and never a panic.
//!
//! `cargo +nightly fuzz run dispatch` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::device::{Buses, Console, Interrupt, IoApic, Power, Rtc, Streams};
use ringside_vmm::memory::{Gpa, GuestMemory};
use ringside_vmm::trap::{Exit, Reply, Width, dispatch};
use ringside_vmm::virtio::{self, Mmio, Rng, Transport};
use ringside_vmm_fuzz::Words;
use std::io::{self, sink};
use std::sync::Arc;

const MEMORY_BYTES: u64 = 1 << 20;
/// The hypercall port, and where the requests lie that are made of the fuzzer's words.
const HYPERCALL: u16 = 0x500;
const REQUEST: u64 = 0x8000;

/// Where devices are: a port or an address of theirs, within a few bytes.
const PORTS: [u64; 8] = [0x3f8, 0x2f8, 0x64, 0xf4, 0x500, 0x70, 0x600, 0xffff];
const REGISTERS: [u64; 4] = [0xd000_0000, 0xd000_1000, 0xfec0_0000, u64::MAX - 7];

/// A bare guest's devices, those that only Linux has, and two of virtio.
fn buses(memory: &GuestMemory) -> Buses {
    let streams = Streams {
        input: Box::new(io::repeat(b'x')),
        output: Box::new(sink()),
    };
    let mut buses = Buses::bare(memory, streams);
    let io_apic = IoApic::new(|_| ());
    let line = |pin| io_apic.line(pin).expect("a pin of 24");
    let ports = &mut buses.ports;
    ports
        .insert(0x2f8, 8, Console::new(line(4), sink()))
        .and_then(|()| ports.insert(0x70, 2, Rtc::default()))
        .and_then(|()| ports.insert(0x600, 2, Power))
        .expect("no overlap");
    let console = virtio::Console::new(sink()).expect("descriptors").0;
    let complain = |_, _| ();
    let transports = [
        Transport::new(console, memory.clone(), line(5), complain),
        Transport::new(Rng, memory.clone(), Interrupt::unconnected(), complain),
    ];
    for (transport, address) in transports.into_iter().zip(REGISTERS) {
        let registers = Mmio::new(Arc::new(transport.expect("descriptors")));
        let inserted = buses.memory.insert(address, 0x200, registers);
        inserted.expect("no overlap");
    }
    let inserted = buses.memory.insert(0xfec0_0000, 0x1000, io_apic);
    inserted.expect("no overlap");
    buses
}

/// An exit of the fuzzer's choice, most often one that hits a device.
fn exit(words: &mut Words<'_>, how: u64) -> Exit {
    let width = Width::ALL[(how >> 8 & 7) as usize];
    let near = |places: &[u64]| {
        let place = places[(how >> 16) as usize % places.len()];
        place.wrapping_add(how >> 24 & 0x1ff)
    };
    let port = near(&PORTS) as u16;
    let address = near(&REGISTERS);
    let value = words.take();
    match how >> 4 & 0xf {
        0..4 => Exit::IoOut {
            port,
            width,
            value: value as u32,
        },
        4..7 => Exit::IoIn { port, width },
        7..10 => Exit::MmioWrite {
            address,
            width,
            value: value & width.mask(),
        },
        10..12 => Exit::MmioRead { address, width },
        12 => Exit::MmioWrite {
            address: value,
            width,
            value: how,
        },
        13 => Exit::IoString {
            port,
            width,
            count: value as u32,
            out: how >> 12 & 1 == 0,
        },
        14 => Exit::Hypercall {
            number: value,
            arguments: [how; 3],
        },
        _ => Exit::Other {
            reason: value as u32,
        },
    }
}

fuzz_target!(|input: &[u8]| {
    let words = &mut Words(input);
    let memory = GuestMemory::new(MEMORY_BYTES).expect("memory");
    let buses = buses(&memory);
    while !words.is_empty() {
        let how = words.take();
        let exit = match how & 7 {
            // What the guest writes to memory is no exit.
            0 | 1 => {
                let at = Gpa((how >> 8) % MEMORY_BYTES);
                let _ = memory.write_value(at, words.take());
                continue;
            }
            // A hypercall: its number, its arguments and where it lies.
            2 => {
                let request: [u64; 6] = std::array::from_fn(|word| match word {
                    0 => words.take() & 0xf,
                    // Half of the pointers lie in memory.
                    1 if how >> 16 & 1 == 0 => words.take() % MEMORY_BYTES,
                    _ => words.take(),
                });
                let at = REQUEST + (how >> 24 & 0xff);
                memory
                    .write_value(Gpa(at), request)
                    .expect("it is in memory");
                Exit::IoOut {
                    port: HYPERCALL,
                    width: Width::Double,
                    value: at as u32,
                }
            }
            _ => exit(words, how),
        };
        let reads = matches!(exit, Exit::IoIn { .. } | Exit::MmioRead { .. });
        match dispatch(exit, &buses) {
            Reply::Value(_) => assert!(reads, "{exit:?} is answered by a value"),
            Reply::Resume => assert!(!reads, "{exit:?} is not answered"),
            Reply::Unclaimed | Reply::Stop(_) => {}
        }
        // People are shown each.
        assert!(!exit.to_string().is_empty());
    }
});

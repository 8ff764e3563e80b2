//! One KiB of text to the VMM three ways: byte by byte, as buffers, and through a shared ring.
#![no_std]
#![no_main]

use core::sync::atomic::{Ordering, fence};
use ringside_abi::hypercall::{Number, RING_SLOTS, Ring};
use ringside_abi::port;
use ringside_programs::guest::{hypercall, out8};
use ringside_programs::println;

ringside_programs::entry!(main);

/// A line of text with its end, and how many of them are a KiB.
const LINE: usize = 64;
const LINES: usize = 16;

/// The text that each way carries: lines that say which way it was.
fn text(way: &str) -> [[u8; LINE]; LINES] {
    let mut text = [[b'.'; LINE]; LINES];
    for (number, line) in text.iter_mut().enumerate() {
        line[..way.len()].copy_from_slice(way.as_bytes());
        line[LINE - 2] = b'a' + number as u8;
        line[LINE - 1] = b'\n';
    }
    text
}

/// Full virtualization: a device that knows bytes only.
fn byte_by_byte(text: &[[u8; LINE]; LINES]) -> u64 {
    let bytes = text.as_flattened();
    for &byte in bytes {
        // SAFETY: the serial port's transmit register.
        unsafe { out8(port::SERIAL, byte) };
    }
    bytes.len() as u64
}

/// Paravirtualization: the guest says where the bytes are, a line at a time.
fn by_buffers(text: &[[u8; LINE]; LINES]) -> u64 {
    let mut exits = 0;
    for line in text {
        let mut left = &line[..];
        while !left.is_empty() {
            let written = hypercall(
                Number::Write,
                [left.as_ptr() as u64, left.len() as u64, 0, 0],
            );
            exits += 1;
            left = &left[usize::try_from(written).unwrap_or(left.len())..];
        }
    }
    exits
}

/// And in batches: lines are queued in memory that both sides share, and the bell rings once.
fn through_a_ring(text: &[[u8; LINE]; LINES]) -> u64 {
    let mut ring = Ring::new();
    for line in text {
        let slot = ring.filled as usize % RING_SLOTS;
        ring.slots[slot] = [line.as_ptr() as u64, line.len() as u64];
        ring.filled += 1;
    }
    // The VMM looks at this memory when the bell rings.
    fence(Ordering::Release);
    hypercall(Number::Ring, [(&raw mut ring) as u64, 0, 0, 0]);
    // SAFETY: a valid reference; volatile, for the compiler does not see the VMM write.
    let served = unsafe { (&raw const ring.served).read_volatile() };
    assert!(
        served == ring.filled,
        "the VMM served {served} of {}",
        ring.filled
    );
    1
}

fn main(_: &[&str]) -> u8 {
    type Way = fn(&[[u8; LINE]; LINES]) -> u64;
    let ways: [(&str, Way); 3] = [
        ("serial", byte_by_byte),
        ("buffer", by_buffers),
        ("ring", through_a_ring),
    ];
    for (name, way) in ways {
        let exits = way(&text(name));
        println!("{name}_exits_per_kib {exits}");
    }
    0
}

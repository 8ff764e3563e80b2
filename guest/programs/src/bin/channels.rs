//! The same text to the VMM four ways: byte by byte, as buffers, through a ring, by a virtio console.
#![no_std]
#![no_main]

use core::sync::atomic::{Ordering, fence};
use ringside_abi::hypercall::{Number, RING_SLOTS, Ring};
use ringside_abi::port;
use ringside_programs::guest::{Guest, hypercall, out8};
use ringside_programs::println;
use ringside_programs::virtio::{self, Console};
use ringside_work::Platform;

ringside_programs::needs!(processors: 1, interrupts: false, console: true);
ringside_programs::entry!(main);

/// A line of text with its end.
const LINE: usize = 64;
/// What is handed over at once by who can hand over more than a byte.
const PIECE: usize = 1024;

/// Text of lines that say which way it goes.
fn fill(text: &mut [u8], way: &str) {
    for (number, line) in text.chunks_exact_mut(LINE).enumerate() {
        line.fill(b'.');
        line[..way.len()].copy_from_slice(way.as_bytes());
        line[LINE - 2] = b'a' + (number % 26) as u8;
        line[LINE - 1] = b'\n';
    }
}

/// Full virtualization: a device that knows bytes only.
fn byte_by_byte(text: &[u8], _: &mut Console) -> u64 {
    for &byte in text {
        // SAFETY: the serial port's transmit register.
        unsafe { out8(port::SERIAL, byte) };
    }
    text.len() as u64
}

/// Paravirtualization: the guest says where the bytes are, a piece at a time.
fn by_buffers(text: &[u8], _: &mut Console) -> u64 {
    let mut exits = 0;
    for piece in text.chunks(PIECE) {
        let mut left = piece;
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

/// And in batches: pieces are queued in memory that both sides share, and the bell rings once.
fn through_a_ring(text: &[u8], _: &mut Console) -> u64 {
    let mut ring = Ring::new();
    let mut exits = 0;
    for batch in text.chunks(RING_SLOTS * PIECE) {
        for piece in batch.chunks(PIECE) {
            let slot = ring.filled as usize % RING_SLOTS;
            ring.slots[slot] = [piece.as_ptr() as u64, piece.len() as u64];
            ring.filled += 1;
        }
        // The VMM looks at this memory when the bell rings.
        fence(Ordering::Release);
        hypercall(Number::Ring, [(&raw mut ring) as u64, 0, 0, 0]);
        exits += 1;
        // SAFETY: a valid reference; volatile, for the compiler does not see the VMM write.
        let served = unsafe { (&raw const ring.served).read_volatile() };
        assert!(
            served == ring.filled,
            "the VMM served {served} of {}",
            ring.filled
        );
    }
    exits
}

/// The same as a standard has it, of which other people's drivers and devices know too.
fn by_virtio(text: &[u8], console: &mut Console) -> u64 {
    let before = console.exits();
    for batch in text.chunks(virtio::QUEUE_LENGTH * PIECE) {
        console.send(batch.chunks(PIECE));
    }
    console.exits() - before
}

fn main(arguments: &[&str]) -> u8 {
    let kib: Option<usize> = arguments.first().unwrap_or(&"1").parse().ok();
    let mut guest = Guest::default();
    let bytes = kib
        .filter(|&kib| kib > 0)
        .and_then(|kib| kib.checked_mul(PIECE));
    let Some(words) = bytes.and_then(|bytes| guest.buffer(bytes)) else {
        println!("no room for so many KiB; give 1 or more, or the guest more memory");
        return 2;
    };
    let Some(mut console) = Console::start(&mut guest) else {
        println!("no virtio console");
        return 1;
    };
    println!("virtio_setup_exits {}", console.exits());
    // SAFETY: words are bytes, of any value, and nobody else has these.
    let text = unsafe {
        core::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), words.len() * 8)
    };
    let text = &mut text[..bytes.unwrap_or(0)];
    type Way = fn(&[u8], &mut Console) -> u64;
    let ways: [(&str, Way); 4] = [
        ("serial", byte_by_byte),
        ("buffer", by_buffers),
        ("ring", through_a_ring),
        ("virtio", by_virtio),
    ];
    let asked = arguments.get(1..).unwrap_or_default();
    for (name, way) in ways {
        if !asked.is_empty() && !asked.contains(&name) {
            continue;
        }
        fill(text, name);
        let start = guest.now_ns();
        let exits = way(text, &mut console);
        let ns = guest.now_ns() - start;
        println!("{name}_exits {exits} ns {ns}");
    }
    0
}

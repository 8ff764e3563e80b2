//! The MP table: how a kernel without ACPI learns of processors and the I/O APIC (Intel
//! MultiProcessor Specification 1.4, chapter 4).
//!
//! ```text
//!   "_MP_" ──▶ "PCMP" header │ processor … │ bus │ I/O APIC │ interrupt … │ local interrupt × 2
//! ```

use super::platform::PC_LINES;
use super::{LinuxError, Platform, map};
use crate::memory::GuestMemory;
use crate::memory::layout::{IO_APIC, LOCAL_APIC};

/// What a local APIC's version register says, of all since the Pentium 4.
const LOCAL_APIC_VERSION: u8 = 0x14;
/// The I/O APIC's (82093AA, 3.2.2).
const IO_APIC_VERSION: u8 = 0x11;
const ISA: u8 = 0;

/// Writes the floating pointer and the table.
pub(super) fn write(memory: &GuestMemory, platform: &Platform) -> Result<(), LinuxError> {
    let table = table(platform);
    let room = map::KERNEL_MIN.0 - map::MP_TABLE.0;
    if table.len() as u64 > room {
        return Err(LinuxError::Tables {
            bytes: table.len() as u64,
        });
    }
    memory.write(map::MP_TABLE, &table)?;
    let mut pointer = *b"_MP_\0\0\0\0\x01\x04\0\0\0\0\0\0";
    pointer[4..8].copy_from_slice(&(map::MP_TABLE.0 as u32).to_le_bytes());
    pointer[10] = checksum(&pointer);
    memory.write(map::MP_POINTER, &pointer)?;
    Ok(())
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

fn table(platform: &Platform) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0_u16;
    let mut entry = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    for index in 0..platform.processors {
        // Usable; the first boots the others. Signature and features are CPUID's to tell.
        let flags = 1 | u8::from(index == 0) << 1;
        let mut processor = [0; 20];
        processor[1..4].copy_from_slice(&[index, LOCAL_APIC_VERSION, flags]);
        entry(&processor);
    }
    entry(&[1, ISA, b'I', b'S', b'A', b' ', b' ', b' ']);
    let io_apic = platform.io_apic_id();
    let [a, b, c, d] = (IO_APIC.0 as u32).to_le_bytes();
    entry(&[2, io_apic, IO_APIC_VERSION, 1, a, b, c, d]);
    // Only what is connected: a kernel sets up each pin that it is told of.
    let virtio = platform.virtio.iter().map(|device| device.line);
    for pin in (0..PC_LINES).chain(virtio) {
        // A vectored interrupt, of the polarity and trigger that are ISA's: high, edge.
        entry(&[3, 0, 0, 0, ISA, pin, io_apic, pin]);
    }
    // External interrupts, of which there are none, and NMI, to the two local pins of all.
    entry(&[4, 3, 0, 0, ISA, 0, 0xff, 0]);
    entry(&[4, 1, 0, 0, ISA, 0, 0xff, 1]);

    let mut table = Vec::with_capacity(44 + entries.len());
    table.extend_from_slice(b"PCMP");
    table.extend_from_slice(&(44 + entries.len() as u16).to_le_bytes());
    table.extend_from_slice(&[4, 0]); // version 1.4; the checksum comes last
    table.extend_from_slice(b"RINGSIDEVM          ");
    table.extend_from_slice(&[0; 6]); // no OEM table
    table.extend_from_slice(&count.to_le_bytes());
    table.extend_from_slice(&(LOCAL_APIC.0 as u32).to_le_bytes());
    table.extend_from_slice(&[0; 4]);
    table.extend_from_slice(&entries);
    table[7] = checksum(&table);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::linux::VirtioMmio;
    use crate::memory::Gpa;

    #[test]
    fn the_table_adds_up() {
        for processors in [1, 2, 255] {
            let table = table(&Platform {
                processors,
                virtio: vec![VirtioMmio {
                    address: Gpa(0xd000_0000),
                    line: PC_LINES + 2,
                }],
            });
            assert_eq!(checksum(&table), 0);
            assert_eq!(
                usize::from(u16::from_le_bytes([table[4], table[5]])),
                table.len()
            );
            let count = u16::from_le_bytes([table[34], table[35]]);
            assert_eq!(count, u16::from(processors) + 4 + u16::from(PC_LINES) + 1);
        }
    }
}

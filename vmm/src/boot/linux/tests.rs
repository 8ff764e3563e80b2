use super::*;
use crate::memory::{Layout, Pages};

fn memory(layout: Layout) -> GuestMemory {
    GuestMemory::with_layout(layout, Pages::Small).unwrap()
}

fn bytes(memory: &GuestMemory, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    memory.read(Gpa(at), &mut bytes).unwrap();
    bytes
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u32_at(memory: &GuestMemory, at: u64) -> u64 {
    memory.read_value::<u32>(Gpa(at)).unwrap().into()
}

fn u64_at(memory: &GuestMemory, at: u64) -> u64 {
    memory.read_value(Gpa(at)).unwrap()
}

/// The ACPI table there, after a look at its checksum.
fn table(memory: &GuestMemory, at: u64) -> Vec<u8> {
    let table = bytes(memory, at, u32_at(memory, at + 4));
    assert_eq!(sum(&table), 0, "the checksum of the table at {at:#x}");
    table
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn the_memory_map_covers_all_memory_once() {
    for memory_bytes in [16 << 20, 3 << 30, 5 << 30] {
        let memory = memory(Layout::linux(memory_bytes).unwrap());
        let map = memory_map(&memory);
        for two in map.windows(2) {
            assert!(two[0].start.0 + two[0].bytes <= two[1].start.0, "{two:?}");
        }
        let total: u64 = map.iter().map(|range| range.bytes).sum();
        assert_eq!(total, memory_bytes);
        let usable = |address| {
            let is_in = |range: &&Range| {
                range.kind == RangeKind::Usable
                    && (range.start.0..range.start.0 + range.bytes).contains(&address)
            };
            map.iter().any(|range| is_in(&range))
        };
        assert!(usable(0) && usable(map::KERNEL_MIN.0));
        for kept in [map::MP_POINTER, map::ACPI, map::MP_TABLE] {
            assert!(!usable(kept.0), "{kept}");
        }
        assert_eq!(usable(HIGH.0), memory_bytes > HOLE.0);
    }
}

#[test]
fn acpi_tables_lead_to_each_other_and_add_up() {
    let memory = memory(Layout::linux(16 << 20).unwrap());
    let platform = Platform {
        processors: 3,
        virtio: vec![VirtioMmio {
            address: Gpa(0xd000_0000),
            line: 5,
        }],
    };
    acpi::write(&memory, &platform).unwrap();
    let root = map::ACPI.0;
    assert_eq!(bytes(&memory, root, 8), b"RSD PTR ");
    assert_eq!(sum(&bytes(&memory, root, 20)), 0);
    assert_eq!(sum(&bytes(&memory, root, 36)), 0);
    let xsdt = u64_at(&memory, root + 24);
    assert_eq!(&table(&memory, xsdt)[..4], b"XSDT");
    let (fadt, madt) = (u64_at(&memory, xsdt + 36), u64_at(&memory, xsdt + 44));
    assert_eq!(&table(&memory, fadt)[..4], b"FACP");
    let madt = table(&memory, madt);
    assert_eq!(&madt[..4], b"APIC");
    // Three processors of eight bytes, and the I/O APIC, whose number is the next one.
    assert_eq!(madt.len(), 44 + 3 * 8 + 12);
    assert_eq!(madt[44 + 3 * 8 + 2], 3);
    let dsdt = table(&memory, u64_at(&memory, fadt + 140));
    assert_eq!(&dsdt[..4], b"DSDT");
    assert!(contains(&dsdt, b"COM1") && contains(&dsdt, b"LNRO0005"));
    assert!(contains(&dsdt, &0xd000_0000_u32.to_le_bytes()));
}

#[test]
fn a_description_that_has_no_room_is_refused() {
    let memory = memory(Layout::linux(16 << 20).unwrap());
    let device = VirtioMmio {
        address: Gpa(0xd000_0000),
        line: 5,
    };
    let platform = Platform {
        processors: 1,
        virtio: vec![device; 4000],
    };
    let error = acpi::write(&memory, &platform).unwrap_err();
    assert!(matches!(error, LinuxError::Tables { .. }), "{error}");
}

#[test]
fn devices_are_named_on_the_command_line() {
    let platform = Platform {
        processors: 1,
        virtio: vec![
            VirtioMmio {
                address: Gpa(0xd000_0000),
                line: 5,
            },
            VirtioMmio {
                address: Gpa(0xd000_1000),
                line: 6,
            },
        ],
    };
    assert_eq!(
        platform.command_line(),
        " virtio_mmio.device=4096@0xd0000000:5 virtio_mmio.device=4096@0xd0001000:6"
    );
}

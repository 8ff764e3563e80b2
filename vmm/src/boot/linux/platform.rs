//! The machine as the tables below 1 MiB describe it.

use crate::memory::Gpa;

/// Bytes of a virtio device's window.
pub const VIRTIO_WINDOW: u64 = 0x1000;

/// The first pin of the I/O APIC that no device of a PC is known by: a timer, a keyboard and serial
/// ports have those below.
pub const PC_LINES: u8 = 5;

/// A memory-mapped virtio device, as the guest is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioMmio {
    /// Its registers, [`VIRTIO_WINDOW`] bytes.
    pub address: Gpa,
    /// Its interrupt: a pin of the I/O APIC.
    pub line: u8,
}

/// What there is to describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Processors, numbered from 0 on by their local APICs.
    pub processors: u8,
    /// Devices that cannot be probed for.
    pub virtio: Vec<VirtioMmio>,
}

impl Platform {
    /// The I/O APIC's number: the first that no processor has.
    pub(super) fn io_apic_id(&self) -> u8 {
        self.processors
    }

    /// What a kernel without ACPI is told of the devices, on its command line.
    pub fn command_line(&self) -> String {
        let device = |device: &VirtioMmio| {
            format!(
                " virtio_mmio.device={VIRTIO_WINDOW}@{:#x}:{}",
                device.address.0, device.line
            )
        };
        self.virtio.iter().map(device).collect()
    }
}

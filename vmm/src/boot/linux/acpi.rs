//! ACPI tables: how a stock kernel learns of processors, the I/O APIC, the serial port and virtio
//! devices, for it has neither PCI to probe here nor (as distributions build it) an eye for MP tables
//! or for devices on its command line.
//!
//! ```text
//!   RSDP ──▶ XSDT ──┬─▶ FADT ──▶ DSDT: what there is, as bytecode
//!                   └─▶ MADT: processors and the I/O APIC
//! ```
//!
//! The machine is *hardware-reduced* (ACPI 6.5, 4.1): no PM timer, no 8259, no 8254, no SCI, so that a
//! kernel looks for none of them.

use super::{LinuxError, Platform, VIRTIO_WINDOW, map};
use crate::device::linux::SERIAL_LINE;
use crate::memory::layout::{IO_APIC, LOCAL_APIC};
use crate::memory::{Gpa, GuestMemory};
use acpi_tables::Aml;
use acpi_tables::aml::{
    self, Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, ResourceTemplate,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use ringside_abi::port::{I8042, SERIAL};

const OEM: [u8; 6] = *b"RINGSD";
const OEM_TABLE: [u8; 8] = *b"RINGSIDE";
const OEM_REVISION: u32 = 1;

/// The sleep control register's port; the status register is the next.
pub const POWER: u16 = 0x600;
/// The sleep type that means "off" here.
pub const SLEEP_S5: u8 = 5;

/// FADT, IA-PC boot architecture flags: no VGA to look for, and no need of the clock, for a kernel
/// with ACPI has KVM's.
const NO_VGA: u16 = 1 << 2;
const NO_CLOCK: u16 = 1 << 5;

/// Writes the root pointer at [`map::ACPI`] and the tables behind it.
pub(super) fn write(memory: &GuestMemory, platform: &Platform) -> Result<(), LinuxError> {
    let mut room = Room {
        memory,
        next: Gpa(map::ACPI.0 + Rsdp::len() as u64),
    };
    let dsdt = room.put(&dsdt(platform))?;
    let fadt = room.put(&fadt(dsdt))?;
    let madt = room.put(&madt(platform))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt.0);
    xsdt.add_entry(madt.0);
    let xsdt = room.put(&xsdt)?;
    memory.write(map::ACPI, &bytes(&Rsdp::new(OEM, xsdt.0)))?;
    Ok(())
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

struct Room<'m> {
    memory: &'m GuestMemory,
    next: Gpa,
}

impl Room<'_> {
    fn put(&mut self, table: &dyn Aml) -> Result<Gpa, LinuxError> {
        let bytes = bytes(table);
        let at = Gpa(self.next.0.next_multiple_of(16));
        let end = Gpa(at.0 + bytes.len() as u64);
        if end > map::ACPI_END {
            return Err(LinuxError::Tables {
                bytes: end.0 - map::ACPI.0,
            });
        }
        self.memory.write(at, &bytes)?;
        self.next = end;
        Ok(at)
    }
}

fn fadt(dsdt: Gpa) -> impl Aml {
    let port = |port: u16| {
        GAS::new(
            AddressSpace::SystemIo,
            8,
            0,
            AccessSize::ByteAccess,
            port.into(),
        )
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt.0)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = (NO_VGA | NO_CLOCK).into();
    fadt.sleep_control_reg = port(POWER);
    fadt.sleep_status_reg = port(POWER + 1);
    // The same write as by `reboot=k`.
    fadt.reset_reg = port(I8042);
    fadt.reset_value = 0xfe;
    fadt.finalize()
}

fn madt(platform: &Platform) -> impl Aml {
    let local = LocalInterruptController::Address(LOCAL_APIC.0 as u32);
    let mut madt = MADT::new(OEM, OEM_TABLE, OEM_REVISION, local);
    for index in 0..platform.processors {
        madt.add_structure(ProcessorLocalApic::new(
            index,
            index,
            EnabledStatus::Enabled,
        ));
    }
    madt.add_structure(IoApic::new(platform.io_apic_id(), IO_APIC.0 as u32, 0));
    madt
}

fn dsdt(platform: &Platform) -> impl Aml {
    let mut code = Vec::new();
    let port = IO::new(SERIAL, SERIAL, 1, 8);
    device(
        "_SB_.COM1",
        0,
        &EISAName::new("PNP0501"),
        &port,
        SERIAL_LINE,
        &mut code,
    );
    for (index, virtio) in platform.virtio.iter().enumerate() {
        let registers = Memory32Fixed::new(true, virtio.address.0 as u32, VIRTIO_WINDOW as u32);
        let name = format!("_SB_.V{index:03X}");
        device(
            &name,
            index,
            &"LNRO0005",
            &registers,
            virtio.line,
            &mut code,
        );
    }
    let off = Package::new(vec![&SLEEP_S5, &aml::ZERO, &aml::ZERO, &aml::ZERO]);
    Name::new("_S5_".into(), &off).to_aml_bytes(&mut code);

    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(&code);
    table
}

/// A device with its registers and its interrupt: edge-triggered, active high, its own.
fn device(
    path: &str,
    number: usize,
    kind: &dyn Aml,
    registers: &dyn Aml,
    line: u8,
    code: &mut Vec<u8>,
) {
    let interrupt = Interrupt::new(true, true, false, false, line.into());
    let resources = ResourceTemplate::new(vec![registers, &interrupt]);
    let kind = Name::new("_HID".into(), kind);
    let number = Name::new("_UID".into(), &number);
    // Its accesses to memory see what the processors' caches hold.
    let coherent = Name::new("_CCA".into(), &aml::ONE);
    let resources = Name::new("_CRS".into(), &resources);
    Device::new(path.into(), vec![&kind, &number, &coherent, &resources]).to_aml_bytes(code);
}

//! A Linux guest's devices, where Linux looks for them on a PC.

use super::io_apic::{self, IoApic};
use super::{Buses, Console, I8042, Interrupt, Overlap, Power, Rtc};
use crate::boot::linux::POWER;
use crate::memory::layout::IO_APIC;
use ringside_abi::port;

/// The first serial port's interrupt.
pub const SERIAL_LINE: u8 = 4;
const RTC: u64 = 0x70;

impl Buses {
    /// Serial console, keyboard controller, clock, power switch and I/O APIC.
    ///
    /// # Errors
    /// None, as long as nothing else is there.
    pub(crate) fn linux(io_apic: &IoApic, console: Console) -> Result<Buses, Overlap> {
        let mut buses = Buses::default();
        buses.ports.insert(port::SERIAL.into(), 8, console)?;
        buses.ports.insert(port::I8042.into(), 1, I8042)?;
        buses.ports.insert(RTC, 2, Rtc::default())?;
        buses.ports.insert(POWER.into(), 2, Power)?;
        buses
            .memory
            .insert(IO_APIC.0, io_apic::WINDOW, io_apic.clone())?;
        Ok(buses)
    }
}

/// The line of the serial port.
pub(crate) fn serial_line(io_apic: &IoApic) -> Interrupt {
    io_apic.line(SERIAL_LINE).expect("a pin of 24")
}

//! The power switch: ACPI's sleep control and status registers of a hardware-reduced machine
//! (ACPI 6.5, 4.8.3.7).
//!
//! ```text
//!   sleep control   7 6   5             4 … 2        1 0
//!                   –     sleep enable  sleep type   –
//! ```

use super::Device;
use crate::boot::linux::SLEEP_S5;
use crate::trap::{Reply, Stop, Width};

const ENABLE: u64 = 1 << 5;

/// The two registers, of a byte each.
#[derive(Clone, Copy, Debug)]
pub struct Power;

impl Device for Power {
    fn read(&mut self, _: u64, _: Width) -> Reply {
        Reply::Value(0)
    }

    fn write(&mut self, offset: u64, _: Width, value: u64) -> Reply {
        match offset {
            0 if value & ENABLE != 0 && value >> 2 & 7 == u64::from(SLEEP_S5) => {
                Reply::Stop(Stop::PoweredOff)
            }
            _ => Reply::Resume,
        }
    }
}

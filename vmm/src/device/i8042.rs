//! The keyboard controller, as far as it is still used: its line to the processor's reset pin.

use super::Device;
use crate::trap::{Reply, Stop, Width};

/// The command that pulses the reset line.
const RESET: u64 = 0xfe;

/// The controller's command register. Nothing is typed here: reads say "nothing pending".
#[derive(Clone, Copy, Debug)]
pub struct I8042;

impl Device for I8042 {
    fn read(&mut self, _: u64, _: Width) -> Reply {
        Reply::Value(0)
    }

    fn write(&mut self, _: u64, _: Width, value: u64) -> Reply {
        match value {
            RESET => Reply::Stop(Stop::Reset),
            _ => Reply::Resume,
        }
    }
}

//! The port by which a guest ends itself: one write, one exit status.

use super::Device;
use crate::trap::{Reply, Stop, Width};

/// A one-byte register that ends the guest.
#[derive(Clone, Copy, Debug)]
pub struct DebugExit;

impl Device for DebugExit {
    fn read(&mut self, _: u64, width: Width) -> Reply {
        Reply::Value(width.mask())
    }

    fn write(&mut self, _: u64, _: Width, value: u64) -> Reply {
        Reply::Stop(Stop::Exited(value as u8))
    }
}

//! A bare guest's devices, at the ports that guest and VMM agreed on.

use super::{Buses, DebugExit, Hypercalls, I8042, SerialPort, SharedOutput, Streams};
use crate::memory::GuestMemory;
use ringside_abi::port;

impl Buses {
    /// Serial line, exit port, reset line and hypercalls; nothing in memory.
    pub fn bare(memory: &GuestMemory, streams: Streams) -> Buses {
        let output = SharedOutput::new(streams.output);
        let hypercalls = Hypercalls::new(memory.clone(), streams.input, output.clone());
        let mut buses = Buses::default();
        buses
            .ports
            .insert(port::SERIAL.into(), 8, SerialPort::new(output))
            .and_then(|()| buses.ports.insert(port::DEBUG_EXIT.into(), 1, DebugExit))
            .and_then(|()| buses.ports.insert(port::I8042.into(), 1, I8042))
            .and_then(|()| buses.ports.insert(port::HYPERCALL.into(), 4, hypercalls))
            .expect("the map of ports has no overlap");
        buses
    }
}

//! A bare guest's devices, at the ports that guest and VMM agreed on.

use super::{Buses, DebugExit, Hypercalls, I8042, Interrupt, SerialPort, SharedOutput, Streams};
use crate::memory::GuestMemory;
use crate::virtio::{Console, Mmio, Transport};
use ringside_abi::{layout, port};
use std::io::{self, Read};
use std::sync::Arc;

impl Buses {
    /// Serial line, exit port, reset line and hypercalls; nothing in memory.
    pub fn bare(memory: &GuestMemory, streams: Streams) -> Buses {
        let output = SharedOutput::new(streams.output);
        Buses::with_output(memory, streams.input, output)
    }

    /// The same, and a virtio console whose output is the serial line's.
    ///
    /// # Errors
    /// The host has no descriptors for its queues.
    pub fn bare_with_console(memory: &GuestMemory, streams: Streams) -> io::Result<Buses> {
        let output = SharedOutput::new(streams.output);
        let (console, _) = Console::new(output.clone())?;
        // A bare driver looks for itself, and sees by the status that it broke a rule.
        let line = Interrupt::unconnected();
        let transport = Transport::new(console, memory.clone(), line, |_, _| {})?;
        let mut buses = Buses::with_output(memory, streams.input, output);
        buses.add_console(Mmio::new(Arc::new(transport)));
        Ok(buses)
    }

    fn add_console(&mut self, registers: Mmio) {
        self.memory
            .insert(layout::CONSOLE, layout::PAGE, registers)
            .expect("nothing else is in memory");
    }

    fn with_output(
        memory: &GuestMemory,
        input: Box<dyn Read + Send>,
        output: SharedOutput,
    ) -> Buses {
        let hypercalls = Hypercalls::new(memory.clone(), input, output.clone());
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

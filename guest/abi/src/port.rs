//! The ports that a bare guest may use. Ring 3 reaches them through the I/O bitmap of the
//! task-state segment; every other port faults there, and goes to the VMM from ring 0.

/// First port of the serial line (COM1, eight ports): one exit a byte.
pub const SERIAL: u16 = 0x3f8;
/// Writing a byte here ends the guest with that exit status.
pub const DEBUG_EXIT: u16 = 0xf4;
/// Writing the guest-physical address of a [`Request`](crate::hypercall::Request) as 32 bits makes
/// a hypercall: one exit a request, whatever its size.
pub const HYPERCALL: u16 = 0x500;
/// Keyboard controller: the byte 0xfe pulls the processor's reset line.
pub const I8042: u16 = 0x64;

/// The ports open to ring 3: `(first, count)`.
pub const OPEN_TO_RING3: [(u16, u16); 3] = [(SERIAL, 8), (DEBUG_EXIT, 1), (HYPERCALL, 4)];

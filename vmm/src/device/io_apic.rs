//! The I/O APIC: 24 pins, each with an entry that says which processor is interrupted, by which
//! vector (Intel 82093AA data sheet, 3.2).
//!
//! ```text
//!   redirection entry   63…56        55…17  16      15     14    13        12     11    10…8   7…0
//!                       destination  –      masked  level  IRR   polarity  status dest. mode   vector
//!                                                                                 mode
//!   message             address 0xfee0_0000 | destination << 12 | destination mode << 2
//!                       data    vector | mode << 8 | level << 15
//! ```
//!
//! The local APICs are in the kernel, and this one is here (a *split* interrupt controller): what it
//! has to say to them is a message, one system call (`KVM_SIGNAL_MSI`). An event file that the kernel
//! turns into the message (an *irqfd*) saves nothing: 0.7 to 1 µs for the call and 1.7 to 5 for the event
//! where ring 0 is emulated, 6 to 11 and 3 to 14 on an emulated AMD-V; and each time that a guest writes an
//! entry here the kernel's table of routes would change, which takes it 0.4 to 10 ms.
//!
//! All lines here are edge-triggered. An edge at a masked pin is remembered until it is unmasked.

use super::{Device, Interrupt};
use crate::trap::{Reply, Width};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many pins there are.
pub const PINS: u8 = 24;
/// Bytes of its registers, from [`IO_APIC`](crate::memory::layout::IO_APIC) on.
pub const WINDOW: u64 = 0x1000;

/// An interrupt as it travels to the local APICs (SDM vol. 3A, 11.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it is written: which processors.
    pub address: u32,
    /// What is written: which vector, delivered how.
    pub data: u32,
}

const MASKED: u64 = 1 << 16;
/// What a guest cannot write: delivery status and remote IRR.
const READ_ONLY: u64 = 1 << 12 | 1 << 14;
const VERSION: u32 = 0x11 | (PINS as u32 - 1) << 16;

struct State {
    id: u32,
    selected: u8,
    entries: [u64; PINS as usize],
    /// A bit for each masked pin at which an edge came.
    pending: u32,
}

/// The controller. Clones are the same one.
#[derive(Clone)]
pub struct IoApic(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    send: Box<dyn Fn(Message) + Send + Sync>,
}

impl IoApic {
    /// A controller, all of whose pins are masked, and whose messages `send` delivers.
    pub fn new(send: impl Fn(Message) + Send + Sync + 'static) -> IoApic {
        IoApic(Arc::new(Shared {
            state: Mutex::new(State {
                id: 0,
                selected: 0,
                entries: [MASKED; PINS as usize],
                pending: 0,
            }),
            send: Box::new(send),
        }))
    }

    /// The line to a pin; `None` if there is no such pin.
    pub fn line(&self, pin: u8) -> Option<Interrupt> {
        let controller = self.clone();
        (pin < PINS).then(|| Interrupt::new(move || controller.raise(pin)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, pin: u8) {
        let mut state = self.state();
        let entry = state.entries[usize::from(pin)];
        if entry & MASKED != 0 {
            state.pending |= 1 << pin;
            return;
        }
        drop(state);
        (self.0.send)(message(entry));
    }

    fn read_register(&self) -> u32 {
        let state = self.state();
        match state.selected {
            0 | 2 => state.id,
            1 => VERSION,
            register => match entry_half(register) {
                Some((pin, shift)) => (state.entries[pin] >> shift) as u32,
                None => 0,
            },
        }
    }

    fn write_register(&self, value: u32) {
        let mut state = self.state();
        match state.selected {
            0 => state.id = value & 0x0f00_0000,
            register => {
                let Some((pin, shift)) = entry_half(register) else {
                    return;
                };
                let old = state.entries[pin];
                let kept = old & (!(u64::from(u32::MAX) << shift) | READ_ONLY);
                let entry = kept | (u64::from(value) << shift & !READ_ONLY);
                state.entries[pin] = entry;
                if entry & MASKED == 0 && state.pending & 1 << pin != 0 {
                    state.pending &= !(1 << pin);
                    drop(state);
                    (self.0.send)(message(entry));
                }
            }
        }
    }
}

/// Which pin's entry a register is half of, and by how far its bits are shifted there.
fn entry_half(register: u8) -> Option<(usize, u32)> {
    let index = register.checked_sub(0x10)?;
    let pin = usize::from(index / 2);
    (pin < usize::from(PINS)).then_some((pin, u32::from(index % 2) * 32))
}

fn message(entry: u64) -> Message {
    let destination = (entry >> 56) as u32;
    let logical = (entry >> 11 & 1) as u32;
    Message {
        address: 0xfee0_0000 | destination << 12 | logical << 2,
        data: (entry & 0x7ff) as u32 | (entry & 1 << 15) as u32,
    }
}

impl Device for IoApic {
    fn read(&mut self, offset: u64, _: Width) -> Reply {
        Reply::Value(match offset {
            0 => self.state().selected.into(),
            0x10 => self.read_register().into(),
            _ => 0,
        })
    }

    fn write(&mut self, offset: u64, _: Width, value: u64) -> Reply {
        match offset {
            0 => self.state().selected = value as u8,
            0x10 => self.write_register(value as u32),
            // The end of a level-triggered interrupt, of which there are none.
            _ => {}
        }
        Reply::Resume
    }
}

impl fmt::Debug for IoApic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IoApic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller() -> (IoApic, Arc<Mutex<Vec<Message>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let sink = sent.clone();
        (
            IoApic::new(move |message| sink.lock().unwrap().push(message)),
            sent,
        )
    }

    fn write(controller: &mut IoApic, register: u8, value: u32) {
        controller.write(0, Width::Double, register.into());
        controller.write(0x10, Width::Double, value.into());
    }

    fn read(controller: &mut IoApic, register: u8) -> u64 {
        controller.write(0, Width::Double, register.into());
        match controller.read(0x10, Width::Double) {
            Reply::Value(value) => value,
            reply => panic!("{reply:?}"),
        }
    }

    #[test]
    fn an_edge_becomes_the_message_that_the_entry_says() {
        let (mut controller, sent) = controller();
        write(&mut controller, 0x10 + 2 * 4 + 1, 3 << 24);
        write(&mut controller, 0x10 + 2 * 4, 0x31);
        controller.line(4).unwrap().raise();
        write(&mut controller, 0x10 + 2 * 4, 0x31 | 1 << 11 | 1 << 8);
        controller.line(4).unwrap().raise();
        let message = |address, data| Message { address, data };
        assert_eq!(
            *sent.lock().unwrap(),
            [message(0xfee0_3000, 0x31), message(0xfee0_3004, 0x131),]
        );
    }

    #[test]
    fn an_edge_at_a_masked_pin_is_remembered_once() {
        let (mut controller, sent) = controller();
        let line = controller.line(23).unwrap();
        line.raise();
        line.raise();
        assert_eq!(sent.lock().unwrap().len(), 0);
        write(&mut controller, 0x10 + 2 * 23, 0x41);
        assert_eq!(sent.lock().unwrap().len(), 1);
        write(&mut controller, 0x10 + 2 * 23, 0x42);
        assert_eq!(sent.lock().unwrap().len(), 1);
    }

    #[test]
    fn whatever_a_guest_selects_and_writes_does_no_harm() {
        let (mut controller, _) = controller();
        assert!(controller.line(PINS).is_none());
        for register in 0..=u8::MAX {
            write(&mut controller, register, u32::MAX);
            read(&mut controller, register);
        }
        for offset in (0..WINDOW).step_by(4) {
            controller.read(offset, Width::Quad);
            controller.write(offset, Width::Quad, u64::MAX);
        }
        assert_eq!(read(&mut controller, 1), 0x17_0011);
        assert_eq!(
            read(&mut controller, 0x10),
            u64::from(u32::MAX) & !READ_ONLY
        );
    }
}

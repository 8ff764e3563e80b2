//! The registers of a virtio device in memory (virtio 1.2, 4.2, version 2), and what their driver
//! may do when:
//!
//! ```text
//!   0 ─▶ ACKNOWLEDGE ─▶ DRIVER ─▶ FEATURES_OK ─▶ (queues) ─▶ DRIVER_OK ══ the device serves
//!   ▲                   features: what both know            │
//!   └────────── reset: status 0 ◀───── DEVICE_NEEDS_RESET ◀─┴─ a rule broken, at any time
//! ```
//!
//! A pure structure: it is told of accesses and events, and tells its interrupt. The registers that
//! a running driver uses (notify, interrupt status and acknowledgement) take no lock, so that they
//! never wait for a device that is at work.

use super::line::Line;
use super::{Context, Event, Kind, Violation, VirtioDevice};
use crate::device::Interrupt;
use crate::memory::{Gpa, GuestMemory};
use crate::trap::Width;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER as DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK, VIRTIO_CONFIG_S_FAILED as FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::*;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// "virt", little-endian.
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// This version of the transport; version 1 is the legacy one.
const VERSION: u32 = 2;
/// "ring": who made the device.
const VENDOR: u32 = u32::from_le_bytes(*b"ring");

/// What the queues and this transport offer for every device.
const FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;

/// What a write means for the thread that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nothing.
    Same,
    /// The device is to serve from now on.
    Begins,
    /// It is not to, until it begins again.
    Ends,
}

/// A device's registers, and the device.
pub struct Transport {
    line: Line,
    kicks: Vec<EventFd>,
    kind: Kind,
    sources: Vec<RawFd>,
    state: Mutex<State>,
    complain: Box<Complain>,
}

/// Who is told what a driver did.
pub type Complain = dyn Fn(Kind, Violation) + Send + Sync;

struct State {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemory,
    queues: Vec<Queue>,
    rings: Vec<Rings>,
    status: u32,
    offered: u64,
    taken: u64,
    offered_select: u32,
    taken_select: u32,
    queue_select: u32,
    violation: Option<Violation>,
}

/// The registers of one queue that is not in use yet.
#[derive(Clone, Copy, Debug, Default)]
struct Rings {
    size: u32,
    descriptors: u64,
    available: u64,
    used: u64,
}

impl Transport {
    /// A device that reads and writes `memory` and raises `interrupt`; `complain` is told of what
    /// its driver did wrong.
    ///
    /// # Errors
    /// The host has no descriptors for its queues.
    pub fn new(
        device: impl VirtioDevice + 'static,
        memory: GuestMemory,
        interrupt: Interrupt,
        complain: impl Fn(Kind, Violation) + Send + Sync + 'static,
    ) -> io::Result<Transport> {
        let sizes = device.queue_sizes().to_vec();
        let new = |&size: &u16| Queue::new(size).expect("a device's queues are powers of two");
        Ok(Transport {
            line: Line::new(interrupt),
            kicks: sizes
                .iter()
                .map(|_| EventFd::new(EFD_NONBLOCK))
                .collect::<io::Result<_>>()?,
            kind: device.kind(),
            sources: device.sources(),
            state: Mutex::new(State {
                queues: sizes.iter().map(new).collect(),
                rings: vec![Rings::default(); sizes.len()],
                status: 0,
                offered: FEATURES | device.features(),
                taken: 0,
                offered_select: 0,
                taken_select: 0,
                queue_select: 0,
                violation: None,
                device: Box::new(device),
                memory,
            }),
            complain: Box::new(complain),
        })
    }

    /// What the device is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// For each queue, where the driver's notifications arrive.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    /// What else wakes the device.
    pub(super) fn sources(&self) -> &[RawFd] {
        &self.sources
    }

    /// The rule that its driver broke, if the device waits to be reset because of that.
    pub fn violation(&self) -> Option<Violation> {
        self.state().violation
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the device serve; whether it will serve again.
    pub fn serve(&self, event: Event) -> bool {
        let mut state = self.state();
        if state.status & (DRIVER_OK | NEEDS_RESET) != DRIVER_OK {
            return false;
        }
        let State {
            device,
            memory,
            queues,
            taken,
            ..
        } = &mut *state;
        let mut context = Context {
            memory,
            queues,
            line: &self.line,
            features: *taken,
            kicks: &self.kicks,
        };
        match device.serve(event, &mut context) {
            Ok(()) => true,
            Err(violation) => {
                self.need_reset(&mut state, violation);
                false
            }
        }
    }

    /// Has the device serve every queue whose driver notified it, without a thread.
    pub fn poll(&self) {
        for (queue, kick) in self.kicks.iter().enumerate() {
            if kick.read().is_ok() {
                self.serve(Event::Queue(queue));
            }
        }
    }

    /// The device stops until its driver resets it, which it is told about.
    fn need_reset(&self, state: &mut State, violation: Violation) {
        state.status |= NEEDS_RESET;
        state.violation = Some(violation);
        (self.complain)(self.kind, violation);
        if state.status & DRIVER_OK != 0 {
            self.line.changed();
        }
    }

    /// The same, for a failure of the host's.
    pub(super) fn fail(&self, violation: Violation) {
        self.need_reset(&mut self.state(), violation);
    }

    /// The driver reads.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let Ok(offset) = u32::try_from(offset) else {
            return 0;
        };
        if let Some(at) = offset.checked_sub(VIRTIO_MMIO_CONFIG) {
            return config_value(&self.state().device.config(), at as usize, width);
        }
        if width != Width::Double {
            return 0;
        }
        let value = match offset {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => self.kind.id,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_INTERRUPT_STATUS => self.line.status.load(Ordering::SeqCst),
            VIRTIO_MMIO_CONFIG_GENERATION => self.line.generation.load(Ordering::SeqCst),
            // There is no shared memory, which its length says (4.2.2).
            VIRTIO_MMIO_SHM_LEN_LOW | VIRTIO_MMIO_SHM_LEN_HIGH => u32::MAX,
            VIRTIO_MMIO_SHM_BASE_LOW | VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            _ => self.state().read(offset),
        };
        value.into()
    }

    /// The driver writes.
    pub fn write(&self, offset: u64, width: Width, value: u64) -> Life {
        let Ok(offset) = u32::try_from(offset) else {
            return Life::Same;
        };
        if let Some(at) = offset.checked_sub(VIRTIO_MMIO_CONFIG) {
            let bytes = value.to_le_bytes();
            let device = &mut self.state().device;
            device.write_config(at as usize, &bytes[..width.bytes()]);
            return Life::Same;
        }
        if width != Width::Double {
            return Life::Same;
        }
        let value = value as u32;
        match offset {
            VIRTIO_MMIO_QUEUE_NOTIFY => {
                if let Some(kick) = self.kicks.get(value as usize) {
                    // Fails only when it holds 2^64 - 2 kicks.
                    let _ = kick.write(1);
                }
                Life::Same
            }
            VIRTIO_MMIO_INTERRUPT_ACK => {
                self.line.status.fetch_and(!value, Ordering::SeqCst);
                Life::Same
            }
            VIRTIO_MMIO_STATUS if value == 0 => {
                self.reset();
                Life::Ends
            }
            VIRTIO_MMIO_STATUS => {
                let mut state = self.state();
                let result = state.advance(value);
                self.judged(&mut state, result)
            }
            _ => {
                let mut state = self.state();
                let result = state.write(offset, value).map(|()| Life::Same);
                self.judged(&mut state, result)
            }
        }
    }

    fn judged(&self, state: &mut State, result: Result<Life, Violation>) -> Life {
        result.unwrap_or_else(|violation| {
            self.need_reset(state, violation);
            Life::Ends
        })
    }

    fn reset(&self) {
        let mut state = self.state();
        state.status = 0;
        state.taken = 0;
        state.violation = None;
        (state.offered_select, state.taken_select) = (0, 0);
        state.queue_select = 0;
        state.queues.iter_mut().for_each(QueueT::reset);
        state.rings.fill(Rings::default());
        state.device.reset();
        for kick in &self.kicks {
            // Fails when there is none to forget.
            let _ = kick.read();
        }
        self.line.status.store(0, Ordering::SeqCst);
    }
}

impl State {
    fn read(&self, offset: u32) -> u32 {
        let queue = self.queues.get(self.queue_select as usize);
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES => half(self.offered, self.offered_select),
            VIRTIO_MMIO_QUEUE_NUM_MAX => queue.map_or(0, |queue| queue.max_size().into()),
            VIRTIO_MMIO_QUEUE_READY => queue.is_some_and(QueueT::ready).into(),
            VIRTIO_MMIO_STATUS => self.status,
            _ => 0,
        }
    }

    /// The driver takes the next step.
    fn advance(&mut self, to: u32) -> Result<Life, Violation> {
        let from = self.status;
        let new = to & !from;
        // Bits stay (2.1.1), and each wants those before it.
        let wrong = Violation::Status { from, to };
        if from & !(to | NEEDS_RESET) != 0 || new & NEEDS_RESET != 0 {
            return Err(wrong);
        }
        let mut life = Life::Same;
        if new & FEATURES_OK != 0 {
            let features = self.taken & !self.offered;
            if features != 0 {
                return Err(Violation::Features { features });
            }
            if self.taken & 1 << VIRTIO_F_VERSION_1 == 0 {
                // Not wrong, but not for us: the bit stays clear, and the driver sees that (3.1.1).
                self.status |= to & !FEATURES_OK;
                return Ok(Life::Same);
            }
        }
        if new & DRIVER_OK != 0 && new & FAILED == 0 {
            let before = ACKNOWLEDGE | DRIVER | FEATURES_OK;
            if from & before != before || from & NEEDS_RESET != 0 {
                return Err(wrong);
            }
            let event_idx = self.taken & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
            for queue in &mut self.queues {
                queue.set_event_idx(event_idx);
            }
            life = Life::Begins;
        }
        self.status |= to;
        Ok(life)
    }

    fn write(&mut self, offset: u32, value: u32) -> Result<(), Violation> {
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.offered_select = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.taken_select = value,
            VIRTIO_MMIO_DRIVER_FEATURES => {
                if self.status & FEATURES_OK != 0 {
                    let (from, to) = (self.status, self.status);
                    return Err(Violation::Status { from, to });
                }
                set_half(&mut self.taken, self.taken_select, value);
            }
            VIRTIO_MMIO_QUEUE_SEL => self.queue_select = value,
            _ => return self.write_queue(offset, value),
        }
        Ok(())
    }

    fn write_queue(&mut self, offset: u32, value: u32) -> Result<(), Violation> {
        let queue = self.queue_select as usize;
        let (Some(ring), Some(registers)) = (self.queues.get_mut(queue), self.rings.get_mut(queue))
        else {
            return Ok(());
        };
        let (field, part) = match offset {
            VIRTIO_MMIO_QUEUE_READY => return self.set_ready(queue, value),
            VIRTIO_MMIO_QUEUE_NUM => {
                registers.size = value;
                return match ring.ready() {
                    true => Err(Violation::Running { queue }),
                    false => Ok(()),
                };
            }
            VIRTIO_MMIO_QUEUE_DESC_LOW => (&mut registers.descriptors, 0),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => (&mut registers.descriptors, 1),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => (&mut registers.available, 0),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => (&mut registers.available, 1),
            VIRTIO_MMIO_QUEUE_USED_LOW => (&mut registers.used, 0),
            VIRTIO_MMIO_QUEUE_USED_HIGH => (&mut registers.used, 1),
            // Registers that there are not, or that cannot be written.
            _ => return Ok(()),
        };
        if ring.ready() {
            return Err(Violation::Running { queue });
        }
        set_half(field, part, value);
        Ok(())
    }

    /// Puts a queue into use, if it lies in memory; or takes it out.
    fn set_ready(&mut self, queue: usize, value: u32) -> Result<(), Violation> {
        let (ring, registers) = (&mut self.queues[queue], self.rings[queue]);
        match (value, ring.ready()) {
            (0, _) => {
                ring.set_ready(false);
                return Ok(());
            }
            (1, false) if self.status & DRIVER_OK == 0 => {}
            (1, true) => return Ok(()),
            _ => return Err(Violation::Running { queue }),
        }
        let max = ring.max_size();
        let size = u16::try_from(registers.size).ok();
        size.and_then(|size| ring.try_set_size(size).ok())
            .ok_or(Violation::Size {
                queue,
                size: registers.size,
                max,
            })?;
        let length = u64::from(ring.size());
        // 2.7: each part's length, and by how much it is aligned.
        for (part, address, bytes, align) in [
            ("descriptors", registers.descriptors, 16 * length, 16),
            ("available ring", registers.available, 6 + 2 * length, 2),
            ("used ring", registers.used, 6 + 8 * length, 4),
        ] {
            let aligned = address.is_multiple_of(align) && address != 0;
            if !aligned || !self.memory.contains(Gpa(address), bytes) {
                return Err(Violation::Ring {
                    queue,
                    part,
                    address,
                });
            }
        }
        let placed = ring
            .try_set_desc_table_address(GuestAddress(registers.descriptors))
            .and_then(|()| ring.try_set_avail_ring_address(GuestAddress(registers.available)))
            .and_then(|()| ring.try_set_used_ring_address(GuestAddress(registers.used)));
        debug_assert!(placed.is_ok(), "aligned, as was checked");
        ring.set_next_avail(0);
        ring.set_next_used(0);
        ring.set_ready(true);
        Ok(())
    }
}

/// One half of a register of 64 bits that is read through a window of 32.
fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

fn set_half(register: &mut u64, select: u32, value: u32) {
    match select {
        0 => *register = *register & !0xffff_ffff | u64::from(value),
        1 => *register = *register & 0xffff_ffff | u64::from(value) << 32,
        // There are no features there to take.
        _ => {}
    }
}

/// What a driver reads of a configuration; zeros behind its end.
fn config_value(config: &[u8], at: usize, width: Width) -> u64 {
    let mut value = [0; 8];
    let there = config.get(at..).unwrap_or_default();
    let count = there.len().min(width.bytes());
    value[..count].copy_from_slice(&there[..count]);
    u64::from_le_bytes(value)
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("kind", &self.kind)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

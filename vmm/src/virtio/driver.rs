//! A driver for tests: it does what a guest's would, or lies.

use super::{Kind, Transport, Violation, VirtioDevice};
use crate::device::Interrupt;
use crate::memory::{Gpa, GuestMemory};
use crate::trap::Width;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use virtio_bindings::virtio_mmio::*;
use virtio_bindings::virtio_ring::*;

/// How much memory it has.
pub const MEMORY_BYTES: u64 = 4 << 20;
/// Each queue's rings have a page each for descriptors, available and used ring.
const RINGS: u64 = 0x1_0000;
const BUFFERS: u64 = 0x10_0000;
/// How long its queues are.
pub const LENGTH: u16 = 16;

pub const NEXT: u16 = VRING_DESC_F_NEXT as u16;
pub const WRITE: u16 = VRING_DESC_F_WRITE as u16;
pub const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// A driver with its own memory.
pub struct Driver {
    pub transport: Arc<Transport>,
    pub memory: GuestMemory,
    pub interrupts: Arc<AtomicU64>,
    pub complaints: Arc<Mutex<Vec<Violation>>>,
    available: Vec<u16>,
    seen: Vec<u16>,
    next_buffer: u64,
}

impl Driver {
    /// A device that nobody has touched.
    pub fn idle(device: impl VirtioDevice + 'static) -> Driver {
        let memory = GuestMemory::new(MEMORY_BYTES).unwrap();
        Driver::over(device, memory)
    }

    pub fn over(device: impl VirtioDevice + 'static, memory: GuestMemory) -> Driver {
        let interrupts = Arc::new(AtomicU64::new(0));
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let (count, list) = (interrupts.clone(), complaints.clone());
        let raise = Interrupt::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let complain = move |_: Kind, violation| list.lock().unwrap().push(violation);
        let queues = device.queue_sizes().len();
        let transport = Transport::new(device, memory.clone(), raise, complain).unwrap();
        Driver {
            transport: Arc::new(transport),
            memory,
            interrupts,
            complaints,
            available: vec![0; queues],
            seen: vec![0; queues],
            next_buffer: BUFFERS,
        }
    }

    /// A device that runs, with all the features that it offers but `without`.
    pub fn running(device: impl VirtioDevice + 'static, without: u64) -> Driver {
        let mut driver = Driver::idle(device);
        driver.negotiate(without);
        driver.queues();
        driver.write(VIRTIO_MMIO_STATUS, 15);
        assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 15);
        driver
    }

    pub fn read(&self, register: u32) -> u32 {
        self.transport.read(register.into(), Width::Double) as u32
    }

    pub fn write(&self, register: u32, value: u32) {
        self.transport
            .write(register.into(), Width::Double, value.into());
    }

    pub fn offered(&self) -> u64 {
        let half = |select| {
            self.write(VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
            u64::from(self.read(VIRTIO_MMIO_DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    pub fn take(&self, features: u64) {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            self.write(VIRTIO_MMIO_DRIVER_FEATURES, half);
        }
    }

    /// Up to `FEATURES_OK`.
    pub fn negotiate(&self, without: u64) {
        self.write(VIRTIO_MMIO_STATUS, 0);
        self.write(VIRTIO_MMIO_STATUS, 1);
        self.write(VIRTIO_MMIO_STATUS, 3);
        self.take(self.offered() & !without);
        self.write(VIRTIO_MMIO_STATUS, 11);
        assert_eq!(self.read(VIRTIO_MMIO_STATUS), 11);
    }

    /// Where a queue's descriptors, available ring and used ring are.
    pub fn rings(queue: usize) -> [u64; 3] {
        let start = RINGS + queue as u64 * 0x3000;
        [start, start + 0x1000, start + 0x2000]
    }

    pub fn queues(&mut self) {
        for queue in 0..self.available.len() {
            self.write(VIRTIO_MMIO_QUEUE_SEL, queue as u32);
            let length = self.read(VIRTIO_MMIO_QUEUE_NUM_MAX).min(LENGTH.into());
            self.write(VIRTIO_MMIO_QUEUE_NUM, length);
            let registers = [
                VIRTIO_MMIO_QUEUE_DESC_LOW,
                VIRTIO_MMIO_QUEUE_AVAIL_LOW,
                VIRTIO_MMIO_QUEUE_USED_LOW,
            ];
            for (register, address) in registers.into_iter().zip(Driver::rings(queue)) {
                self.write(register, address as u32);
                self.write(register + 4, (address >> 32) as u32);
                self.memory.write(Gpa(address), &[0; 0x1000]).unwrap();
            }
            self.write(VIRTIO_MMIO_QUEUE_READY, 1);
            assert_eq!(self.read(VIRTIO_MMIO_QUEUE_READY), 1);
            (self.available[queue], self.seen[queue]) = (0, 0);
        }
    }

    /// A descriptor, whatever it says.
    pub fn descriptor(
        &self,
        queue: usize,
        index: u16,
        address: u64,
        bytes: u32,
        flags: u16,
        next: u16,
    ) {
        let at = Driver::rings(queue)[0] + u64::from(index) * 16;
        let raw = [
            &address.to_le_bytes()[..],
            &bytes.to_le_bytes(),
            &flags.to_le_bytes(),
            &next.to_le_bytes(),
        ];
        self.memory.write(Gpa(at), &raw.concat()).unwrap();
    }

    /// Makes a chain available, without a notification.
    pub fn offer(&mut self, queue: usize, head: u16) {
        let ring = Driver::rings(queue)[1];
        let slot = u64::from(self.available[queue] % LENGTH);
        self.memory
            .write_value(Gpa(ring + 4 + 2 * slot), head)
            .unwrap();
        self.available[queue] = self.available[queue].wrapping_add(1);
        self.memory
            .write_value(Gpa(ring + 2), self.available[queue])
            .unwrap();
    }

    pub fn notify(&self, queue: usize) {
        self.write(VIRTIO_MMIO_QUEUE_NOTIFY, queue as u32);
        self.transport.poll();
    }

    /// Room for a buffer.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        if self.next_buffer + bytes as u64 > MEMORY_BYTES {
            self.next_buffer = BUFFERS;
        }
        let at = self.next_buffer;
        self.next_buffer += (bytes as u64).next_multiple_of(64);
        at
    }

    /// Makes a request of these buffers available; where those for the device to write are.
    pub fn put(&mut self, queue: usize, readable: &[&[u8]], writable: &[usize]) -> Vec<u64> {
        let count = readable.len() + writable.len();
        let mut index = 0;
        let first = 0;
        let mut places = Vec::new();
        for bytes in readable {
            let at = self.allocate(bytes.len());
            self.memory.write(Gpa(at), bytes).unwrap();
            let flags = if index + 1 < count { NEXT } else { 0 };
            let here = first + index as u16;
            self.descriptor(queue, here, at, bytes.len() as u32, flags, here + 1);
            index += 1;
        }
        for &bytes in writable {
            let at = self.allocate(bytes);
            let flags = WRITE | if index + 1 < count { NEXT } else { 0 };
            let here = first + index as u16;
            self.descriptor(queue, here, at, bytes as u32, flags, here + 1);
            places.push(at);
            index += 1;
        }
        self.offer(queue, first);
        places
    }

    /// The next used element, if there is one: the head and how many bytes were written.
    pub fn used(&mut self, queue: usize) -> Option<(u32, u32)> {
        let ring = Driver::rings(queue)[2];
        let index: u16 = self.memory.read_value(Gpa(ring + 2)).unwrap();
        if index == self.seen[queue] {
            return None;
        }
        let slot = u64::from(self.seen[queue] % LENGTH);
        self.seen[queue] = self.seen[queue].wrapping_add(1);
        let element: [u32; 2] = self.memory.read_value(Gpa(ring + 4 + 8 * slot)).unwrap();
        Some((element[0], element[1]))
    }

    /// A whole request: what was written to each of the buffers, and how much the device says.
    pub fn request(
        &mut self,
        queue: usize,
        readable: &[&[u8]],
        writable: &[usize],
    ) -> (u32, Vec<Vec<u8>>) {
        let places = self.put(queue, readable, writable);
        self.notify(queue);
        let (head, written) = self.used(queue).expect("the device served it");
        assert_eq!(head, 0);
        let buffers = places.iter().zip(writable).map(|(&at, &bytes)| {
            let mut buffer = vec![0; bytes];
            self.memory.read(Gpa(at), &mut buffer).unwrap();
            buffer
        });
        (written, buffers.collect())
    }

    /// What the driver did wrong, of which it was told by a status and an interrupt.
    pub fn judged(&self) -> Option<Violation> {
        let status = self.read(VIRTIO_MMIO_STATUS);
        let violation = self.transport.violation();
        assert_eq!(status & 64 != 0, violation.is_some());
        assert_eq!(self.complaints.lock().unwrap().last().copied(), violation);
        violation
    }
}

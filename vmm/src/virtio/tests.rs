//! The transport, with drivers that tell the truth and drivers that do not.

use super::driver::{Driver, INDIRECT, LENGTH, MEMORY_BYTES, NEXT, WRITE};
use super::*;
use crate::device::Device;
use crate::memory::Gpa;
use crate::trap::{Reply, Width};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use virtio_bindings::virtio_mmio::*;

/// Writes what it reads into what it can write.
#[derive(Debug, Default)]
struct Echo {
    config: [u8; 5],
}

impl VirtioDevice for Echo {
    fn kind(&self) -> Kind {
        Kind {
            id: 42,
            name: "echo",
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 8]
    }

    fn features(&self) -> u64 {
        0b101
    }

    fn config(&self) -> Vec<u8> {
        self.config.to_vec()
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            if let Some(place) = self.config.get_mut(at) {
                *place = *byte;
            }
        }
    }

    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation> {
        let Event::Queue(queue) = event else {
            return Ok(());
        };
        context.drain(queue, |mut chain| {
            let mut bytes = vec![0; chain.readable.bytes().min(1 << 16)];
            chain.readable.read(&mut bytes);
            Ok(Some(chain.writable.write(&bytes)))
        })
    }
}

fn echo() -> Driver {
    Driver::running(Echo::default(), 0)
}

#[test]
fn a_driver_finds_the_device_and_negotiates() {
    let driver = Driver::idle(Echo::default());
    assert_eq!(driver.read(VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
    assert_eq!(driver.read(VIRTIO_MMIO_VERSION), 2);
    assert_eq!(driver.read(VIRTIO_MMIO_DEVICE_ID), 42);
    assert_eq!(driver.offered(), 1 << 32 | 1 << 29 | 1 << 28 | 0b101);
    driver.write(VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(driver.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 8);
    driver.write(VIRTIO_MMIO_QUEUE_SEL, 2);
    assert_eq!(driver.read(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    driver.negotiate(0b100);
    assert_eq!(driver.judged(), None);
}

#[test]
fn without_version_1_features_are_not_ok() {
    let driver = Driver::idle(Echo::default());
    driver.write(VIRTIO_MMIO_STATUS, 3);
    driver.take(0b1);
    driver.write(VIRTIO_MMIO_STATUS, 11);
    assert_eq!(driver.read(VIRTIO_MMIO_STATUS), 3);
    assert_eq!(driver.judged(), None);
}

#[test]
fn requests_are_served_and_each_is_an_interrupt() {
    let mut driver = echo();
    for round in 0..100u8 {
        let (written, buffers) = driver.request(0, &[b"hello", &[round]], &[2, 10]);
        assert_eq!(written, 6);
        assert_eq!(buffers[0], b"he");
        assert_eq!(&buffers[1][..4], [b'l', b'l', b'o', round]);
        driver.write(VIRTIO_MMIO_INTERRUPT_ACK, 1);
    }
    // With EVENT_IDX the driver asked for the first only: it never moved `used_event` on.
    assert_eq!(driver.interrupts.load(Ordering::SeqCst), 1);
    let mut driver = Driver::running(Echo::default(), 1 << 29);
    for _ in 0..100 {
        driver.request(0, &[b"hello"], &[5]);
        assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
        driver.write(VIRTIO_MMIO_INTERRUPT_ACK, 1);
        assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    }
    assert_eq!(driver.interrupts.load(Ordering::SeqCst), 100);
}

#[test]
fn an_indirect_table_is_followed() {
    let mut driver = echo();
    let (table, from, to) = (0x20_0000, 0x20_1000u64, 0x20_2000u64);
    let entry = |address: u64, bytes: u32, flags: u16, next: u16| {
        let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
        [address, rest]
    };
    driver.memory.write(Gpa(from), b"indirect").unwrap();
    driver
        .memory
        .write_value(Gpa(table), entry(from, 8, NEXT, 1))
        .unwrap();
    driver
        .memory
        .write_value(Gpa(table + 16), entry(to, 8, WRITE, 0))
        .unwrap();
    driver.descriptor(0, 3, table, 32, INDIRECT, 0);
    driver.offer(0, 3);
    driver.notify(0);
    assert_eq!(driver.used(0), Some((3, 8)));
    let mut bytes = [0; 8];
    driver.memory.read(Gpa(to), &mut bytes).unwrap();
    assert_eq!(&bytes, b"indirect");
}

#[test]
fn a_reset_makes_everything_new() {
    let mut driver = echo();
    driver.request(0, &[b"x"], &[1]);
    driver.write(VIRTIO_MMIO_STATUS, 0);
    for register in [
        VIRTIO_MMIO_STATUS,
        VIRTIO_MMIO_QUEUE_READY,
        VIRTIO_MMIO_INTERRUPT_STATUS,
    ] {
        assert_eq!(driver.read(register), 0);
    }
    driver.put(0, &[b"x"], &[1]);
    driver.notify(0);
    assert_eq!(driver.used(0), None);
    driver.negotiate(0);
    driver.queues();
    driver.write(VIRTIO_MMIO_STATUS, 15);
    let (written, _) = driver.request(0, &[b"xyz"], &[3]);
    assert_eq!(written, 3);
}

#[test]
fn the_configuration_is_read_and_written_at_any_width() {
    let driver = echo();
    let at = |offset: u32| u64::from(VIRTIO_MMIO_CONFIG + offset);
    driver.transport.write(at(0), Width::Double, 0x0403_0201);
    driver.transport.write(at(4), Width::Word, 0xff05);
    driver.transport.write(at(100), Width::Quad, u64::MAX);
    assert_eq!(driver.transport.read(at(0), Width::Quad), 0x05_0403_0201);
    assert_eq!(driver.transport.read(at(3), Width::Byte), 4);
    assert_eq!(driver.transport.read(at(4), Width::Double), 5);
    assert_eq!(driver.transport.read(at(0xe00), Width::Double), 0);
}

/// Does something to a running echo, and expects to be caught.
fn caught(lie: impl FnOnce(&mut Driver)) -> Violation {
    let mut driver = echo();
    lie(&mut driver);
    let before = driver.interrupts.load(Ordering::SeqCst);
    driver.notify(0);
    let violation = driver.judged().expect("the device needs a reset");
    assert!(before > 0 || driver.interrupts.load(Ordering::SeqCst) > 0);
    assert_eq!(driver.read(VIRTIO_MMIO_INTERRUPT_STATUS) & 2, 2);
    // It serves nobody until then, and everybody afterwards.
    driver.offer(0, 0);
    driver.notify(0);
    assert_eq!(driver.used(0), None);
    driver.negotiate(0);
    driver.queues();
    driver.write(VIRTIO_MMIO_STATUS, 15);
    driver.request(0, &[b"x"], &[1]);
    violation
}

fn broken(lie: impl FnOnce(&mut Driver)) -> Broken {
    match caught(lie) {
        Violation::Chain { broken, .. } => broken,
        other => panic!("{other}"),
    }
}

#[test]
fn chains_that_are_none_are_caught() {
    let loops = broken(|driver| {
        driver.descriptor(0, 0, 0x1000, 1, NEXT, 1);
        driver.descriptor(0, 1, 0x1000, 1, NEXT, 0);
        driver.offer(0, 0);
    });
    assert_eq!(loops, Broken::Endless);
    let leaves = broken(|driver| {
        driver.descriptor(0, 0, 0x1000, 1, NEXT, LENGTH);
        driver.offer(0, 0);
    });
    assert_eq!(leaves, Broken::Endless);
    assert_eq!(broken(|driver| driver.offer(0, LENGTH)), Broken::Head);
    let outside = broken(|driver| {
        driver.descriptor(0, 0, MEMORY_BYTES - 1, 2, 0, 0);
        driver.offer(0, 0);
    });
    let (address, bytes) = (MEMORY_BYTES - 1, 2);
    assert_eq!(outside, Broken::Outside { address, bytes });
    let wraps = broken(|driver| {
        driver.descriptor(0, 0, u64::MAX, 2, WRITE, 0);
        driver.offer(0, 0);
    });
    assert!(matches!(wraps, Broken::Outside { .. }));
    let empty = broken(|driver| {
        driver.descriptor(0, 0, 0x1000, 0, 0, 0);
        driver.offer(0, 0);
    });
    assert_eq!(empty, Broken::Empty);
    let order = broken(|driver| {
        driver.descriptor(0, 0, 0x1000, 1, NEXT | WRITE, 1);
        driver.descriptor(0, 1, 0x1000, 1, 0, 0);
        driver.offer(0, 0);
    });
    assert_eq!(order, Broken::Order);
}

#[test]
fn indirect_tables_that_are_none_are_caught() {
    for bytes in [0, 15, 17, u32::MAX, 16 * 65536] {
        let table = broken(|driver| {
            driver.descriptor(0, 0, 0x20_0000, bytes, INDIRECT, 0);
            driver.offer(0, 0);
        });
        assert_eq!(table, Broken::Head, "{bytes}");
    }
    let nowhere = broken(|driver| {
        driver.descriptor(0, 0, 1 << 60, 32, INDIRECT, 0);
        driver.offer(0, 0);
    });
    assert_eq!(nowhere, Broken::Head);
    // A table of more entries than the queue has, each of them in order.
    let long = broken(|driver| {
        for index in 0..64u64 {
            let flags = if index < 63 { NEXT } else { 0 };
            let rest = 1 | u64::from(flags) << 32 | (index + 1) << 48;
            let entry = [0x1000, rest];
            let at = Gpa(0x20_0000 + 16 * index);
            driver.memory.write_value(at, entry).unwrap();
        }
        driver.descriptor(0, 0, 0x20_0000, 64 * 16, INDIRECT, 0);
        driver.offer(0, 0);
    });
    assert_eq!(long, Broken::Long);
    let nested = broken(|driver| {
        let rest = 16 | u64::from(INDIRECT) << 32;
        driver
            .memory
            .write_value(Gpa(0x20_0000), [0x20_0000, rest])
            .unwrap();
        driver.descriptor(0, 0, 0x20_0000, 16, INDIRECT, 0);
        driver.offer(0, 0);
    });
    assert_eq!(nested, Broken::Head);
}

#[test]
fn a_ring_that_jumps_is_caught() {
    let wrapped = caught(|driver| {
        let ring = Driver::rings(0)[1];
        driver
            .memory
            .write_value(Gpa(ring + 2), LENGTH + 1)
            .unwrap();
    });
    assert_eq!(wrapped, Violation::Wrapped { queue: 0 });
}

#[test]
fn a_queue_that_changes_while_it_runs_is_caught() {
    for register in [
        VIRTIO_MMIO_QUEUE_NUM,
        VIRTIO_MMIO_QUEUE_DESC_LOW,
        VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
        VIRTIO_MMIO_QUEUE_USED_LOW,
    ] {
        let running = caught(|driver| {
            driver.write(VIRTIO_MMIO_QUEUE_SEL, 1);
            driver.write(register, 0x1000);
        });
        assert_eq!(running, Violation::Running { queue: 1 });
    }
    let back = caught(|driver| {
        driver.write(VIRTIO_MMIO_QUEUE_SEL, 0);
        driver.write(VIRTIO_MMIO_QUEUE_READY, 0);
        assert_eq!(driver.judged(), None, "a queue may be stopped");
        driver.write(VIRTIO_MMIO_QUEUE_READY, 1);
    });
    assert_eq!(back, Violation::Running { queue: 0 });
}

#[test]
fn steps_out_of_order_are_caught() {
    let to_status = |steps: &[u32]| {
        let driver = Driver::idle(Echo::default());
        driver.take(1 << 32);
        steps
            .iter()
            .for_each(|&step| driver.write(VIRTIO_MMIO_STATUS, step));
        driver.judged()
    };
    assert_eq!(to_status(&[1, 3, 11]), None);
    assert_eq!(
        to_status(&[15]),
        Some(Violation::Status { from: 0, to: 15 })
    );
    assert_eq!(
        to_status(&[1, 3, 7]),
        Some(Violation::Status { from: 3, to: 7 })
    );
    assert_eq!(
        to_status(&[3, 1]),
        Some(Violation::Status { from: 3, to: 1 })
    );
    assert_eq!(
        to_status(&[64]),
        Some(Violation::Status { from: 0, to: 64 })
    );
}

#[test]
fn features_that_nobody_offered_are_caught() {
    let driver = Driver::idle(Echo::default());
    driver.write(VIRTIO_MMIO_STATUS, 3);
    driver.take(1 << 32 | 1 << 40 | 0b10);
    driver.write(VIRTIO_MMIO_STATUS, 11);
    assert_eq!(
        driver.judged(),
        Some(Violation::Features {
            features: 1 << 40 | 0b10
        })
    );
    assert_eq!(driver.read(VIRTIO_MMIO_STATUS) & 8, 0);
}

#[test]
fn rings_outside_memory_are_caught() {
    for (register, value) in [
        (VIRTIO_MMIO_QUEUE_NUM, 0),
        (VIRTIO_MMIO_QUEUE_NUM, 3),
        (VIRTIO_MMIO_QUEUE_NUM, 128),
        (VIRTIO_MMIO_QUEUE_NUM, u32::MAX),
        (VIRTIO_MMIO_QUEUE_DESC_LOW, 8),
        (VIRTIO_MMIO_QUEUE_DESC_LOW, 0),
        (VIRTIO_MMIO_QUEUE_DESC_HIGH, 1),
        (VIRTIO_MMIO_QUEUE_AVAIL_HIGH, u32::MAX),
        (VIRTIO_MMIO_QUEUE_USED_LOW, MEMORY_BYTES as u32 - 4),
    ] {
        let driver = Driver::idle(Echo::default());
        driver.negotiate(0);
        for (at, good) in [
            (VIRTIO_MMIO_QUEUE_NUM, 16),
            (VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000),
            (VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2000),
            (VIRTIO_MMIO_QUEUE_USED_LOW, 0x3000),
        ] {
            driver.write(at, good);
        }
        driver.write(register, value);
        driver.write(VIRTIO_MMIO_QUEUE_READY, 1);
        assert!(
            matches!(
                driver.judged(),
                Some(Violation::Size { queue: 0, .. } | Violation::Ring { queue: 0, .. })
            ),
            "{register:#x} {value:#x}"
        );
    }
}

#[test]
fn a_thread_serves_while_the_driver_runs() {
    let mut driver = Driver::idle(Echo::default());
    let mut device = Mmio::new(driver.transport.clone());
    driver.negotiate(0);
    driver.queues();
    for _ in 0..3 {
        let status = u64::from(VIRTIO_MMIO_STATUS);
        assert_eq!(device.write(status, Width::Double, 15), Reply::Resume);
        driver.put(0, &[b"threads"], &[7]);
        device.write(VIRTIO_MMIO_QUEUE_NOTIFY.into(), Width::Double, 0);
        let used = std::iter::repeat_with(|| {
            std::thread::yield_now();
            driver.used(0)
        });
        assert_eq!(used.flatten().next(), Some((0, 7)));
        device.write(status, Width::Double, 0);
        driver.negotiate(0);
        driver.queues();
    }
    drop(device);
    assert_eq!(Arc::strong_count(&driver.transport), 1, "no thread is left");
}

proptest! {
    /// Whatever is written to registers and rings, the device answers, stops or asks for a reset.
    #[test]
    fn no_driver_harms_a_device(
        writes in prop::collection::vec((0u32..0x110, any::<u32>()), 0..20),
        descriptors in prop::collection::vec(
            (0u16..LENGTH, prop_oneof![0..MEMORY_BYTES, any::<u64>()], 0u32..0x2000, 0u16..8, 0u16..LENGTH + 1),
            0..40,
        ),
        heads in prop::collection::vec(0u16..LENGTH + 2, 0..20),
    ) {
        let mut driver = echo();
        for (index, address, bytes, flags, next) in descriptors {
            driver.descriptor(0, index, address, bytes, flags, next);
        }
        for head in heads {
            driver.offer(0, head);
        }
        driver.notify(0);
        for (register, value) in writes {
            driver.write(register & !3, value);
            driver.read(register & !3);
        }
        driver.transport.poll();
        driver.judged();
    }
}

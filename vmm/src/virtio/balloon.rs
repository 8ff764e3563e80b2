//! A balloon (virtio 1.2, 5.5): the driver takes pages away from its own kernel, and the host has
//! them, for as long as it wants them ([`Balloon`](crate::memory::Balloon)).

use super::{Chain, Context, Event, Kind, Violation, VirtioDevice};
use crate::memory::{Gpa, GuestMemory, MemoryError, PAGE_BYTES};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;

/// `VIRTIO_BALLOON_F_STATS_VQ`: the driver tells how its memory is used.
const F_STATISTICS: u32 = 1;
/// `VIRTIO_BALLOON_F_DEFLATE_ON_OOM`: a guest that runs out of memory may take pages back.
const F_DEFLATE_ON_OOM: u32 = 2;

/// How many page numbers are looked at together.
const BATCH: usize = 256;
/// The most figures that a driver tells: there are 16 tags (5.5.6.3).
const FIGURES_MAX: usize = 64;

/// The device.
#[derive(Debug)]
pub struct VirtioBalloon {
    memory: GuestMemory,
    shared: Arc<Shared>,
    /// The driver's buffer for figures, which it fills anew each time that it gets it back.
    buffer: Option<u16>,
    told: u32,
}

/// The host's side.
#[derive(Clone, Debug)]
pub struct BalloonHandle {
    memory: GuestMemory,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wake: EventFd,
    figures: Mutex<Vec<(u16, u64)>>,
}

impl VirtioBalloon {
    /// A balloon in a guest's memory.
    ///
    /// # Errors
    /// The host has no descriptor for it.
    pub fn new(memory: &GuestMemory) -> io::Result<(VirtioBalloon, BalloonHandle)> {
        let shared = Arc::new(Shared {
            wake: EventFd::new(EFD_NONBLOCK)?,
            figures: Mutex::default(),
        });
        let handle = BalloonHandle {
            memory: memory.clone(),
            shared: shared.clone(),
        };
        let device = VirtioBalloon {
            memory: memory.clone(),
            shared,
            buffer: None,
            told: 0,
        };
        Ok((device, handle))
    }

    /// How many pages the driver is asked for.
    fn target(&self) -> u32 {
        let pages = self.memory.balloon().asked() / PAGE_BYTES;
        u32::try_from(pages).unwrap_or(u32::MAX)
    }

    /// The driver gives pages.
    fn inflate(&self, mut chain: Chain<'_>) -> Result<Option<usize>, Violation> {
        let outside = Violation::Request {
            queue: INFLATE,
            what: "a page for the balloon that is not in guest memory",
        };
        let mut raw = [0; 4 * BATCH];
        loop {
            let count = chain.readable.read(&mut raw) / 4;
            if count == 0 {
                return Ok(Some(0));
            }
            let number =
                |raw: &[u8]| u64::from(u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]));
            let mut pages: Vec<u64> = raw[..4 * count].chunks(4).map(number).collect();
            pages.sort_unstable();
            for run in pages.chunk_by(|a, b| b - a <= 1) {
                let (first, last) = (run[0], run[run.len() - 1]);
                let bytes = (last + 1 - first) * PAGE_BYTES;
                match self.memory.release(Gpa(first * PAGE_BYTES), bytes) {
                    // What cannot go back to the host stays: the guest has done its part.
                    Ok(()) | Err(MemoryError::Release { .. }) => {}
                    Err(_) => return Err(outside),
                }
            }
        }
    }

    /// The driver tells how its memory is used.
    fn statistics(&mut self, context: &mut Context<'_>) -> Result<(), Violation> {
        while let Some(mut chain) = context.pop(STATISTICS)? {
            let mut figures = Vec::new();
            while figures.len() < FIGURES_MAX
                && let Some([a, b, value @ ..]) = chain.readable.read_array::<10>()
            {
                figures.push((u16::from_le_bytes([a, b]), u64::from_le_bytes(value)));
            }
            *self.shared.figures() = figures;
            // It has one buffer. More are a mistake, and go back.
            if let Some(earlier) = self.buffer.replace(chain.head) {
                context.push(STATISTICS, earlier, 0)?;
            }
        }
        Ok(())
    }
}

impl Shared {
    fn figures(&self) -> std::sync::MutexGuard<'_, Vec<(u16, u64)>> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VirtioDevice for VirtioBalloon {
    fn kind(&self) -> Kind {
        Kind {
            id: VIRTIO_ID_BALLOON,
            name: "balloon",
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[256, 256, 16]
    }

    fn features(&self) -> u64 {
        1 << F_STATISTICS | 1 << F_DEFLATE_ON_OOM
    }

    /// `struct virtio_balloon_config` (5.5.4): how many pages are wanted, and how many are in it.
    fn config(&self) -> Vec<u8> {
        let reported = self.memory.balloon().reported() / PAGE_BYTES;
        [self.target().to_le_bytes(), (reported as u32).to_le_bytes()].concat()
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        if let (4, &[a, b, c, d]) = (offset, bytes) {
            let pages = u32::from_le_bytes([a, b, c, d]);
            self.memory.balloon().report(u64::from(pages) * PAGE_BYTES);
        }
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.shared.wake.as_raw_fd()]
    }

    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation> {
        match event {
            Event::Queue(INFLATE) => context.drain(INFLATE, |chain| self.inflate(chain)),
            // Pages that are touched again come again by themselves.
            Event::Queue(DEFLATE) => context.drain(DEFLATE, |_| Ok(Some(0))),
            Event::Queue(_) => self.statistics(context),
            Event::Source(_) => {
                let target = self.target();
                if target != self.told {
                    self.told = target;
                    context.configuration_changed();
                }
                // Fails when nobody asked, as when the device begins.
                match (self.shared.wake.read(), self.buffer.take()) {
                    (Ok(_), Some(head)) => {
                        context.push(STATISTICS, head, 0)?;
                        context.notify(STATISTICS)
                    }
                    (_, buffer) => {
                        self.buffer = buffer;
                        Ok(())
                    }
                }
            }
        }
    }

    fn reset(&mut self) {
        self.buffer = None;
        self.told = 0;
        self.shared.figures().clear();
        self.memory.balloon().report(0);
    }
}

impl BalloonHandle {
    /// Asks the guest to hold back so many bytes in all; it may take its time, or refuse. How many
    /// it says it does is in [`Balloon::reported`](crate::memory::Balloon::reported). It is asked
    /// for new figures, too.
    pub fn ask(&self, bytes: u64) {
        self.memory.balloon().ask(bytes);
        // Fails only when it was written 2^64 - 2 times.
        let _ = self.shared.wake.write(1);
    }

    /// What the guest said last of how its memory is used: tags (5.5.6.3) and their figures.
    pub fn figures(&self) -> Vec<(u16, u64)> {
        self.shared.figures().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trap::Width;
    use crate::virtio::driver::{Driver, MEMORY_BYTES};

    fn balloon() -> (Driver, BalloonHandle) {
        let memory = GuestMemory::new(MEMORY_BYTES).unwrap();
        let (device, handle) = VirtioBalloon::new(&memory).unwrap();
        let mut driver = Driver::over(device, memory);
        driver.negotiate(0);
        driver.queues();
        driver.write(0x70, 15);
        (driver, handle)
    }

    fn numbers(pages: &[u32]) -> Vec<u8> {
        pages.iter().flat_map(|page| page.to_le_bytes()).collect()
    }

    #[test]
    fn pages_that_are_given_are_zeros_and_no_memory() {
        let (mut driver, handle) = balloon();
        handle.ask(3 * PAGE_BYTES);
        driver.transport.serve(Event::Source(0));
        assert_eq!(driver.read(0x60) & 2, 2);
        assert_eq!(driver.transport.read(0x100, Width::Double), 3);
        for page in 0x300..0x304u64 {
            driver.memory.write(Gpa(page << 12), &[7; 4096]).unwrap();
        }
        driver.request(INFLATE, &[&numbers(&[0x302, 0x300, 0x301])], &[]);
        let byte = |page: u64| {
            driver
                .memory
                .read_value::<u8>(Gpa((page << 12) + 5))
                .unwrap()
        };
        assert_eq!([0x300, 0x301, 0x302, 0x303].map(byte), [0, 0, 0, 7]);
        driver.transport.write(0x104, Width::Double, 3);
        assert_eq!(driver.memory.balloon().reported(), 3 * PAGE_BYTES);
        driver.request(DEFLATE, &[&numbers(&[0x300])], &[]);
    }

    #[test]
    fn pages_outside_memory_cost_the_device() {
        for page in [(MEMORY_BYTES >> 12) as u32, u32::MAX] {
            let (mut driver, _handle) = balloon();
            driver.put(INFLATE, &[&numbers(&[page])], &[]);
            driver.notify(INFLATE);
            assert!(matches!(driver.judged(), Some(Violation::Request { .. })));
        }
    }

    #[test]
    fn figures_are_told_whenever_the_host_asks() {
        let (mut driver, handle) = balloon();
        let figure = |value: u64| [&4u16.to_le_bytes()[..], &value.to_le_bytes()].concat();
        for value in [100, 200] {
            driver.put(STATISTICS, &[&figure(value)], &[]);
            driver.notify(STATISTICS);
            assert_eq!(handle.figures(), [(4, value)]);
            assert_eq!(driver.used(STATISTICS), None);
            handle.ask(0);
            driver.transport.serve(Event::Source(0));
            assert_eq!(driver.used(STATISTICS), Some((0, 0)));
        }
    }
}

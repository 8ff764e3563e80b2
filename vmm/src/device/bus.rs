//! A bus: which device has which addresses. The same interval map serves ports and memory.

use crate::trap::{Reply, Width};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// Something with registers.
pub trait Device: Send {
    /// The guest reads `width` at `offset` into the device's range: [`Reply::Value`], as a rule.
    fn read(&mut self, offset: u64, width: Width) -> Reply;

    /// The guest writes.
    fn write(&mut self, offset: u64, width: Width, value: u64) -> Reply;
}

/// Two devices cannot have the same address.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "a device at {start:#x}, {len} addresses long, is empty, wraps or overlaps another; give it a range of its own"
)]
pub struct Overlap {
    start: u64,
    len: u64,
}

struct Range {
    start: u64,
    len: u64,
    device: Arc<Mutex<dyn Device>>,
}

/// An interval map from addresses to devices. It does not change while a guest runs, so looking a
/// device up takes no lock; using one takes its own.
#[derive(Default)]
pub struct Bus {
    /// In the order of addresses, without overlap: a handful of them lie in a cache line or two,
    /// where a tree's nodes would be all over memory.
    ranges: Vec<Range>,
}

impl Bus {
    /// Puts a device at `start..start + len`.
    ///
    /// # Errors
    /// [`Overlap`] with a device that is there.
    pub fn insert(
        &mut self,
        start: u64,
        len: u64,
        device: impl Device + 'static,
    ) -> Result<(), Overlap> {
        let overlap = Overlap { start, len };
        let last = len
            .checked_sub(1)
            .and_then(|len| start.checked_add(len))
            .ok_or(overlap)?;
        let place = self.ranges.partition_point(|range| range.start <= last);
        if let Some(before) = place.checked_sub(1).map(|index| &self.ranges[index])
            && before.len > start.saturating_sub(before.start)
        {
            return Err(Overlap { start, len });
        }
        let device = Arc::new(Mutex::new(device));
        self.ranges.insert(place, Range { start, len, device });
        Ok(())
    }

    /// The device that has all of `width` bytes at `address`, and the offset into it.
    fn find(&self, address: u64, width: Width) -> Option<(u64, &Mutex<dyn Device>)> {
        let after = self.ranges.partition_point(|range| range.start <= address);
        let range = &self.ranges[after.checked_sub(1)?];
        let offset = address - range.start;
        let end = offset.checked_add(width.bytes() as u64)?;
        (end <= range.len).then_some((offset, &*range.device))
    }

    /// A guest's read.
    pub fn read(&self, address: u64, width: Width) -> Reply {
        match self.find(address, width) {
            Some((offset, device)) => device
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .read(offset, width),
            None => Reply::Unclaimed,
        }
    }

    /// A guest's write.
    pub fn write(&self, address: u64, width: Width, value: u64) -> Reply {
        match self.find(address, width) {
            Some((offset, device)) => device
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(offset, width, value),
            None => Reply::Unclaimed,
        }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.ranges.iter().map(|range| (range.start, range.len)))
            .finish()
    }
}

/// A machine's two buses.
#[derive(Debug, Default)]
pub struct Buses {
    /// Ports, reached by `in` and `out`.
    pub ports: Bus,
    /// Memory-mapped registers, at guest-physical addresses that are in no slot.
    pub memory: Bus,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Device for Echo {
        fn read(&mut self, offset: u64, _: Width) -> Reply {
            Reply::Value(offset)
        }

        fn write(&mut self, _: u64, _: Width, _: u64) -> Reply {
            Reply::Resume
        }
    }

    #[test]
    fn an_access_finds_the_device_that_has_all_of_it() {
        let mut bus = Bus::default();
        bus.insert(0x100, 8, Echo).unwrap();
        bus.insert(u64::MAX - 3, 4, Echo).unwrap();
        assert_eq!(bus.read(0x104, Width::Double), Reply::Value(4));
        assert_eq!(bus.read(0x105, Width::Double), Reply::Unclaimed);
        assert_eq!(bus.read(0xff, Width::Word), Reply::Unclaimed);
        assert_eq!(bus.read(u64::MAX - 3, Width::Double), Reply::Value(0));
        assert_eq!(bus.read(u64::MAX, Width::Double), Reply::Unclaimed);
        assert_eq!(bus.write(0x100, Width::Quad, 1), Reply::Resume);
    }

    #[test]
    fn devices_do_not_overlap() {
        let mut bus = Bus::default();
        bus.insert(0x100, 8, Echo).unwrap();
        for (start, len) in [
            (0x100, 1),
            (0x107, 1),
            (0xf0, 0x11),
            (0xf0, 0x100),
            (0x50, 0),
            (u64::MAX, 2),
        ] {
            assert_eq!(bus.insert(start, len, Echo), Err(Overlap { start, len }));
        }
        bus.insert(0x108, 1, Echo).unwrap();
        bus.insert(0xff, 1, Echo).unwrap();
    }
}

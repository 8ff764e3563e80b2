//! Guest memory that notes who reads what.

use std::cell::RefCell;

use lab06::{Gpa, PAGE_BYTES, PhysicalMemory};

/// Another memory, with a log.
pub struct Recording<'m> {
    memory: &'m dyn PhysicalMemory,
    log: RefCell<Log>,
}

/// What happened to the memory.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The addresses read, in order, those without memory included.
    pub reads: Vec<Gpa>,
    /// How many words were written.
    pub writes: usize,
    /// Tables that were entered above before they were emptied.
    pub linked_dirty: Vec<Gpa>,
    /// Where new tables may be.
    pub fresh: Vec<Gpa>,
}

impl<'m> Recording<'m> {
    /// A log over `memory`.
    pub fn new(memory: &'m dyn PhysicalMemory) -> Self {
        Self {
            memory,
            log: RefCell::default(),
        }
    }

    /// The same, that watches when the pages of `fresh` become tables.
    pub fn watching(memory: &'m dyn PhysicalMemory, fresh: Vec<Gpa>) -> Self {
        let recording = Self::new(memory);
        recording.log.borrow_mut().fresh = fresh;
        recording
    }

    /// The log so far, which starts anew.
    pub fn take(&self) -> Log {
        let mut log = self.log.borrow_mut();
        let fresh = log.fresh.clone();
        std::mem::replace(
            &mut *log,
            Log {
                fresh,
                ..Log::default()
            },
        )
    }
}

impl PhysicalMemory for Recording<'_> {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        self.log.borrow_mut().reads.push(at);
        self.memory.read_u64(at)
    }

    fn write_u64(&self, at: Gpa, value: u64) -> Option<()> {
        let mut log = self.log.borrow_mut();
        log.writes += 1;
        let table = Gpa(value & lab06::bits::ADDRESS);
        if value & lab06::bits::PRESENT != 0 && log.fresh.contains(&table) {
            let mut words = (0..PAGE_BYTES).step_by(8);
            if words.any(|word| self.memory.read_u64(Gpa(table.0 + word)) != Some(0)) {
                log.linked_dirty.push(table);
            }
        }
        self.memory.write_u64(at, value)
    }

    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool> {
        self.log.borrow_mut().writes += 1;
        self.memory.compare_exchange_u64(at, current, new)
    }
}

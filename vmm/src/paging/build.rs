//! The other direction: writes the tables that a walk will read.

use std::ops::Range;

use super::entry::{Entry, Flags};
use super::level::{Level, Levels, PageSize};
use super::memory::PhysicalMemory;
use crate::memory::{Gpa, Gva, PAGE_BYTES};

/// Why a range was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// An address or a length does not fit the page size.
    #[error("{value:#x} is not a multiple of {size}; map the range with smaller pages")]
    Misaligned {
        /// The address or length.
        value: u64,
        /// The page size that was asked for.
        size: PageSize,
    },
    /// The range is not within one canonical half of the address space.
    #[error(
        "{bytes:#x} bytes from {start} leave the canonical addresses; use an address whose upper bits repeat its sign"
    )]
    NotCanonical {
        /// The first address.
        start: Gva,
        /// The length.
        bytes: u64,
    },
    /// Guest-physical addresses have at most 52 bits.
    #[error("{bytes:#x} bytes from guest-physical {start} need more than 52 bits of address")]
    TooHigh {
        /// The first address.
        start: Gpa,
        /// The length.
        bytes: u64,
    },
    /// Something is mapped there.
    #[error(
        "{address} is mapped by a {level} entry already; choose another address or a shorter range"
    )]
    Overlap {
        /// The first address of the new range that is taken.
        address: Gva,
        /// The level of the entry that takes it.
        level: Level,
    },
    /// The pages set aside for tables are used up.
    #[error(
        "all {pages} pages set aside for tables are in use; give a larger region or use larger pages"
    )]
    OutOfTables {
        /// How many there were.
        pages: u64,
    },
    /// A table would be where there is no memory.
    #[error(
        "no memory at guest-physical {0} for a page table; keep the tables' region within a memory slot"
    )]
    OutsideMemory(Gpa),
}

/// Pages of guest memory set aside for tables, handed out from the first to the last.
#[derive(Clone, Debug)]
pub struct TablePool {
    region: Range<Gpa>,
    next: Gpa,
    zero: bool,
}

impl TablePool {
    /// The whole pages within `region`.
    #[must_use]
    pub fn new(region: Range<Gpa>) -> Self {
        let start = match region.start.checked_add(PAGE_BYTES - 1) {
            Some(rounded) => rounded.page(),
            None => region.end.page(),
        };
        let region = start..region.end.page().max(start);
        Self {
            next: start,
            region,
            zero: true,
        }
    }

    /// As [`new`](Self::new), for a region that is known to hold zeros, as fresh guest memory
    /// does: pages are handed out as they are, and none is touched before its time.
    #[must_use]
    pub fn zeroed(region: Range<Gpa>) -> Self {
        Self {
            zero: false,
            ..Self::new(region)
        }
    }

    /// Takes the next page and fills it with zeros, which is a table of absent entries.
    ///
    /// # Errors
    /// [`BuildError::OutOfTables`] after the last page, [`BuildError::OutsideMemory`] where the
    /// region is not memory.
    pub fn take(&mut self, memory: &impl PhysicalMemory) -> Result<Gpa, BuildError> {
        let table = self.next;
        if table >= self.region.end {
            let pages = self.used();
            return Err(BuildError::OutOfTables { pages });
        }
        if table.0 >> 52 != 0 {
            // No entry could point there.
            return Err(BuildError::OutsideMemory(table));
        }
        let words = if self.zero { PAGE_BYTES } else { 0 };
        for offset in (0..words).step_by(8) {
            let at = Gpa(table.0 + offset);
            memory
                .write_u64(at, 0)
                .ok_or(BuildError::OutsideMemory(at))?;
        }
        self.next = Gpa(table.0 + PAGE_BYTES);
        Ok(table)
    }

    /// How many pages were taken.
    #[must_use]
    pub fn used(&self) -> u64 {
        (self.next.0 - self.region.start.0) / PAGE_BYTES
    }
}

/// What an entry that points to a table allows: everything, so that the page's entry decides.
const TABLE_FLAGS: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::USER);

/// Builds one tree of page tables in guest memory.
///
/// ```
/// use ringside_vmm::memory::{Gpa, Gva};
/// use ringside_vmm::paging::{Access, Builder, Flags, Levels, PageSize, Paging, VecMemory};
///
/// let memory = VecMemory::new(Gpa(0), 16);
/// let mut builder = Builder::new(&memory, Levels::Four, Gpa(0x1000)..Gpa(0x8000))?;
/// let flags = Flags::WRITABLE | Flags::USER;
/// builder.map(Gva(0x40_0000), Gpa(0x9000), 0x2000, PageSize::Kib4, flags)?;
///
/// let paging = Paging::new(builder.root(), Levels::Four);
/// let walk = paging.walk(&memory, Gva(0x40_1234), Access::USER_WRITE);
/// assert_eq!(walk.outcome.unwrap().gpa, Gpa(0xa234));
/// assert_eq!(builder.tables_used(), 4); // PML4, PDPT, PD, PT
/// # Ok::<(), ringside_vmm::paging::BuildError>(())
/// ```
#[derive(Debug)]
pub struct Builder<'m, M> {
    memory: &'m M,
    levels: Levels,
    root: Gpa,
    tables: TablePool,
}

impl<'m, M: PhysicalMemory> Builder<'m, M> {
    /// An empty tree, whose tables all come from `region`.
    ///
    /// # Errors
    /// As [`TablePool::take`]: the top table is taken at once.
    pub fn new(memory: &'m M, levels: Levels, region: Range<Gpa>) -> Result<Self, BuildError> {
        Self::with_tables(memory, levels, TablePool::new(region))
    }

    /// An empty tree, whose tables come from a pool of the caller's making.
    ///
    /// # Errors
    /// As [`TablePool::take`]: the top table is taken at once.
    pub fn with_tables(
        memory: &'m M,
        levels: Levels,
        mut tables: TablePool,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            memory,
            levels,
            root: tables.take(memory)?,
            tables,
        })
    }

    /// The top table, for CR3.
    #[must_use]
    pub fn root(&self) -> Gpa {
        self.root
    }

    /// How many tables there are.
    #[must_use]
    pub fn tables_used(&self) -> u64 {
        self.tables.used()
    }

    /// Maps `bytes` from `address` on to `bytes` from `target` on, in pages of `size`. The pages'
    /// entries get `flags` and the present bit; entries that point to tables are present, writable
    /// and open to ring 3, so that the page's entry alone decides.
    ///
    /// # Errors
    /// Nothing is mapped where the range is misaligned, not canonical, too high or overlaps.
    /// When tables run out, the pages below the one that failed stay mapped.
    pub fn map(
        &mut self,
        address: Gva,
        target: Gpa,
        bytes: u64,
        size: PageSize,
        flags: Flags,
    ) -> Result<(), BuildError> {
        for value in [address.0, target.0, bytes] {
            if value & (size.bytes() - 1) != 0 {
                return Err(BuildError::Misaligned { value, size });
            }
        }
        self.check_range(address, target, bytes)?;
        for offset in (0..bytes).step_by(size.bytes() as usize) {
            self.check_free(Gva(address.0 + offset), size)?;
        }
        for offset in (0..bytes).step_by(size.bytes() as usize) {
            let page = Gpa(target.0 + offset);
            let entry = Entry::page(page, size, flags | Flags::PRESENT);
            self.put(Gva(address.0 + offset), size.level(), entry)?;
        }
        Ok(())
    }

    /// Maps a range as [`map`](Self::map) does, with the largest pages up to `largest` that both
    /// addresses and the rest of the range allow: the fewest tables.
    ///
    /// # Errors
    /// As [`map`](Self::map); here, the pages below the one that failed stay mapped in any case.
    pub fn map_up_to(
        &mut self,
        address: Gva,
        target: Gpa,
        bytes: u64,
        largest: PageSize,
        flags: Flags,
    ) -> Result<(), BuildError> {
        self.check_range(address, target, bytes)?;
        let mut done = 0;
        while done < bytes {
            let (from, to) = (Gva(address.0 + done), Gpa(target.0 + done));
            let fits = |size: &PageSize| {
                *size <= largest
                    && (from.0 | to.0) & (size.bytes() - 1) == 0
                    && bytes - done >= size.bytes()
            };
            let sizes = [PageSize::Gib1, PageSize::Mib2];
            let size = sizes.into_iter().find(fits).unwrap_or(PageSize::Kib4);
            self.map(from, to, size.bytes().min(bytes - done), size, flags)?;
            done += size.bytes();
        }
        Ok(())
    }

    /// Makes the last-level tables for a range that is to be mapped later, page by page, by
    /// somebody else: they follow one another, so that the entry of the range's page `n` is at
    /// `8 n` from the address returned.
    ///
    /// # Errors
    /// As [`map`](Self::map) with 2 MiB pages.
    pub fn reserve(&mut self, address: Gva, bytes: u64) -> Result<Gpa, BuildError> {
        let size = PageSize::Mib2;
        for value in [address.0, bytes] {
            if value & (size.bytes() - 1) != 0 {
                return Err(BuildError::Misaligned { value, size });
            }
        }
        self.check_range(address, Gpa(0), bytes)?;
        let first = self.tables.next;
        for _ in 0..bytes / size.bytes() {
            self.tables.take(self.memory)?;
        }
        for number in 0..bytes / size.bytes() {
            let from = Gva(address.0 + number * size.bytes());
            let table = Gpa(first.0 + number * PAGE_BYTES);
            self.check_free(from, size)?;
            self.put(from, size.level(), Entry::table(table, TABLE_FLAGS))?;
        }
        Ok(first)
    }

    /// The checks that need no table. The lengths are inclusive, so that the last byte may be the
    /// last there is.
    fn check_range(&self, start: Gva, target: Gpa, bytes: u64) -> Result<(), BuildError> {
        let Some(last) = bytes.checked_sub(1) else {
            return Ok(());
        };
        let end = start.checked_add(last);
        let in_one_half = end.is_some_and(|end| {
            self.levels.is_canonical(start)
                && self.levels.is_canonical(end)
                && (start.0 ^ end.0) >> 63 == 0
        });
        if !in_one_half {
            return Err(BuildError::NotCanonical { start, bytes });
        }
        match target.checked_add(last) {
            Some(end) if end.0 >> 52 == 0 => Ok(()),
            _ => Err(BuildError::TooHigh {
                start: target,
                bytes,
            }),
        }
    }

    /// Whether the entry for a page of `size` at `address` is free.
    fn check_free(&self, address: Gva, size: PageSize) -> Result<(), BuildError> {
        let (mut table, mut level) = (self.root, self.levels.top());
        loop {
            let entry = self.read(table, level, address)?;
            if !entry.is_present() {
                return Ok(());
            }
            match level.below() {
                Some(below) if level > size.level() && entry.page_size(level).is_none() => {
                    table = entry.address(level);
                    level = below;
                }
                _ => return Err(BuildError::Overlap { address, level }),
            }
        }
    }

    /// Writes `entry` for `address` at `target` level, making the tables above it.
    fn put(&mut self, address: Gva, target: Level, entry: Entry) -> Result<(), BuildError> {
        let (mut table, mut level) = (self.root, self.levels.top());
        while let Some(below) = level.below().filter(|_| level > target) {
            let above = self.read(table, level, address)?;
            if above.is_present() {
                table = above.address(level);
            } else {
                let new = self.tables.take(self.memory)?;
                self.write(table, level, address, Entry::table(new, TABLE_FLAGS))?;
                table = new;
            }
            level = below;
        }
        self.write(table, level, address, entry)
    }

    fn read(&self, table: Gpa, level: Level, address: Gva) -> Result<Entry, BuildError> {
        let at = Gpa(table.0 + level.index(address) as u64 * 8);
        let raw = self.memory.read_u64(at);
        raw.map(Entry::from_raw)
            .ok_or(BuildError::OutsideMemory(at))
    }

    fn write(
        &self,
        table: Gpa,
        level: Level,
        address: Gva,
        entry: Entry,
    ) -> Result<(), BuildError> {
        let at = Gpa(table.0 + level.index(address) as u64 * 8);
        let done = self.memory.write_u64(at, entry.raw());
        done.ok_or(BuildError::OutsideMemory(at))
    }
}

#[cfg(test)]
mod tests;

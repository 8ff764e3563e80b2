//! The merged tables themselves, and the two registers that let them be undone: which guest page
//! each was made from, and which entries map a given guest page.

use std::collections::HashMap;

use super::super::entry::{Entry, Flags};
use super::super::level::{ENTRIES, Level};
use super::super::memory::{PhysicalMemory, VecMemory};
use crate::memory::{Gpa, PAGE_BYTES};

/// Where the merged tables' memory starts: beyond any memory that a guest gets here, so that a
/// picture tells them apart.
const BASE: Gpa = Gpa(1 << 45);

/// One merged table.
#[derive(Clone, Copy, Debug)]
struct Table {
    /// Whether it splits a huge page of the guest, and so belongs to the one entry that points to
    /// it. Any other was merged from a table of the guest.
    splits_huge_page: bool,
    /// How many merged entries point to it.
    parents: u32,
}

/// All merged tables of one guest.
#[derive(Debug)]
pub(super) struct Tables {
    memory: VecMemory,
    tables: Vec<Option<Table>>,
    free: Vec<usize>,
    /// The tables merged from a guest page, by level: a page may serve at several.
    by_guest: HashMap<Gpa, [Option<Gpa>; 5]>,
    /// The merged entries that map a guest page, and the guest page that each of them maps.
    mappings: HashMap<Gpa, Vec<Gpa>>,
    mapped: HashMap<Gpa, Gpa>,
}

impl Tables {
    pub(super) fn new(capacity: usize) -> Self {
        let mut tables = Self {
            memory: VecMemory::new(BASE, capacity),
            tables: vec![None; capacity],
            free: Vec::new(),
            by_guest: HashMap::new(),
            mappings: HashMap::new(),
            mapped: HashMap::new(),
        };
        tables.reset();
        tables
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.tables.fill(None);
        self.free = (0..self.tables.len()).rev().collect();
        self.by_guest.clear();
        self.mappings.clear();
        self.mapped.clear();
    }

    pub(super) fn memory(&self) -> &VecMemory {
        &self.memory
    }

    pub(super) fn free_tables(&self) -> usize {
        self.free.len()
    }

    pub(super) fn is_guest_table(&self, at: Gpa) -> bool {
        self.by_guest.contains_key(&at.page())
    }

    /// The table merged from the guest's at `guest` and `level`.
    pub(super) fn merged_from(&self, guest: Gpa, level: Level) -> Option<Gpa> {
        self.by_guest.get(&guest.page())?[level as usize - 1]
    }

    /// A new empty table, merged from the guest's at an address and level, or to split a huge page.
    /// The caller has seen to it that one is free.
    pub(super) fn add(&mut self, guest: Option<(Gpa, Level)>) -> Gpa {
        let number = self.free.pop().expect("a free table");
        self.tables[number] = Some(Table {
            splits_huge_page: guest.is_none(),
            parents: 0,
        });
        let table = Gpa(BASE.0 + number as u64 * PAGE_BYTES);
        for index in 0..ENTRIES {
            self.write(entry_at(table, index), Entry::ABSENT);
        }
        if let Some(guest) = guest {
            let (guest, level) = guest;
            self.by_guest.entry(guest.page()).or_default()[level as usize - 1] = Some(table);
        }
        table
    }

    pub(super) fn read(&self, at: Gpa) -> Entry {
        Entry::from_raw(self.memory.read_u64(at).expect("a merged table"))
    }

    fn write(&self, at: Gpa, entry: Entry) {
        let written = self.memory.write_u64(at, entry.raw());
        written.expect("a merged table");
    }

    /// Makes the absent entry at `at` point to the table `child`.
    pub(super) fn link(&mut self, at: Gpa, child: Gpa, flags: Flags) {
        self.table_mut(child).parents += 1;
        self.write(at, Entry::table(child, flags));
    }

    /// Makes the entry at `at` map a host page, which backs the guest page `guest`.
    pub(super) fn map(&mut self, at: Gpa, entry: Entry, guest: Gpa) {
        // A present entry is replaced only by the same mapping with more rights.
        if self.mapped.insert(at, guest.page()).is_none() {
            self.mappings.entry(guest.page()).or_default().push(at);
        }
        self.write(at, entry);
    }

    /// Takes the right to write away from every mapping of the guest page `guest`.
    pub(super) fn protect(&mut self, guest: Gpa) {
        for at in self.mappings.get(&guest.page()).into_iter().flatten() {
            self.write(*at, self.read(*at).without(Flags::WRITABLE));
        }
    }

    /// Clears every mapping of the guest page `guest`.
    pub(super) fn unmap(&mut self, guest: Gpa) {
        for at in self.mappings.remove(&guest.page()).unwrap_or_default() {
            self.mapped.remove(&at);
            self.write(at, Entry::ABSENT);
        }
    }

    /// Clears the entries that were merged from the guest's entry at `at`, on all levels.
    pub(super) fn clear_merged_from(&mut self, at: Gpa) {
        let tables = self.by_guest.get(&at.page()).copied();
        for table in tables.into_iter().flatten().flatten() {
            self.clear(Gpa(table.0 + at.page_offset()));
        }
    }

    /// Gives the tables merged from the guest page `guest` back, if no entry points to them and
    /// none is `root`: the page is an ordinary one from then on.
    pub(super) fn release_unused(&mut self, guest: Gpa, root: Gpa) {
        let tables = self
            .by_guest
            .get(&guest.page())
            .copied()
            .unwrap_or_default();
        let used = |table: &Gpa| *table == root || self.table(*table).parents > 0;
        if tables.iter().flatten().any(used) {
            return;
        }
        self.by_guest.remove(&guest.page());
        for table in tables.into_iter().flatten() {
            self.give_back(table);
        }
    }

    /// Clears one entry, and what hangs on it alone.
    fn clear(&mut self, at: Gpa) {
        let entry = self.read(at);
        if !entry.is_present() {
            return;
        }
        self.write(at, Entry::ABSENT);
        if let Some(guest) = self.mapped.remove(&at) {
            if let Some(entries) = self.mappings.get_mut(&guest) {
                entries.retain(|entry| *entry != at);
            }
            return;
        }
        let child = entry.address(Level::Pml4);
        self.table_mut(child).parents -= 1;
        if self.table(child).splits_huge_page {
            self.give_back(child);
        }
    }

    /// Clears all of a table and makes it free.
    fn give_back(&mut self, table: Gpa) {
        for index in 0..ENTRIES {
            self.clear(entry_at(table, index));
        }
        let number = number(table);
        self.tables[number] = None;
        self.free.push(number);
    }

    fn table(&self, at: Gpa) -> &Table {
        self.tables[number(at)]
            .as_ref()
            .expect("a merged table in use")
    }

    fn table_mut(&mut self, at: Gpa) -> &mut Table {
        self.tables[number(at)]
            .as_mut()
            .expect("a merged table in use")
    }
}

/// Where entry `index` of `table` is.
pub(super) const fn entry_at(table: Gpa, index: usize) -> Gpa {
    Gpa(table.0 + index as u64 * 8)
}

/// Which of the merged tables holds `at`.
fn number(at: Gpa) -> usize {
    ((at.0 - BASE.0) / PAGE_BYTES) as usize
}

//! Random page tables whose translations are known because of how they were made: the generator goes
//! from the root down, decides what each entry is to be, and notes what that means for the addresses
//! below it. Nothing here looks an address up.

use std::fmt::Write as _;

use lab06::{
    Access, Fault, Gpa, Gva, Level, PAGE_BYTES, PhysicalMemory, Registers, Rights, Translation,
    bits, code, reserved_bits,
};
use ringside_lab_harness::Rng;
use ringside_vmm::paging::VecMemory;

/// Which entries may occur.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// Pages of 2 MiB.
    pub huge: bool,
    /// Pages of 1 GiB.
    pub giant: bool,
    /// Entries that forbid something.
    pub rights: bool,
    /// Reserved bits, and tables outside memory.
    pub hostile: bool,
}

/// Guest memory with tables in it, and what they mean.
#[derive(Debug)]
pub struct World {
    /// The memory, only as large as the tables need.
    pub memory: VecMemory,
    /// CR3 and the two switches.
    pub registers: Registers,
    /// Ranges of virtual addresses that share a fate.
    pub regions: Vec<Region>,
}

/// The addresses below one entry.
#[derive(Clone, Debug)]
pub struct Region {
    /// The first of them.
    pub first: Gva,
    /// The level of the entry.
    pub level: Level,
    /// The entries that lead there, this one included.
    pub path: Vec<Gpa>,
    /// What becomes of an access.
    pub fate: Fate,
}

/// What the last entry of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A page.
    Page(Gpa, Rights),
    /// Not present.
    Absent,
    /// Present with a bit that must be 0.
    Reserved,
    /// A table that is not in memory.
    Outside(Gpa),
}

const PAGES: u64 = 48;

impl World {
    /// Tables of `shape`. CR0.WP and EFER.NXE are on, unless rights vary: then they are drawn.
    pub fn new(random: &mut Rng, shape: Shape) -> Self {
        let base = Gpa(random.range(1..1024) * PAGE_BYTES);
        let mut free: Vec<Gpa> = (0..PAGES).map(|n| Gpa(base.0 + n * PAGE_BYTES)).collect();
        // Tables lie in no order, so that a walk which goes on to the next page does not succeed.
        for last in (1..free.len()).rev() {
            free.swap(last, random.below(last as u64 + 1) as usize);
        }
        let root = free.pop().unwrap_or(base);
        let mut world = Self {
            memory: VecMemory::new(base, PAGES as usize),
            registers: Registers {
                cr3: Gpa(root.0 | random.pick(&[0, 0x18])), // cache flags, no part of the address
                wp: !shape.rights || !random.one_in(3),
                nxe: !shape.rights || !random.one_in(4),
            },
            regions: Vec::new(),
        };
        let all = Rights {
            writable: true,
            user: true,
            executable: true,
        };
        Maker {
            random,
            shape,
            free,
            world: &mut world,
        }
        .table(Level::Pml4, root, Gva(0), &[], all);
        world
    }

    /// An address of `region`: often its first or its last.
    pub fn address(random: &mut Rng, region: &Region) -> Gva {
        let bytes = region.level.page_bytes();
        let offset = match random.below(4) {
            0 => 0,
            1 => bytes - 1,
            _ => random.below(bytes),
        };
        Gva(region.first.0 + offset)
    }

    /// What a walk must answer, by the rules of the SDM, volume 3, sections 4.6 and 4.7.
    pub fn expected(
        &self,
        region: &Region,
        gva: Gva,
        access: Access,
    ) -> Result<Translation, Fault> {
        let wants = [
            (access.write, code::WRITE),
            (access.user, code::USER),
            (access.fetch && self.registers.nxe, code::FETCH),
        ];
        let asked: u32 = wants
            .iter()
            .map(|&(on, bit)| if on { bit } else { 0 })
            .sum();
        match region.fate {
            Fate::Absent => Err(Fault::Page { code: asked }),
            Fate::Reserved => Err(Fault::Page {
                code: asked + code::PRESENT + code::RESERVED,
            }),
            Fate::Outside(_) => Err(Fault::NoMemory {
                at: *self.path(region, gva).last().unwrap_or(&Gpa(0)),
            }),
            Fate::Page(frame, rights) => {
                let forbidden = match (access.user, rights.user) {
                    (true, false) => true,
                    (true, true) => access.write && !rights.writable,
                    (false, _) => access.write && self.registers.wp && !rights.writable,
                };
                if forbidden || access.fetch && !rights.executable {
                    return Err(Fault::Page {
                        code: asked + code::PRESENT,
                    });
                }
                let page_bytes = region.level.page_bytes();
                Ok(Translation {
                    gpa: Gpa(frame.0 + gva.0 % page_bytes),
                    page_bytes,
                    rights,
                })
            }
        }
    }

    /// The entries that a walk to `gva` reads, in order, the unreadable one included.
    pub fn path(&self, region: &Region, gva: Gva) -> Vec<Gpa> {
        let mut path = region.path.clone();
        if let Fate::Outside(table) = region.fate {
            let below = region.level.page_bytes() / 512;
            path.push(Gpa(table.0 + gva.0 / below % 512 * 8));
        }
        path
    }

    /// The call, and the entries on its way, for a failed check.
    pub fn describe(&self, region: &Region, gva: Gva, access: Access) -> String {
        let mut text = format!(
            "walk({gva}, {}) with CR3 {}, WP {}, NXE {}",
            show(access),
            self.registers.cr3,
            u8::from(self.registers.wp),
            u8::from(self.registers.nxe)
        );
        for (level, at) in Level::ALL.iter().zip(self.path(region, gva)) {
            let name = format!("{level:?}").to_uppercase();
            let _ = match self.memory.read_u64(at) {
                Some(entry) => write!(text, "\n{name:4} entry at {at}: {entry:#018x}"),
                None => write!(text, "\n{name:4} entry at {at}: outside guest memory"),
            };
        }
        text
    }
}

/// `write by ring 3`.
pub fn show(access: Access) -> String {
    let what = match (access.write, access.fetch) {
        (true, _) => "write",
        (_, true) => "fetch",
        _ => "read",
    };
    format!("{what} by ring {}", if access.user { 3 } else { 0 })
}

/// The six kinds of access.
pub const ACCESSES: [Access; 6] = {
    const fn access(write: bool, user: bool, fetch: bool) -> Access {
        Access { write, user, fetch }
    }
    [
        access(false, false, false),
        access(true, false, false),
        access(false, false, true),
        access(false, true, false),
        access(true, true, false),
        access(false, true, true),
    ]
};

struct Maker<'a> {
    random: &'a mut Rng,
    shape: Shape,
    free: Vec<Gpa>,
    world: &'a mut World,
}

impl Maker<'_> {
    /// Fills the table at `table`, whose first entry is for `first`.
    fn table(&mut self, level: Level, table: Gpa, first: Gva, path: &[Gpa], rights: Rights) {
        let step = (self.random.below(100)) + 7;
        let start = self.random.below(512);
        let entries = if level == Level::Pt { 4 } else { 3 };
        for number in 0..entries {
            // Different indices, the last of them left as it is: empty.
            let index = (start + number * step) % 512;
            let at = Gpa(table.0 + 8 * index);
            let mut offset = index * level.page_bytes();
            if level == Level::Pml4 && index >= 256 {
                offset |= 0xffff_0000_0000_0000; // the upper half, as canonical addresses have it
            }
            let first = Gva(first.0 | offset);
            let mut path = path.to_vec();
            path.push(at);
            if number + 1 == entries {
                self.note(level, first, path, Fate::Absent);
            } else {
                self.entry(level, at, first, path, rights);
            }
        }
    }

    /// Makes one entry and what is below it.
    fn entry(&mut self, level: Level, at: Gpa, first: Gva, path: Vec<Gpa>, above: Rights) {
        let Shape {
            huge,
            giant,
            hostile,
            ..
        } = self.shape;
        let may_be_page = match level {
            Level::Pml4 => false,
            Level::Pdpt => giant && self.random.one_in(3),
            Level::Pd => huge && self.random.one_in(2),
            Level::Pt => true,
        };
        let (flags, rights) = self.flags(above);
        let decorated = flags | self.ignored_bits(level, may_be_page);
        let fate = if self.random.one_in(8) {
            // Every other bit means nothing then.
            let noise = self.random.next_u64();
            self.put(at, noise & !bits::PRESENT);
            Fate::Absent
        } else if flags & bits::NO_EXECUTE != 0 && !self.world.registers.nxe {
            let frame = self.frame(level);
            self.put(at, decorated | frame);
            Fate::Reserved
        } else if hostile && self.random.one_in(5) && self.reserved(level, may_be_page) != 0 {
            let reserved = self.reserved(level, may_be_page);
            let bit = (0..64).map(|n| 1 << n).filter(|bit| reserved & bit != 0);
            let bit = *self.random.pick(&bit.collect::<Vec<u64>>());
            let frame = self.frame(level);
            self.put(at, decorated | frame | bit);
            Fate::Reserved
        } else if may_be_page {
            let frame = self.frame(level);
            self.put(at, decorated | frame);
            Fate::Page(Gpa(frame), rights)
        } else if hostile && self.random.one_in(5) {
            let table = self.outside();
            self.put(at, decorated | table.0);
            Fate::Outside(table)
        } else if let Some(table) = self.free.pop() {
            self.put(at, decorated | table.0);
            let below = Level::ALL.into_iter().find(|below| *below > level);
            return self.table(below.unwrap_or(Level::Pt), table, first, &path, rights);
        } else {
            Fate::Absent
        };
        self.note(level, first, path, fate);
    }

    fn note(&mut self, level: Level, first: Gva, path: Vec<Gpa>, fate: Fate) {
        self.world.regions.push(Region {
            first,
            level,
            path,
            fate,
        });
    }

    fn put(&self, at: Gpa, entry: u64) {
        let _ = self.world.memory.write_u64(at, entry);
    }

    /// Present, and what the entry allows; and what the path allows with it.
    fn flags(&mut self, above: Rights) -> (u64, Rights) {
        let mut draw = |one_in| self.shape.rights && self.random.one_in(one_in);
        let (read_only, supervisor, no_execute) = (draw(5), draw(5), draw(6));
        let mut flags = bits::PRESENT | bits::WRITABLE | bits::USER;
        if read_only {
            flags &= !bits::WRITABLE;
        }
        if supervisor {
            flags &= !bits::USER;
        }
        if no_execute {
            flags |= bits::NO_EXECUTE;
        }
        let rights = Rights {
            writable: above.writable && !read_only,
            user: above.user && !supervisor,
            executable: above.executable && !no_execute,
        };
        (flags, rights)
    }

    /// Bits that a walk must not care about: caching, accessed, dirty, memory type, and those that
    /// the processor leaves to the kernel. Global only in pages: elsewhere AMD reserves it.
    fn ignored_bits(&mut self, level: Level, page: bool) -> u64 {
        let mut ignored = 0x07f0_0000_0000_0e78;
        match (page, level) {
            (true, Level::Pt) => ignored |= 1 << 8 | 1 << 7,
            (true, _) => ignored |= 1 << 8 | 1 << 12 | bits::HUGE,
            (false, _) => {}
        }
        let drawn = self.random.next_u64() & ignored;
        drawn
            | if page && level != Level::Pt {
                bits::HUGE
            } else {
                0
            }
    }

    fn reserved(&self, level: Level, page: bool) -> u64 {
        reserved_bits(level, page, self.world.registers.nxe)
    }

    /// A page's address: anywhere in the first 64 GiB, for nothing is read from it.
    fn frame(&mut self, level: Level) -> u64 {
        let bytes = level.page_bytes().min(1 << 30);
        self.random.below((1 << 36) / bytes) * bytes
    }

    /// Where there is no memory: just above, just below, or far away.
    fn outside(&mut self) -> Gpa {
        let base = self.world.memory.base().0;
        let end = base + self.world.memory.bytes();
        let far = end + self.random.below(1 << 24) * PAGE_BYTES;
        Gpa(*self
            .random
            .pick(&[end, base - PAGE_BYTES, far, bits::ADDRESS]))
    }
}

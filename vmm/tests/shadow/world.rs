//! A small guest in a small host, and what may happen to it.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use ringside_vmm::memory::{Gpa, Gva, Hpa};
use ringside_vmm::paging::arbitrary::{self, Random};
use ringside_vmm::paging::{
    Access, Backing, Builder, Entry, Flags, GuestState, Kind, Levels, Op, PageSize, Paging,
    PhysicalMemory, Privilege, Processor, SecondLevel, Through, VecMemory,
};

/// Pages that start as tables, and all pages of the guest.
const TABLES: u64 = 14;
const PAGES: u64 = 20;
/// Guest pages with no memory behind them, and with memory that the guest may not write.
const HOLE: u64 = 19;
const READ_ONLY: [u64; 2] = [13, 18];
/// Where the host's pages for the guest start; there is one more than the guest has.
const HOST: u64 = 0x10_0000;

/// Host memory that keeps what it held before each change.
pub struct Recorder {
    memory: VecMemory,
    log: RefCell<Vec<(Gpa, u64)>>,
}

impl Recorder {
    /// How many changes there were.
    pub fn changes(&self) -> usize {
        self.log.borrow().len()
    }

    /// What `at` held after the first `changes` changes.
    pub fn read_after(&self, changes: usize, at: Gpa) -> Option<u64> {
        let log = self.log.borrow();
        let later = log[changes..].iter().find(|(changed, _)| *changed == at);
        later.map_or_else(|| self.memory.read_u64(at), |(_, old)| Some(*old))
    }

    /// The address of every word.
    pub fn words(&self) -> impl Iterator<Item = Gpa> + use<> {
        let base = self.memory.base().0;
        (base..base + self.memory.bytes()).step_by(8).map(Gpa)
    }

    fn record(&self, at: Gpa) -> Option<()> {
        let old = self.memory.read_u64(at)?;
        self.log.borrow_mut().push((at, old));
        Some(())
    }
}

impl PhysicalMemory for Recorder {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        self.memory.read_u64(at)
    }

    fn write_u64(&self, at: Gpa, value: u64) -> Option<()> {
        self.record(at)?;
        self.memory.write_u64(at, value)
    }

    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool> {
        self.record(at)?;
        self.memory.compare_exchange_u64(at, current, new)
    }
}

/// Which host page is behind each guest page.
pub struct Map {
    host: RefCell<Vec<u64>>,
    spare: Cell<u64>,
}

impl Map {
    /// The guest page that a host page is behind.
    pub fn guest_page(&self, host: Hpa) -> Option<Gpa> {
        let host_pages = self.host.borrow();
        let found = host_pages.iter().position(|page| *page == host.page().0);
        found.map(|number| Gpa((number as u64) << 12))
    }
}

impl SecondLevel for Map {
    fn back(&self, at: Gpa) -> Option<Backing> {
        let number = at.0 >> 12;
        let host = *self.host.borrow().get(number as usize)?;
        (number != HOLE).then(|| Backing {
            hpa: Some(Hpa(host + at.page_offset())),
            writable: !READ_ONLY.contains(&number),
            references: 4,
            ..Backing::default()
        })
    }
}

/// The guest, before anything happens.
pub struct World {
    pub host: Recorder,
    pub second: Map,
    pub state: GuestState,
    roots: Vec<Gpa>,
    addresses: Vec<Gva>,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Guest(Op),
    HostMoves(Gpa),
}

impl World {
    /// A guest whose tables are in order, or a soup, as `seed` will have it.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let pages = 0..=PAGES;
        let second = Map {
            // Any order will do, so long as it is not the guest's.
            host: RefCell::new(
                pages
                    .map(|n| HOST + (n * 8 + 3) % (PAGES + 1) * 0x1000)
                    .collect(),
            ),
            spare: Cell::new(0),
        };
        let spare = second.host.borrow_mut().pop();
        second
            .spare
            .set(spare.expect("one page more than the guest has"));
        let memory = VecMemory::new(Gpa(HOST), PAGES as usize + 1);
        // Before the guest starts, its read-only pages are written, too.
        let writable = |at| {
            let backing = second.back(at)?;
            Some(Backing {
                writable: true,
                ..backing
            })
        };
        let through = Through::new(&memory, &writable);
        let tables = Gpa(0)..Gpa(TABLES << 12);
        let processor = Processor {
            physical_bits: 40,
            ..Processor::default()
        };
        let mut paging = arbitrary::paging(&mut random, &tables, processor);
        let orderly = !random.one_in(3);
        let (mut roots, mut addresses) = (Vec::new(), Vec::new());
        if orderly {
            paging.levels = Levels::Four;
            for first in [1, 7] {
                let region = Gpa(first << 12)..Gpa((first + 6) << 12);
                roots.push(process(&mut random, &through, region, &mut addresses));
            }
            paging.root = roots[0];
        } else {
            let targets = Gpa(0)..Gpa(PAGES << 12);
            arbitrary::fill(&mut random, &through, tables, targets);
            roots.extend([paging.root, Gpa(0x1000), Gpa(0x2000)]);
        }
        let mut state = GuestState::new(paging);
        state.pcids = random.one_in(2);
        let mut world = Self {
            host: Recorder {
                memory,
                log: RefCell::new(Vec::new()),
            },
            second,
            state,
            roots,
            addresses,
        };
        if !orderly {
            world.addresses = world.some_addresses(&mut random);
        }
        world
    }

    /// A few addresses, most of which lead somewhere.
    fn some_addresses(&self, random: &mut Random) -> Vec<Gva> {
        let paging = self.state.paging;
        let leads = |address: &Gva| {
            let memory = Through::new(&self.host, &self.second);
            let read = Access::new(Kind::Read, Privilege::SupervisorAc);
            let walk = paging.walk_nested(&memory, &self.second, *address, read);
            walk.outcome.is_ok()
        };
        let mut addresses = Vec::new();
        for attempt in 0..300 {
            let address = arbitrary::address(random, paging.levels);
            if leads(&address) || attempt % 100 == 0 {
                addresses.push(address);
            }
            if addresses.len() == 8 {
                break;
            }
        }
        addresses
    }

    pub fn addresses(&self) -> &[Gva] {
        &self.addresses
    }

    pub fn read(address: Gva) -> Op {
        let access = Access::new(Kind::Read, Privilege::SupervisorAc);
        Op::Access { address, access }
    }

    /// Moves what is behind the guest page at `at` to the spare host page.
    pub fn move_host_page(&self, at: Gpa) {
        let number = (at.0 >> 12) as usize;
        let (old, new) = (self.second.host.borrow()[number], self.second.spare.get());
        for offset in (0..0x1000).step_by(8) {
            let word = self.host.read_u64(Gpa(old + offset)).expect("host page");
            self.host
                .memory
                .write_u64(Gpa(new + offset), word)
                .expect("host page");
        }
        self.second.host.borrow_mut()[number] = new;
        self.second.spare.set(old);
    }
}

/// One process of an orderly guest: a few user pages, and all memory as a huge page of the kernel's,
/// tables included. Returns its root.
fn process(
    random: &mut Random,
    memory: &impl PhysicalMemory,
    region: Range<Gpa>,
    addresses: &mut Vec<Gva>,
) -> Gpa {
    const USER: u64 = 0x40_0000;
    const KERNEL: u64 = 0xffff_8000_0000_0000;
    let mut builder = Builder::new(memory, Levels::Four, region).expect("tables");
    for number in 0..6 {
        let (address, page) = (
            Gva(USER + number * 0x1000),
            Gpa((random.below(6) + TABLES) << 12),
        );
        let mut flags = Flags::USER | Flags::WRITABLE;
        flags.set(Flags::GLOBAL, random.one_in(4));
        flags.set(Flags::ACCESSED, random.one_in(2));
        builder
            .map(address, page, 0x1000, PageSize::Kib4, flags)
            .expect("map");
        addresses.push(address);
    }
    let flags = Flags::WRITABLE | Flags::GLOBAL;
    builder
        .map(Gva(KERNEL), Gpa(0), 1 << 21, PageSize::Mib2, flags)
        .expect("map");
    addresses.extend([0, 1, 2].map(|_| Gva(KERNEL + random.below(PAGES << 12))));
    builder.root()
}

/// What somebody wants of the guest; what that is, is seen when it is there.
#[derive(Clone, Copy, Debug)]
pub enum Intent {
    /// Anything.
    Anything,
    /// An access to this address.
    Touch(Gva),
    /// An edit on the way of this address.
    Edit(Gva),
    /// `invlpg` of this address.
    Flush(Gva),
    /// A write of CR3.
    Switch,
}

/// A list of intents from numbers that stand for one or, as kernels have habits, a few of them:
/// touch two addresses of what may be one huge page, edit on the way to it, perhaps change the
/// address space, flush one, touch the other.
pub fn intents(choices: &[u64], world: &World) -> Vec<(Intent, u64)> {
    let mut intents = Vec::new();
    for choice in choices {
        let mut random = Random::new(*choice);
        if !random.one_in(4) {
            intents.push((Intent::Anything, random.bits()));
            continue;
        }
        let one = random.pick(&world.addresses);
        let other = near(&mut random, one);
        let mut habit = vec![Intent::Touch(one), Intent::Touch(other), Intent::Edit(one)];
        if random.one_in(3) {
            habit.push(Intent::Switch);
        }
        habit.extend([Intent::Flush(one), Intent::Touch(other)]);
        intents.extend(habit.into_iter().map(|intent| (intent, random.bits())));
    }
    intents
}

/// What `intent` comes to in the guest as it stands, with `choice` for the details.
pub fn choose(intent: Intent, choice: u64, world: &World, state: GuestState) -> Act {
    let mut random = Random::new(choice);
    let random = &mut random;
    let paging = state.paging;
    Act::Guest(match intent {
        Intent::Anything => return anything(random, world, state),
        Intent::Touch(address) => Op::Access {
            address,
            access: access(random, address),
        },
        Intent::Edit(address) => edit(random, world, paging, address),
        Intent::Flush(address) => Op::Invlpg(address),
        Intent::Switch => Op::Cr3(cr3(random, world, state)),
    })
}

/// Mostly what belongs to the half of the address space where `address` is.
fn access(random: &mut Random, address: Gva) -> Access {
    let any = arbitrary::access(random);
    if random.one_in(4) {
        return any;
    }
    let privilege = if address.0 >> 63 == 0 {
        Privilege::User
    } else {
        Privilege::Supervisor
    };
    Access { privilege, ..any }
}

fn anything(random: &mut Random, world: &World, state: GuestState) -> Act {
    let paging = state.paging;
    let address = if random.one_in(8) {
        arbitrary::address(random, paging.levels)
    } else {
        random.pick(&world.addresses)
    };
    let access = access(random, address);
    Act::Guest(match random.below(64) {
        0..32 => Op::Access { address, access },
        32..40 => Op::Store {
            address: paging
                .levels
                .canonical(Gva(address.page().0 | slot(random))),
            privilege: access.privilege,
            value: some_entry(random),
        },
        40..50 => edit(random, world, paging, address),
        50..56 => Op::Invlpg(near(random, address)),
        56..62 => Op::Cr3(cr3(random, world, state)),
        62 => Op::Controls(Paging {
            processor: paging.processor,
            levels: paging.levels,
            ..arbitrary::paging(random, &(Gpa(0)..Gpa(TABLES << 12)), paging.processor)
        }),
        _ => return Act::HostMoves(Gpa(random.below(PAGES) << 12)),
    })
}

/// The offset of an entry that tables have.
fn slot(random: &mut Random) -> u64 {
    random.pick(&arbitrary::INDICES) as u64 * 8
}

fn some_entry(random: &mut Random) -> u64 {
    arbitrary::entry(random, &(Gpa(0)..Gpa(PAGES << 12))).raw()
}

/// An address in the same huge page, now and then.
fn near(random: &mut Random, address: Gva) -> Gva {
    match random.below(4) {
        0 => Gva(address.0 ^ slot(random) << 9),
        1 => Gva(address.0 ^ random.below(1 << 30)),
        _ => address,
    }
}

/// An edit of an entry on the way of `address`, as kernels make them, or of any.
fn edit(random: &mut Random, world: &World, paging: Paging, address: Gva) -> Op {
    let memory = Through::new(&world.host, &world.second);
    let walk = paging.walk(&memory, address, Access::READ);
    let Some(step) = walk.steps().get(random.below(5) as usize) else {
        let at = Gpa(random.below(PAGES) << 12 | slot(random));
        let value = some_entry(random);
        return Op::Edit { at, value };
    };
    let toggled = |flags: Flags| step.entry.raw() ^ flags.bits();
    let value = match random.below(12) {
        0 => toggled(Flags::PRESENT),
        1 => toggled(Flags::WRITABLE),
        2 => toggled(Flags::USER),
        3 => toggled(Flags::ACCESSED),
        4 => toggled(Flags::DIRTY),
        5 => toggled(Flags::HUGE),
        6 => toggled(Flags::GLOBAL),
        7 => Entry::ABSENT.raw(),
        // Another page with the same flags.
        8..11 => step.entry.raw() ^ random.below(PAGES) << 12,
        _ => some_entry(random),
    };
    let at = step.at();
    Op::Edit { at, value }
}

fn cr3(random: &mut Random, world: &World, state: GuestState) -> u64 {
    let root = if random.one_in(4) {
        random.below(TABLES) << 12
    } else {
        random.pick(&world.roots).0
    };
    if state.pcids {
        root | random.below(3) | random.below(2) << 63
    } else {
        root
    }
}

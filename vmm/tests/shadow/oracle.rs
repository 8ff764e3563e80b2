//! What the architecture permits an access to come to (SDM vol. 3A, 4.10.4.3): the translation that
//! the tables have now, or one that they had at some time since it was last flushed. Faults are never
//! stale here: both techniques walk again before they raise one.

use ringside_vmm::memory::{Gpa, Gva, Hpa};
use ringside_vmm::paging::tlb::{Flush, Tag};
use ringside_vmm::paging::{
    Access, Flags, GuestState, Kind, NestedFault, NestedTranslation, Op, PhysicalMemory, Privilege,
    Through,
};

use super::world::{Act, Recorder, World};

type Outcome = Result<Hpa, NestedFault>;

/// Host memory as it was.
struct Past<'w> {
    host: &'w Recorder,
    changes: usize,
}

impl PhysicalMemory for Past<'_> {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        self.host.read_after(self.changes, at)
    }

    fn write_u64(&self, _: Gpa, _: u64) -> Option<()> {
        unreachable!("the past stays as it is")
    }

    /// Marks are pretended: whether they may be set counts, as tables can be read-only.
    fn compare_exchange_u64(&self, _: Gpa, _: u64, _: u64) -> Option<bool> {
        Some(true)
    }
}

/// One moment: the registers and the memory before a step, the step, and what it flushed.
struct Moment {
    state: GuestState,
    changes: usize,
    act: Act,
    flush: Option<Flush>,
}

impl Moment {
    /// Whether the step writes in the page of `address`, and so has its entry marked dirty.
    fn writes(&self, address: Gva) -> bool {
        let Act::Guest(op) = self.act else {
            return false;
        };
        target(op)
            .is_some_and(|(at, access)| access.kind == Kind::Write && at.page() == address.page())
    }
}

/// The access that an operation makes.
fn target(op: Op) -> Option<(Gva, Access)> {
    match op {
        Op::Access { address, access } => Some((address, access)),
        Op::Store {
            address, privilege, ..
        } => Some((address.align_down(8), Access::new(Kind::Write, privilege))),
        _ => None,
    }
}

/// The history of one guest.
pub struct Oracle<'w> {
    world: &'w World,
    state: GuestState,
    moments: Vec<Moment>,
}

impl<'w> Oracle<'w> {
    pub fn new(world: &'w World) -> Self {
        Self {
            world,
            state: world.state,
            moments: Vec::new(),
        }
    }

    pub fn state(&self) -> GuestState {
        self.state
    }

    /// A step begins: this is how things are.
    pub fn begin(&mut self, act: Act) {
        self.moments.push(Moment {
            state: self.state,
            changes: self.world.host.changes(),
            act,
            flush: None,
        });
    }

    /// The step was `op`: what it does to the registers and to what may be remembered.
    pub fn end(&mut self, op: Op) {
        let pcid = self.state.tag.pcid;
        let flush = match op {
            Op::Cr3(value) => self.state.load_cr3(value),
            Op::Invlpg(address) => Some(Flush::Page { pcid, address }),
            Op::Controls(controls) => {
                self.state.load_controls(controls);
                Some(Flush::Everything)
            }
            Op::Access { .. } | Op::Store { .. } | Op::Edit { .. } => None,
        };
        self.moments.last_mut().expect("a step").flush = flush;
    }

    /// The hypervisor flushed everything.
    pub fn flush_everything(&mut self) {
        self.moments.last_mut().expect("a step").flush = Some(Flush::Everything);
    }

    /// What the step's access may come to.
    pub fn expected(&self, op: Op) -> Option<Expected> {
        let (address, access) = target(op)?;
        let (now, past) = self.moments.split_last()?;
        let fresh = self.walk(now, address, access);
        let host =
            |found: NestedTranslation| found.host.host_address().expect("mapped by the test");
        let (mut stale, mut remembered) = (Vec::new(), false);
        let mut flushes = Vec::new();
        for moment in past.iter().rev() {
            if moment.flush == Some(Flush::Everything) {
                break;
            }
            flushes.extend(moment.flush);
            let Ok(found) = self.walk(moment, address, access) else {
                continue;
            };
            let kept = Remembered::new(moment.state.tag, address, &found);
            if kept.serves(self.state.tag) && flushes.iter().all(|flush| kept.outlives(flush)) {
                stale.push(host(found));
                // Only an entry that was dirty spares a write the walk.
                remembered |= access.kind != Kind::Write
                    || moment.writes(address)
                    || self.was_dirty(moment, address);
            }
        }
        Some(Expected {
            must_mark: fresh.is_ok() && !remembered && matches!(op, Op::Access { .. }),
            fresh: fresh.map(host),
            stale,
        })
    }

    /// Whether the page at `address` had its dirty bit.
    fn was_dirty(&self, moment: &Moment, address: Gva) -> bool {
        // A read marks nothing dirty, and with AC set nothing but absence refuses it.
        let read = Access::new(Kind::Read, Privilege::SupervisorAc);
        let found = self.walk(moment, address, read);
        found.is_ok_and(|found| found.guest.entry.has(Flags::DIRTY))
    }

    /// Whether every entry on the way of `op`'s address has the bits that its access sets.
    pub fn is_marked(&self, op: Op) -> bool {
        let Some((address, access)) = target(op) else {
            return true;
        };
        let memory = Through::new(&self.world.host, &self.world.second);
        let walk = self.state.paging.walk(&memory, address, access);
        let dirty = walk
            .outcome
            .is_ok_and(|found| found.entry.has(Flags::DIRTY));
        walk.steps()
            .iter()
            .all(|step| step.entry.has(Flags::ACCESSED))
            && (dirty || access.kind != Kind::Write)
    }

    fn walk(
        &self,
        moment: &Moment,
        address: Gva,
        access: Access,
    ) -> Result<NestedTranslation, NestedFault> {
        let past = Past {
            host: &self.world.host,
            changes: moment.changes,
        };
        let memory = Through::new(&past, &self.world.second);
        let paging = moment.state.paging;
        let second = &self.world.second;
        paging
            .walk_nested_and_mark(&memory, second, address, access)
            .outcome
    }
}

/// What a TLB may have kept of a translation. The rules are written again here and not taken from the
/// model, which is on trial as well.
struct Remembered {
    tag: Tag,
    global: bool,
    /// The page, of whatever size, from its first to its last address.
    page: (u64, u64),
}

impl Remembered {
    fn new(tag: Tag, address: Gva, found: &NestedTranslation) -> Self {
        let bytes = found.guest.size.bytes();
        let start = address.0 / bytes * bytes;
        Self {
            tag,
            global: found.guest.entry.has(Flags::GLOBAL),
            page: (start, start + (bytes - 1)),
        }
    }

    fn serves(&self, tag: Tag) -> bool {
        self.global || self.tag.pcid == tag.pcid
    }

    fn outlives(&self, flush: &Flush) -> bool {
        match *flush {
            Flush::Everything => false,
            Flush::Pcid(pcid) => self.global || self.tag.pcid != pcid,
            Flush::Page { pcid, address } => {
                let elsewhere = address.0 < self.page.0 || address.0 > self.page.1;
                elsewhere || !self.global && self.tag.pcid != pcid
            }
        }
    }
}

/// What an access may come to.
#[derive(Debug)]
pub struct Expected {
    /// Nothing may be remembered that serves this access: it walks, and marks.
    pub must_mark: bool,
    fresh: Outcome,
    stale: Vec<Hpa>,
}

impl Expected {
    pub fn is_fresh(&self, outcome: Outcome) -> bool {
        self.fresh == outcome
    }

    /// Whether `outcome` is fresh, or stale and permitted; `None`: it is neither.
    pub fn judge(&self, outcome: Outcome) -> Option<bool> {
        if self.is_fresh(outcome) {
            return Some(true);
        }
        let permitted = outcome.is_ok_and(|host| self.stale.contains(&host));
        permitted.then_some(false)
    }
}

/// How often accesses were fresh, and how often stale.
#[derive(Clone, Copy, Debug, Default)]
pub struct Permitted {
    pub fresh: u64,
    pub stale: u64,
}

impl Permitted {
    pub fn count(&mut self, fresh: bool) {
        if fresh {
            self.fresh += 1;
        } else {
            self.stale += 1;
        }
    }
}

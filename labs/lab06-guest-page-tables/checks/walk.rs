//! Checks 6.2 to 6.6: the student's walk over tables whose meaning is known.

use lab06::{Access, Fault, Gpa, Gva, PhysicalMemory, Registers, Translation, bits};
use ringside_lab_harness::{Context, Failure, Outcome, attempt, compare, ensure};
use ringside_vmm::paging::VecMemory;

use crate::parts::{self, Walk, library_walk};
use crate::recording::Recording;
use crate::world::{ACCESSES, Region, Shape, World, show};

const READ: Access = ACCESSES[0];

type Answer = Result<Translation, Fault>;

/// Draws `worlds` of `shape` and compares `view` of the answers at two addresses of each region.
fn over_worlds<T: PartialEq + std::fmt::Debug>(
    context: &Context,
    purpose: &str,
    (worlds, shape): (u32, Shape),
    look: &str,
    accesses: &[Access],
    view: fn(Answer) -> T,
) -> Outcome {
    let walk = parts::walk(context);
    let mut random = context.seed.rng(purpose);
    for _ in 0..worlds {
        let world = World::new(&mut random, shape);
        for region in &world.regions {
            for _ in 0..2 {
                let gva = World::address(&mut random, region);
                for &access in accesses {
                    let got = call(walk, &world, region, gva, access, look)?;
                    let expected = world.expected(region, gva, access);
                    let ran = || world.describe(region, gva, access);
                    let (expected, got) = (view(expected), view(got));
                    if expected != got {
                        return compare(ran(), expected, got, look);
                    }
                }
            }
        }
    }
    Ok(())
}

fn call(
    walk: Walk,
    world: &World,
    region: &Region,
    gva: Gva,
    access: Access,
    look: &str,
) -> Result<Answer, Failure> {
    let ran = || world.describe(region, gva, access);
    attempt(ran, look, || {
        walk(&world.memory, world.registers, gva, access)
    })
}

pub fn small_pages(context: &Context) -> Outcome {
    over_worlds(
        context,
        "small pages",
        (40, Shape::default()),
        "`walk`: an entry's address field is the next table; the page table's is the page; where an \
         entry is not present, the code of a read by ring 0 is 0",
        &[READ],
        |answer| answer.map(|found| found.gpa),
    )
}

pub fn huge_pages(context: &Context) -> Outcome {
    let shape = Shape {
        huge: true,
        giant: true,
        ..Shape::default()
    };
    over_worlds(
        context,
        "huge pages",
        (40, shape),
        "`walk`: with bit 7 (HUGE) an entry of a PDPT or a PD is the page itself; the offset is then \
         wider, and the entry's low address bits are something else",
        &[READ],
        |answer| answer.map(|found| (found.gpa, found.page_bytes)),
    )
}

pub fn rights(context: &Context) -> Outcome {
    let shape = Shape {
        huge: true,
        giant: true,
        rights: true,
        ..Shape::default()
    };
    over_worlds(
        context,
        "rights",
        (60, shape),
        "`walk`: rights are the *and* over all entries of the path; `code` in given.rs has the bits; \
         CR0.WP and EFER.NXE each change one rule",
        &ACCESSES,
        |answer| answer,
    )
}

pub fn hostile(context: &Context) -> Outcome {
    let shape = Shape {
        huge: true,
        giant: true,
        rights: true,
        hostile: true,
    };
    let look = "`walk`: check an entry's reserved bits before you believe it, and what the memory \
                answers before you use it";
    over_worlds(context, "hostile", (60, shape), look, &ACCESSES, |answer| {
        answer
    })?;
    non_canonical(context)?;
    table_of_itself(context)?;
    noise(context)
}

fn non_canonical(context: &Context) -> Outcome {
    let walk = parts::walk(context);
    let look = "`walk`: is_canonical, before anything is read";
    let nothing = VecMemory::new(Gpa(0), 0);
    let memory = Recording::new(&nothing);
    let mut random = context.seed.rng("non-canonical");
    for _ in 0..50 {
        let high = random.range(1..0xffff) << 48;
        let gva = Gva(high | random.next_u64() >> 16);
        let access = *random.pick(&ACCESSES);
        let ran = || format!("walk({gva}, {})", show(access));
        let registers = Registers {
            cr3: Gpa(0x1000),
            wp: true,
            nxe: true,
        };
        let got = attempt(ran, look, || walk(&memory, registers, gva, access))?;
        compare(ran(), Err(Fault::NonCanonical), got, look)?;
    }
    let reads = memory.take().reads.len();
    compare(
        "walks of non-canonical addresses, counting reads",
        0,
        reads,
        look,
    )
}

/// A PML4 that is its own last table: kernels map their tables this way, and a walk must not care.
fn table_of_itself(context: &Context) -> Outcome {
    let walk = parts::walk(context);
    let look = "`walk`: a table that is entered into itself is a table like any other; four levels \
                are four levels";
    let mut random = context.seed.rng("itself");
    let root = Gpa(random.range(1..100) << 12);
    let memory = VecMemory::new(root, 1);
    let index = random.below(256);
    let entry = root.0 | bits::PRESENT | bits::WRITABLE;
    let _ = memory.write_u64(Gpa(root.0 + 8 * index), entry);
    let gva = Gva(index << 39 | index << 30 | index << 21 | index << 12 | 0x123);
    let registers = Registers {
        cr3: root,
        wp: true,
        nxe: true,
    };
    let ran = || format!("walk({gva}) where entry {index} of the PML4 at {root} is the PML4");
    let got = attempt(ran, look, || walk(&memory, registers, gva, READ))?;
    let gpa = got.map(|found| found.gpa);
    compare(ran(), Ok(Gpa(root.0 | 0x123)), gpa, look)
}

/// Memory full of noise: whatever it says, the answer is the hypervisor's own walker's.
fn noise(context: &Context) -> Outcome {
    let walk = parts::walk(context);
    let look = "`walk`: the guest may put anything into its tables";
    let mut random = context.seed.rng("noise");
    let memory = VecMemory::new(Gpa(0x4000), 8);
    for word in (0..8 * 0x1000).step_by(8) {
        let near = random.next_u64() & 0x8000_0000_0000_7fff | 1;
        let entry = if random.one_in(8) {
            random.next_u64()
        } else {
            near
        };
        let _ = memory.write_u64(Gpa(0x4000 + word), entry);
    }
    for _ in 0..2000 {
        let gva = Gva((random.next_u64() as i64 >> 16) as u64);
        let registers = Registers {
            cr3: Gpa(random.below(16) << 12),
            wp: random.one_in(2),
            nxe: random.one_in(2),
        };
        let access = *random.pick(&ACCESSES);
        let ran = || {
            let how = show(access);
            format!("walk({gva}, {how}) with {registers:?} in memory full of noise")
        };
        let expected = library_walk(&memory, registers, gva, access);
        let got = attempt(ran, look, || walk(&memory, registers, gva, access))?;
        if expected != got {
            return compare(ran(), expected, got, look);
        }
    }
    Ok(())
}

pub fn references(context: &Context) -> Outcome {
    let walk = parts::walk(context);
    let look = "`walk`: one read a level, from the root down, none twice, none after the answer is \
                known, and no write (setting the accessed bit is another lab)";
    let shape = Shape {
        huge: true,
        giant: true,
        rights: true,
        hostile: true,
    };
    let mut random = context.seed.rng("references");
    for _ in 0..40 {
        let world = World::new(&mut random, shape);
        let memory = Recording::new(&world.memory);
        for region in &world.regions {
            let gva = World::address(&mut random, region);
            let access = *random.pick(&ACCESSES);
            let ran = || world.describe(region, gva, access);
            attempt(ran, look, || walk(&memory, world.registers, gva, access)).map(drop)?;
            let log = memory.take();
            let expected = world.path(region, gva);
            ensure(
                log.reads == expected && log.writes == 0,
                ran(),
                format!("{} reads: {}", expected.len(), join(&expected)),
                || {
                    let count = log.reads.len();
                    format!("{count} reads: {}; {} writes", join(&log.reads), log.writes)
                },
                look,
            )?;
        }
    }
    Ok(())
}

fn join(addresses: &[Gpa]) -> String {
    let shown: Vec<_> = addresses.iter().take(8).map(Gpa::to_string).collect();
    shown.join(", ")
}

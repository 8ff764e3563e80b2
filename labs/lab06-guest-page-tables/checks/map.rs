//! Checks 6.7 and 6.8: what the student's `map` makes, listed entry by entry.

use std::collections::BTreeSet;

use lab06::{Gpa, Gva, Level, MapError, PAGE_BYTES, Page, PhysicalMemory, Rights, bits};
use ringside_lab_harness::{Context, Failure, Outcome, Rng, attempt, compare, ensure};
use ringside_vmm::paging::VecMemory;

use crate::census::census;
use crate::parts::{Behind, Space};
use crate::recording::Recording;

const BASE: Gpa = Gpa(0x20_0000);
const TABLES: u64 = 64;
const LOOK: &str = "`map` in src/lib.rs";

/// Memory for tables, full of what others left.
fn used_memory(random: &mut Rng) -> VecMemory {
    let memory = VecMemory::new(BASE, TABLES as usize);
    for word in (0..TABLES * PAGE_BYTES).step_by(8) {
        let _ = memory.write_u64(Gpa(BASE.0 + word), random.next_u64() | bits::PRESENT);
    }
    memory
}

fn tables(count: u64) -> std::ops::Range<Gpa> {
    BASE..Gpa(BASE.0 + count * PAGE_BYTES)
}

/// Pages that do not touch each other: slots of 1 GiB, each holding pages of one size.
fn some_pages(random: &mut Rng) -> Vec<Page> {
    let mut pages = Vec::new();
    let corner = Gva(random.below(200) << 39 | random.below(500) << 30);
    for slot in 0..8 {
        // Two in the upper half, where kernels live.
        let upper = if slot >= 6 { 0xffff_8000_0000_0000 } else { 0 };
        let first = upper | (corner.0 + (slot << 30));
        let leaf = *random.pick(&[Level::Pdpt, Level::Pd, Level::Pt, Level::Pt]);
        let bytes = leaf.page_bytes();
        let mut places = BTreeSet::new();
        for _ in 0..if leaf == Level::Pdpt { 1 } else { 6 } {
            // Neighbours, so that tables are shared, and a far one.
            let far = if random.one_in(3) { 100 } else { 4 };
            places.insert(random.below(far) * bytes % (1 << 30));
        }
        for place in places {
            pages.push(Page {
                gva: Gva(first + place),
                gpa: Gpa(random.below((1 << 36) / bytes) * bytes),
                leaf,
                rights: Rights {
                    writable: random.one_in(2),
                    user: random.one_in(2),
                    executable: random.one_in(2),
                },
            });
        }
    }
    for last in (1..pages.len()).rev() {
        pages.swap(last, random.below(last as u64 + 1) as usize);
    }
    pages
}

fn show(page: Page) -> String {
    let Page {
        gva,
        gpa,
        leaf,
        rights,
    } = page;
    let kib = leaf.page_bytes() >> 10;
    format!("map({gva} → {gpa}, {kib} KiB, {rights:?})")
}

fn enter(space: &mut Space<'_>, page: Page) -> Result<Result<(), MapError>, Failure> {
    attempt(|| show(page), LOOK, || space.map(page))
}

pub fn pages(context: &Context) -> Outcome {
    let mut random = context.seed.rng("pages");
    for _ in 0..10 {
        let memory = used_memory(&mut random);
        let fresh = (0..TABLES).map(|n| Gpa(BASE.0 + n * PAGE_BYTES)).collect();
        let recording = Recording::watching(&memory, fresh);
        let behind = Behind(&recording);
        let mut space = Space::new(context, &behind, tables(TABLES));
        let mut expected = some_pages(&mut random);
        for &page in &expected {
            recording.take();
            let got = enter(&mut space, page)?;
            compare(show(page), Ok(()), got, LOOK)?;
            let dirty = recording.take().linked_dirty;
            ensure(
                dirty.is_empty(),
                show(page),
                "a new table is empty before an entry leads to it",
                || format!("the table at {} was entered with old bytes in it", dirty[0]),
                "`map`: `Frames::take` gives memory that somebody used before",
            )?;
        }
        expected.sort_by_key(|page| page.gva);
        agree(
            &memory,
            &space,
            &expected,
            "after all the calls, listing every entry",
        )?;
        let taken = (space.next_table().0 - BASE.0) / PAGE_BYTES;
        compare(
            format!("{} pages entered: how many tables", expected.len()),
            tables_for(&expected),
            taken,
            "`map`: a table that is there already is used again",
        )?;
    }
    Ok(())
}

/// One table for the root, and one for each different prefix of an address above its leaf.
fn tables_for(pages: &[Page]) -> u64 {
    let mut prefixes = BTreeSet::new();
    for page in pages {
        for level in Level::ALL.into_iter().filter(|level| *level < page.leaf) {
            prefixes.insert((level, page.gva.0 / level.page_bytes()));
        }
    }
    1 + prefixes.len() as u64
}

fn agree(memory: &VecMemory, space: &Space<'_>, expected: &[Page], ran: &str) -> Outcome {
    let got = census(memory, space.cr3());
    let got = got.map_err(|error| Failure::found(ran, "well-formed tables", error, LOOK))?;
    let wrong = expected.iter().find(|page| !got.contains(page));
    if let Some(&page) = wrong {
        let at = got.iter().find(|other| other.gva == page.gva);
        let look = "`map`: the leaf's rights are the page's; the entries above it allow everything";
        let got = at.map_or("nothing there".into(), |&page| show(page));
        return Err(Failure::found(ran, show(page), got, look));
    }
    let extra = got.iter().find(|page| !expected.contains(page));
    ensure(
        extra.is_none(),
        ran,
        "no page but those that were entered",
        || format!("also {}", extra.map_or(String::new(), |&page| show(page))),
        "`map`: old bytes in a new table look like entries",
    )
}

pub fn refusals(context: &Context) -> Outcome {
    let mut random = context.seed.rng("refusals");
    let memory = used_memory(&mut random);
    let behind = Behind(&memory);
    let mut space = Space::new(context, &behind, tables(TABLES));
    let all = Rights {
        writable: true,
        user: true,
        executable: true,
    };
    let page = |gva: u64, leaf: Level| Page {
        gva: Gva(gva),
        gpa: Gpa(1 << 30),
        leaf,
        rights: all,
    };
    let corner = random.range(1..200) << 39;
    let there = [
        page(corner, Level::Pt),
        page(corner + (1 << 21), Level::Pd),
        page(corner + (1 << 30), Level::Pdpt),
    ];
    for page in there {
        let got = enter(&mut space, page)?;
        compare(show(page), Ok(()), got, LOOK)?;
    }
    let odd = random.range(1..1 << 9) << 12;
    let refused = [
        (page(1 << 47, Level::Pt), MapError::NonCanonical),
        (
            page(0xffff_0000_0000_0000, Level::Pt),
            MapError::NonCanonical,
        ),
        (page(corner + 0x1008, Level::Pt), MapError::Misaligned),
        (
            page(corner + (1 << 32) + odd, Level::Pd),
            MapError::Misaligned,
        ),
        (
            page(corner + (1 << 32) + (odd << 9), Level::Pdpt),
            MapError::Misaligned,
        ),
        (
            Page {
                gpa: Gpa((1 << 30) + odd),
                ..page(corner + (1 << 32), Level::Pd)
            },
            MapError::Misaligned,
        ),
        (there[0], MapError::Taken),
        (there[1], MapError::Taken),
        (there[2], MapError::Taken),
        // A small page inside a huge one, and a huge one over a table of small ones.
        (page(corner + (1 << 21) + odd, Level::Pt), MapError::Taken),
        (page(corner + (1 << 30) + odd, Level::Pt), MapError::Taken),
        (
            page(corner + (1 << 30) + (odd << 9), Level::Pd),
            MapError::Taken,
        ),
        (page(corner, Level::Pd), MapError::Taken),
        (page(corner, Level::Pdpt), MapError::Taken),
    ];
    for (page, error) in refused {
        let got = enter(&mut space, page)?;
        compare(
            show(page),
            Err(error),
            got,
            "`map`: the list of errors above it says when",
        )?;
        agree(
            &memory,
            &space,
            &there,
            &format!("after the refused {}", show(page)),
        )?;
    }
    no_frame(context, &mut random, page(corner, Level::Pt))?;
    no_memory(context, &mut random, page(corner, Level::Pt))
}

/// The root and `count` more tables; a page of 4 KiB needs three.
fn no_frame(context: &Context, random: &mut Rng, page: Page) -> Outcome {
    for count in 1..=3 {
        let memory = used_memory(random);
        let behind = Behind(&memory);
        let mut space = Space::new(context, &behind, tables(count));
        let ran = format!("{} with {} pages for tables", show(page), count - 1);
        let got = enter(&mut space, page)?;
        compare(ran.clone(), Err(MapError::NoFrame), got, LOOK)?;
        agree(&memory, &space, &[], &format!("after {ran}"))?;
    }
    Ok(())
}

/// The guest entered a table that is not in its memory.
fn no_memory(context: &Context, random: &mut Rng, page: Page) -> Outcome {
    let memory = used_memory(random);
    let behind = Behind(&memory);
    let mut space = Space::new(context, &behind, tables(TABLES));
    let entry = Gpa(space.cr3().0 + page.gva.0 / Level::Pml4.page_bytes() * 8);
    let _ = memory.write_u64(entry, 0xdead_0000 | bits::PRESENT | bits::WRITABLE);
    let got = enter(&mut space, page)?;
    let ran = format!(
        "{} where the PML4's entry leads to 0xdead0000, outside memory",
        show(page)
    );
    compare(ran, Err(MapError::NoMemory), got, LOOK)
}

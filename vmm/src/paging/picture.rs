//! A walk drawn as text: plain, aligned, one line for each step, so that a projector shows it and
//! a pipe can cut it. Whoever prints it may colour the lines.

use std::fmt::{self, Display, Formatter};

use super::level::{Level, Levels};
use super::nested::{NestedFault, NestedWalk};
use super::second::Backing;
use super::walk::{Step, Translation, Walk};
use crate::memory::Gva;

impl Display for Walk {
    /// ```text
    /// read by user at 0x00007f1234567abc
    ///
    ///   sign  PML4  PDPT    PD    PT  offset
    ///      0   254    72   418   359   0xabc
    ///
    ///   PML4  0x0000001000 [254]  0x0000000000002067  P W U A D . . .
    ///   PDPT  0x0000002000 [ 72]  0x0000000000003067  P W U A D . . .
    ///   …
    ///   page  0x0000009000 + 0xabc = 0x9abc  (4 KiB, user, write, execute)
    /// ```
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        heading(f, self)?;
        for step in self.steps() {
            line(f, step)?;
            writeln!(f, "{}", step.entry.letters(step.level))?;
        }
        match &self.outcome {
            Ok(found) => page(f, found)?,
            Err(fault) => write!(f, "  stop  {fault}")?,
        }
        writeln!(f)
    }
}

impl Display for NestedWalk {
    /// As a [`Walk`], with where each table and the page lie on the host, and what the walk costs.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        heading(f, &self.guest)?;
        for (step, table) in self.steps() {
            line(f, step)?;
            write!(f, "{:<16}", step.entry.letters(step.level))?;
            place(f, table)?;
            writeln!(f)?;
        }
        match &self.outcome {
            Ok(found) => {
                page(f, &found.guest)?;
                place(f, &found.host)?;
            }
            Err(NestedFault::Guest(fault)) => write!(f, "  stop  {fault}")?,
            Err(violation) => write!(f, "  exit  {violation}")?,
        }
        writeln!(f)?;
        let steps = self.steps().len();
        let references = self.references();
        writeln!(f)?;
        writeln!(f, "  guest tables alone  {steps:>3} memory references")?;
        writeln!(f, "  both levels         {references:>3} memory references")
    }
}

/// What is looked up, and how the address splits.
fn heading(f: &mut Formatter<'_>, walk: &Walk) -> fmt::Result {
    writeln!(f, "{} at {:018x}", walk.access, walk.address)?;
    let Some(first) = walk.steps().first() else {
        return writeln!(f);
    };
    let levels = if first.level == Level::Pml5 {
        Levels::Five
    } else {
        Levels::Four
    };
    let Gva(raw) = walk.address;
    writeln!(f)?;
    write!(f, "  sign")?;
    let indices = || Level::ALL.into_iter().rev().filter(|l| *l <= levels.top());
    for level in indices() {
        write!(f, "  {level:>4}")?;
    }
    writeln!(f, "  offset")?;
    write!(f, "  {:>4}", raw >> 63)?;
    for level in indices() {
        write!(f, "  {:>4}", level.index(walk.address))?;
    }
    let offset = format!("{:#x}", walk.address.page_offset());
    writeln!(f, "  {offset:>6}")?;
    writeln!(f)
}

/// One step, as far as its flags.
fn line(f: &mut Formatter<'_>, step: &Step) -> fmt::Result {
    let Step {
        level,
        table,
        index,
        entry,
    } = step;
    write!(
        f,
        "  {level:<4}  {table:012x} [{index:>3}]  {:#018x}  ",
        entry.raw()
    )
}

/// The page at the end of a walk, without the end of its line.
fn page(f: &mut Formatter<'_>, found: &Translation) -> fmt::Result {
    let offset = found.gpa.0 & (found.size.bytes() - 1);
    let start = found.gpa.align_down(found.size.bytes());
    let rights = found.rights;
    write!(
        f,
        "  page  {start:012x} + {offset:#x} = {}  ({}, {}, {}, {})",
        found.gpa,
        found.size,
        if rights.user { "user" } else { "supervisor" },
        if rights.write { "write" } else { "read-only" },
        if rights.execute {
            "execute"
        } else {
            "no-execute"
        },
    )
}

/// Where something is on the host: the parts of it that are known.
fn place(f: &mut Formatter<'_>, backing: &Backing) -> fmt::Result {
    let unknown = Backing {
        references: backing.references,
        writable: backing.writable,
        ..Backing::default()
    };
    if *backing == unknown {
        return Ok(());
    }
    write!(f, "  ->")?;
    if let Some(slot) = backing.slot {
        write!(f, "  slot {slot}")?;
    }
    if let Some(hva) = backing.hva {
        write!(f, "  hva {hva:#x}")?;
    }
    if let Some(hpa) = backing.hpa {
        write!(f, "  hpa {hpa:#x}")?;
    }
    if !backing.writable {
        write!(f, "  read-only")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Builder, Flags, Levels, PageSize, Paging, Slot, Slots, VecMemory};
    use crate::memory::{Gpa, Gva, Hpa, Hva};
    use std::fmt::Display;

    fn lines(shown: impl Display) -> Vec<String> {
        shown.to_string().lines().map(str::to_owned).collect()
    }

    fn mapped() -> (VecMemory, Paging) {
        let memory = VecMemory::new(Gpa(0), 16);
        let mut builder =
            Builder::new(&memory, Levels::Four, Gpa(0x1000)..Gpa(0x8000)).expect("new");
        let flags = Flags::WRITABLE | Flags::USER | Flags::NO_EXECUTE;
        let address = Gva(0x7f12_3456_7000);
        builder
            .map(address, Gpa(0x9000), 0x1000, PageSize::Kib4, flags)
            .expect("map");
        let paging = Paging::new(builder.root(), Levels::Four);
        (memory, paging)
    }

    #[test]
    fn a_walk_is_drawn() {
        let (memory, paging) = mapped();
        let walk = paging.walk(&memory, Gva(0x7f12_3456_7abc), Access::USER_READ);
        assert_eq!(
            lines(walk),
            [
                "read by user at 0x00007f1234567abc",
                "",
                "  sign  PML4  PDPT    PD    PT  offset",
                "     0   254    72   418   359   0xabc",
                "",
                "  PML4  0x0000001000 [254]  0x0000000000002007  P W U . . . . .",
                "  PDPT  0x0000002000 [ 72]  0x0000000000003007  P W U . . . . .",
                "  PD    0x0000003000 [418]  0x0000000000004007  P W U . . . . .",
                "  PT    0x0000004000 [359]  0x8000000000009007  P W U . . . . NX",
                "  page  0x0000009000 + 0xabc = 0x9abc  (4 KiB, user, write, no-execute)",
            ]
        );
    }

    #[test]
    fn a_fault_is_the_last_line() {
        let (memory, paging) = mapped();
        let shown = lines(paging.walk(&memory, Gva(0x7f12_3456_8000), Access::USER_READ));
        let last =
            "  stop  page fault at 0x7f1234568000 (error code 0x4): the PT entry is not present";
        assert_eq!(shown.last().map(String::as_str), Some(last));
        let shown = lines(paging.walk(&memory, Gva(1 << 63), Access::READ));
        assert_eq!(shown.len(), 3, "{shown:?}");
    }

    #[test]
    fn both_levels_are_drawn_side_by_side() {
        let (memory, paging) = mapped();
        let slot = Slot {
            number: 2,
            gpa: Gpa(0),
            bytes: 0x1_0000,
            hva: Hva(0x7000_0000),
            read_only: false,
        };
        let slots = Slots::new([slot]).with_pagemap(|hva| Some(Hpa(hva.0 + 0x1000_0000)));
        let walk = paging.walk_nested(&memory, &slots, Gva(0x7f12_3456_7abc), Access::USER_READ);
        let shown = lines(walk);
        assert_eq!(
            shown[5..],
            [
                "  PML4  0x0000001000 [254]  0x0000000000002007  P W U . . . . .   ->  slot 2  hva 0x700017f0  hpa 0x800017f0",
                "  PDPT  0x0000002000 [ 72]  0x0000000000003007  P W U . . . . .   ->  slot 2  hva 0x70002240  hpa 0x80002240",
                "  PD    0x0000003000 [418]  0x0000000000004007  P W U . . . . .   ->  slot 2  hva 0x70003d10  hpa 0x80003d10",
                "  PT    0x0000004000 [359]  0x8000000000009007  P W U . . . . NX  ->  slot 2  hva 0x70004b38  hpa 0x80004b38",
                "  page  0x0000009000 + 0xabc = 0x9abc  (4 KiB, user, write, no-execute)  ->  slot 2  hva 0x70009abc  hpa 0x80009abc",
                "",
                "  guest tables alone    4 memory references",
                "  both levels          24 memory references",
            ]
        );
    }
}

//! The measurement: how often memory is read for one load, and where.

use std::fmt::Write as _;

use lab06::{Access, Gpa, Gva, Level, Page, PhysicalMemory, Registers, Rights, bits, indices};
use ringside_lab_harness::{Context, Failure};
use ringside_vmm::paging::VecMemory;

use crate::parts::{self, Behind, Space};
use crate::recording::Recording;

const READ: Access = Access {
    write: false,
    user: true,
    fetch: false,
};

pub fn measure(context: &Context) -> Result<String, Failure> {
    let walk = parts::walk(context);
    let memory = VecMemory::new(Gpa(0x1000), 32);
    let behind = Behind(&memory);
    // The tables are the library's: your walk can be seen before your map is written.
    let mut space = Space::by_library(&behind, Gpa(0x1000)..Gpa(0x2_1000)).map_err(|error| {
        Failure::found(
            "the library's tables",
            "a root",
            error.to_string(),
            "the lab itself",
        )
    })?;
    let gva = super::address(context.seed);
    let sizes = [
        ("4 KiB", Level::Pt),
        ("2 MiB", Level::Pd),
        ("1 GiB", Level::Pdpt),
    ];
    let mut text = String::new();
    let mut table = String::from("  page    references  entries to map 1 GiB\n");
    for (number, (name, leaf)) in (0..).zip(sizes) {
        // Each size in its own 512 GiB, so that they do not meet.
        let at = Gva((gva.0 + (number << 39)) & ((1 << 47) - 1));
        let bytes = leaf.page_bytes();
        let page = Page {
            gva: Gva(at.0 & !(bytes - 1)),
            gpa: Gpa(bytes * 5),
            leaf,
            rights: Rights {
                writable: true,
                user: true,
                executable: false,
            },
        };
        space.map(page).map_err(|error| {
            let ran = format!("{page:?}");
            Failure::found(ran, "the page entered", error.to_string(), "the lab itself")
        })?;
        let recording = Recording::new(&memory);
        let registers = Registers {
            cr3: space.cr3(),
            wp: true,
            nxe: true,
        };
        let found = walk(&recording, registers, at, READ);
        let reads = recording.take().reads;
        if number == 0 {
            picture(
                &mut text,
                &memory,
                at,
                &reads,
                found.ok().map(|found| found.gpa),
            );
        }
        let _ = writeln!(
            table,
            "  {name}   {:>10}  {:>20}",
            reads.len(),
            (1 << 30) / bytes
        );
    }
    let scan = (1 << 20) / 8;
    let _ = write!(
        text,
        "{table}\n  Reading 1 MiB in words of eight bytes is {scan} loads. With an empty TLB each time \
         that\n  would be {} more references to memory; a TLB that keeps one translation for each page\n  \
         of 4 KiB needs {} of them, and with one page of 2 MiB {}.\n",
        scan * 4,
        (1 << 20) / 4096 * 4,
        3
    );
    Ok(text)
}

/// The address cut up, and one line for each reference.
fn picture(text: &mut String, memory: &VecMemory, gva: Gva, reads: &[Gpa], gpa: Option<Gpa>) {
    let [pml4, pdpt, pd, pt] = indices_or_none(gva);
    let offset = gva.0 & 0xfff;
    let _ = writeln!(
        text,
        "  {gva:018x}  =  PML4 {pml4}, PDPT {pdpt}, PD {pd}, PT {pt}, offset {offset:#x}\n"
    );
    let _ = writeln!(text, "  CR3");
    for (depth, &at) in reads.iter().enumerate() {
        let entry = memory.read_u64(at).unwrap_or_default();
        let name = ["PML4", "PDPT", "PD  ", "PT  "]
            .get(depth)
            .unwrap_or(&"?   ");
        let index = (at.0 & 0xfff) / 8;
        let indent = "   ".repeat(depth);
        let _ = writeln!(
            text,
            "  {indent}└─► {name} {table}  [{index:3}]  {entry:#018x}  {flags}   reference {}",
            depth + 1,
            table = Gpa(at.0 & !0xfff),
            flags = flags(entry),
        );
    }
    let indent = "   ".repeat(reads.len());
    let gpa = gpa.map_or("a fault".into(), |gpa| gpa.to_string());
    let _ = writeln!(text, "  {indent}└─► guest-physical {gpa}\n");
}

/// Task 1 may still be open where the reference walks.
fn indices_or_none(gva: Gva) -> [u64; 4] {
    std::panic::catch_unwind(|| indices(gva)).unwrap_or(super::expected_indices(gva))
}

fn flags(entry: u64) -> String {
    let letters = [
        (bits::PRESENT, 'P'),
        (bits::WRITABLE, 'W'),
        (bits::USER, 'U'),
        (bits::HUGE, 'H'),
        (bits::NO_EXECUTE, 'X'),
    ];
    let letter = |(bit, letter)| if entry & bit != 0 { letter } else { '-' };
    letters.map(letter).iter().collect()
}

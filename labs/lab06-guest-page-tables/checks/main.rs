//! The checks of lab 06. The expected results come from how the tables were made (`world.rs`), from
//! listing every entry (`census.rs`) and from KVM; none of them walks as a solution does.

mod census;
mod kvm;
mod map;
mod measure;
mod parts;
mod recording;
mod walk;
mod world;

use std::process::ExitCode;

use lab06::{Gva, Level, indices};
use ringside_lab_harness::{Check, Context, Lab, Need, Outcome, Question, Seed, attempt, compare};

static LAB: Lab = Lab {
    checks: &[
        Check::new("6.1", "the four indices", 10, &[], the_indices),
        Check::new(
            "6.2",
            "a walk over pages of 4 KiB",
            15,
            &[],
            walk::small_pages,
        ),
        Check::new("6.3", "huge pages", 10, &[], walk::huge_pages),
        Check::new("6.4", "rights and error codes", 15, &[], walk::rights),
        Check::new("6.5", "hostile tables", 10, &[], walk::hostile),
        Check::new("6.6", "four memory references", 10, &[], walk::references),
        Check::new("6.7", "map: pages where they belong", 10, &[], map::pages),
        Check::new("6.8", "map: refusals", 10, &[], map::refusals),
        Check {
            // Ten machines: half a second each where the host is itself emulated, and more when it is busy.
            seconds: 30,
            ..Check::new(
                "6.9",
                "the same as KVM_TRANSLATE",
                5,
                &[Need::Kvm],
                kvm::the_same,
            )
        },
        Check::answers("6.10", 5),
    ],
    questions: &[
        Question {
            id: "indices",
            given: Some(|seed| format!("the address is {:#x}", address(seed).0)),
            accepts: |seed, answer| {
                let numbers = answer.split(|c: char| !c.is_ascii_digit());
                let numbers: Vec<u64> = numbers.filter_map(|n| n.parse().ok()).collect();
                numbers == expected_indices(address(seed))
            },
            look: "nine bits each; four decimal numbers, the PML4's first",
        },
        Question {
            id: "references",
            given: None,
            accepts: |_, answer| answer == "4" || answer == "four",
            look: "check 6.6 counts them",
        },
        Question {
            id: "tables",
            given: Some(|seed| format!("map {} GiB", gibibytes(seed))),
            accepts: |seed, answer| {
                // 512 page tables for each GiB, a directory for each, a PDPT, a PML4.
                answer.replace([',', ' ', '.'], "") == (gibibytes(seed) * 513 + 2).to_string()
            },
            look: "how many entries has a table, and how much does each level's entry cover?",
        },
    ],
    predict: "How many times does one load read memory for its address to be translated, when the \
              TLB is empty: with a page of 4 KiB, of 2 MiB, of 1 GiB?",
    measure: measure::measure,
    roles: &[],
};

fn main() -> ExitCode {
    ringside_lab_harness::main(&LAB)
}

/// The student's own address, in the user half.
fn address(seed: Seed) -> Gva {
    Gva(seed.number("an address", 1 << 39..1 << 47))
}

fn gibibytes(seed: Seed) -> u64 {
    seed.number("gibibytes", 2..400)
}

/// By division, where a solution shifts.
fn expected_indices(gva: Gva) -> [u64; 4] {
    Level::ALL.map(|level| gva.0 / level.page_bytes() % 512)
}

fn the_indices(context: &Context) -> Outcome {
    let mut random = context.seed.rng("indices");
    let edges = [0, 0xfff, 0x1000, 1 << 21, 1 << 30, 1 << 39, (1 << 47) - 1];
    let upper = [0xffff_8000_0000_0000, u64::MAX];
    let any: Vec<u64> = (0..1000).map(|_| random.next_u64()).collect();
    for gva in edges.into_iter().chain(upper).chain(any).map(Gva) {
        let ran = || format!("indices({gva})");
        let look =
            "`indices` in src/lib.rs: four fields of nine bits each above twelve bits of offset";
        let got = attempt(ran, look, || indices(gva))?;
        compare(ran(), expected_indices(gva), got, look)?;
    }
    Ok(())
}

//! No host page is reachable from two machines unless it is a copy-on-write share.

use ringside_vmm::boot::{Image, bare};
use ringside_vmm::device::Streams;
use ringside_vmm::memory::{
    Gpa, GuestMemory, Layout, MemoryError, Origin, Owner, PAGE_BYTES, Pages, Region, Run, owners,
};
use ringside_vmm::paging::arbitrary::Random;
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::sys::vm::VmHandle;
use ringside_vmm::vm::{Limits, Vm};
use std::collections::HashMap;
use std::time::Duration;

const CASES: u64 = 60;

fn kvm() -> Option<Kvm> {
    Kvm::open()
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

/// Who owns what, or why nobody may know.
fn ask(memories: &[&GuestMemory]) -> Option<Vec<Vec<Run>>> {
    match owners(memories) {
        Err(MemoryError::Proc { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            eprintln!("skipped: {source}");
            None
        }
        answer => Some(answer.unwrap()),
    }
}

/// One to five regions of up to 64 pages, with holes or without, some of them read-only.
fn random_layout(random: &mut Random) -> Layout {
    let mut next = random.below(4) * PAGE_BYTES;
    let regions = (0..1 + random.below(5)).map(|_| {
        let region = Region {
            start: Gpa(next),
            bytes: (1 + random.below(64)) * PAGE_BYTES,
            read_only: random.one_in(4),
        };
        next = region.end().0 + [0, PAGE_BYTES, 1 << 32][random.below(3) as usize];
        region
    });
    Layout::new(regions.collect::<Vec<_>>()).unwrap()
}

fn random_page(random: &mut Random, layout: &Layout) -> Gpa {
    let region = layout.regions()[random.below(layout.regions().len() as u64) as usize];
    let page = random.below(region.bytes / PAGE_BYTES);
    Gpa(region.start.0 + page * PAGE_BYTES)
}

#[test]
fn machines_of_random_layouts_share_nothing_but_images() {
    let Some(kvm) = kvm() else { return };
    let (mut own, mut shared) = (0, 0);
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        // An image, with something in every page, and two to four machines, half of them from it.
        let base = GuestMemory::with_layout(random_layout(&mut random), Pages::Small).unwrap();
        let mut written: HashMap<Gpa, u64> = HashMap::new();
        for (number, region) in (1..).zip(base.layout().regions()) {
            for page in (region.start.0..region.end().0).step_by(PAGE_BYTES as usize) {
                written.insert(Gpa(page), number << 32 | page);
                base.write_value(Gpa(page), number << 32 | page).unwrap();
            }
        }
        let image = base.freeze().unwrap();
        let mut machines = Vec::new();
        for _ in 0..2 + random.below(3) {
            let (memory, model) = if random.one_in(2) {
                (image.memory().unwrap(), written.clone())
            } else {
                let layout = random_layout(&mut random);
                let memory = GuestMemory::with_layout(layout, Pages::Small).unwrap();
                (memory, HashMap::new())
            };
            // With a machine whose slots these are.
            let machine = VmHandle::new(&kvm, &memory).unwrap();
            machines.push((memory, model, machine));
        }
        for step in 0..300 {
            let which = random.below(machines.len() as u64) as usize;
            let (memory, model, _) = &mut machines[which];
            let page = random_page(&mut random, memory.layout());
            let expected = model.get(&page).copied().unwrap_or(0);
            assert_eq!(memory.read_value::<u64>(page).unwrap(), expected);
            match random.below(4) {
                0 if memory.release(page, PAGE_BYTES).is_ok() => {
                    model.insert(page, 0);
                }
                1 | 2 => {
                    memory.write_value::<u64>(page, step).unwrap();
                    model.insert(page, step);
                }
                _ => {}
            }
        }
        let memories: Vec<&GuestMemory> = machines.iter().map(|(memory, ..)| memory).collect();
        let Some(answer) = ask(&memories) else { return };
        for (machine, runs) in answer.iter().enumerate() {
            for run in runs {
                let case = format!("seed {seed}, machine {machine}: {run:?}");
                assert_ne!(run.owner, Owner::Exposed, "{case}");
                let alike = run
                    .also
                    .iter()
                    .all(|&other| memories[other].origin() == Origin::Image);
                match run.owner {
                    Owner::Own => assert!(run.also.is_empty(), "{case}"),
                    _ => assert!(
                        memories[machine].origin() == Origin::Image && alike,
                        "{case}"
                    ),
                }
                *(if run.also.is_empty() {
                    &mut own
                } else {
                    &mut shared
                }) += run.pages;
            }
        }
        // What each reads is what it wrote itself, or what it began with.
        for (memory, model, _) in &machines {
            for (page, value) in model {
                assert_eq!(
                    memory.read_value::<u64>(*page).unwrap(),
                    *value,
                    "seed {seed}"
                );
            }
        }
    }
    assert!(own > 1000 && shared > 1000, "own {own}, shared {shared}");
}

#[test]
fn running_guests_of_one_image_own_what_they_write() {
    let Some(kvm) = kvm() else { return };
    let program = ringside_guest::program("memory").expect("it is there");
    let memory = GuestMemory::new(32 << 20).unwrap();
    let image = Image::parse(program.elf).unwrap();
    let entry = bare::load(&memory, &image, &["1", "1"]).unwrap();
    let frozen = memory.freeze().unwrap();
    let run = || {
        let memory = frozen.memory().unwrap();
        let streams = Streams::captured().0;
        let mut vm = Vm::with_memory(&kvm, memory, entry, streams).unwrap();
        let limits = Limits {
            time: Some(Duration::from_secs(60)),
            ..Limits::default()
        };
        vm.run(limits).unwrap();
        vm
    };
    let (a, b) = (run(), run());
    let Some(answer) = ask(&[a.memory(), b.memory()]) else {
        return;
    };
    for runs in &answer {
        let pages = |owner| -> u64 {
            let of = runs.iter().filter(|run| run.owner == owner);
            of.map(|run| run.pages).sum()
        };
        assert_eq!(pages(Owner::Exposed), 0, "{runs:?}");
        // The megabyte that it writes is its own; the program's code is the image's.
        assert!(pages(Owner::Own) >= 256, "{runs:?}");
        let code = runs.iter().find(|run| {
            run.gpa <= Gpa(entry.rip) && Gpa(entry.rip).0 < run.gpa.0 + run.pages * PAGE_BYTES
        });
        assert_eq!(code.expect("it ran").owner, Owner::Image, "{runs:?}");
    }
    assert!(answer[0].iter().any(|run| run.also == [1]), "{answer:?}");
}

#[test]
fn memory_that_two_machines_can_write_is_told() {
    let memory = GuestMemory::new(4 * PAGE_BYTES).unwrap();
    memory.write(Gpa(0), &[1; 4096]).unwrap();
    let Some(answer) = ask(&[&memory, &memory.clone()]) else {
        return;
    };
    let run = &answer[0][0];
    assert_eq!(
        (run.owner, &run.also[..], run.pages),
        (Owner::Exposed, &[1][..], 1)
    );
    assert_eq!(answer[1][0].first, run.first);
    // The way there is the second level of a two-level walk.
    let slots = ringside_vmm::paging::Slots::new(memory.slots());
    let pagemap = ringside_vmm::sys::pagemap::Pagemap::open().unwrap();
    let slots = slots.with_pagemap(|hva| pagemap.host_physical(hva));
    let backing = ringside_vmm::paging::SecondLevel::back(&slots, Gpa(0x123)).unwrap();
    assert_eq!(backing.hva, memory.host_address(Gpa(0x123)));
    assert_eq!(backing.hpa.unwrap().0, run.first.0 + 0x123);
}

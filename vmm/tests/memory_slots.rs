//! Memory in several slots: what a guest meets in a hole, in a ROM and above 4 GiB, and which of its
//! writes KVM logs.

use ringside_abi::boot_info::BootInfo;
use ringside_abi::layout;
use ringside_abi::needs::Needs;
use ringside_vmm::boot::{Image, bare};
use ringside_vmm::device::Streams;
use ringside_vmm::memory::layout::HIGH;
use ringside_vmm::memory::{
    DirtyPages, Gpa, GuestMemory, Layout, MemoryError, PAGE_BYTES, Pages, Region, pages,
};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::sys::vm::VmHandle;
use ringside_vmm::trap::{Exit, Stop, Width};
use ringside_vmm::vcpu::{cpuid, long_mode};
use ringside_vmm::vm::{End, Limits, Vm};
use std::collections::BTreeSet;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const ROM: Gpa = Gpa(0x1000_0000);
/// Where the guest's tables put each of [ROM, a hole, high memory]: behind its own 64 MiB.
const WINDOW: u32 = 64 << 20;
/// The first page of the heap.
const HEAP: u32 = 0x40_0000;

fn kvm() -> Option<Kvm> {
    Kvm::open()
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

const PATIENCE: Limits = Limits {
    time: Some(Duration::from_secs(60)),
    exits: Some(1000),
};

/// `mov eax, [address]`
fn load(address: u32) -> Vec<u8> {
    [&[0x8b, 0x04, 0x25][..], &address.to_le_bytes()].concat()
}

/// `mov [address], eax`
fn store(address: u32) -> Vec<u8> {
    [&[0x89, 0x04, 0x25][..], &address.to_le_bytes()].concat()
}

/// `out 0xf4, al`
const EXIT: [u8; 2] = [0xe6, 0xf4];

/// Runs code in ring 0 of a machine with low memory, a ROM that begins with 1234, and high memory,
/// and windows to the ROM, to the hole behind it and to high memory.
fn run(kvm: &Kvm, code: &[Vec<u8>]) -> (End, GuestMemory) {
    let layout = Layout::new([
        Region::memory(Gpa(0), 64 * MIB),
        Region::read_only(ROM, 2 * MIB),
        Region::memory(HIGH, 2 * MIB),
    ]);
    let memory = GuestMemory::with_layout(layout.unwrap(), Pages::Small).unwrap();
    memory.write_value::<u32>(ROM, 1234).unwrap();
    let code = code.concat();
    let entry = bare::load(&memory, &Image::flat(&code).unwrap(), &[]).unwrap();
    // Large pages in the first page directory: the root's first entry, and that table's.
    let first = |table: u64| memory.read_value::<u64>(Gpa(table)).unwrap() & !0xfff;
    let directory = first(first(entry.cr3));
    let entries = Gpa(directory + u64::from(WINDOW) / layout::LARGE_PAGE * 8);
    let windows = [ROM, Gpa(ROM.0 + 2 * MIB), HIGH].map(|gpa| gpa.0 | 0x83);
    let bytes: Vec<u8> = windows
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect();
    memory.write(entries, &bytes).unwrap();
    let streams = Streams::captured().0;
    let mut vm = Vm::with_memory(kvm, memory.clone(), entry, streams).unwrap();
    (vm.run(PATIENCE).unwrap().end, memory)
}

#[test]
fn a_rom_is_read_at_once_and_a_write_to_it_exits() {
    let Some(kvm) = kvm() else { return };
    let (end, memory) = run(&kvm, &[load(WINDOW), store(WINDOW + 8), EXIT.to_vec()]);
    let write = Exit::MmioWrite {
        address: ROM.0 + 8,
        width: Width::Double,
        value: 1234,
    };
    assert_eq!(end, End::Stopped(Stop::Unclaimed(write)));
    assert_eq!(memory.read_value::<u32>(Gpa(ROM.0 + 8)).unwrap(), 0);
}

#[test]
fn a_hole_is_no_memory() {
    let Some(kvm) = kvm() else { return };
    let (end, _) = run(&kvm, &[load(WINDOW + (2 << 20) + 4), EXIT.to_vec()]);
    let read = Exit::MmioRead {
        address: ROM.0 + 2 * MIB + 4,
        width: Width::Double,
    };
    assert_eq!(end, End::Stopped(Stop::Unclaimed(read)));
}

#[test]
fn memory_goes_on_above_4_gib() {
    let Some(kvm) = kvm() else { return };
    let code = [load(WINDOW), store(WINDOW + (4 << 20)), EXIT.to_vec()];
    let (end, memory) = run(&kvm, &code);
    assert_eq!(end, End::Stopped(Stop::Exited(1234_u32 as u8)));
    assert_eq!(memory.read_value::<u32>(HIGH).unwrap(), 1234);
}

/// What the guest's program wrote: without what the processor writes into tables as it goes.
fn by_program(dirty: &DirtyPages) -> Vec<u64> {
    let pages = dirty.iter().map(|page| page.0);
    pages.filter(|page| *page >= layout::IMAGE).collect()
}

#[test]
fn a_bitmap_has_the_pages_written_since_it_was_read() {
    let Some(kvm) = kvm() else { return };
    let page = |number: u32| HEAP + number * PAGE_BYTES as u32;
    let code = [
        store(page(0)),
        store(page(0) + 64),
        store(page(3)),
        store(page(70)),
        load(page(5)),
        EXIT.to_vec(),
        store(page(3)),
        EXIT.to_vec(),
        EXIT.to_vec(),
    ];
    let code = code.concat();
    let image = Image::flat(&code).unwrap();
    let mut vm = Vm::new(&kvm, 64 * MIB, &image, &[], Streams::captured().0).unwrap();
    assert!(vm.machine().take_dirty().is_err(), "the log is off");
    vm.machine().log_dirty(true).unwrap();
    let written = |vm: &mut Vm| {
        vm.run(PATIENCE).unwrap();
        by_program(&vm.machine().take_dirty().unwrap())
    };
    let heap = |numbers: &[u32]| numbers.iter().map(|n| u64::from(page(*n))).collect();
    let first: BTreeSet<u64> = written(&mut vm).into_iter().collect();
    let (must, may): (BTreeSet<u64>, BTreeSet<u64>) = (heap(&[0, 3, 70]), heap(&[0, 3, 5, 70]));
    assert!(first.is_superset(&must), "{first:x?}");
    // Pages that the guest read or executed may be there too: KVM may map them writable at once.
    let beyond = first.difference(&may).copied();
    assert!(beyond.eq(first.get(&layout::IMAGE).copied()), "{first:x?}");
    // From then on every page is watched.
    assert_eq!(written(&mut vm), [u64::from(page(3))]);
    assert_eq!(written(&mut vm), [0; 0]);
    vm.machine().log_dirty(false).unwrap();
    assert!(vm.machine().take_dirty().is_err(), "the log is off");
}

const ENTRIES: u32 = 1024;

/// Runs a machine with dirty rings to its first write to the exit port: the pages that the program
/// wrote, how often the ring was full, and whether KVM overran it.
fn with_ring(kvm: &Kvm, memory: &GuestMemory, entry: bare::Entry) -> (BTreeSet<u64>, u32, bool) {
    let machine = VmHandle::new(kvm, memory).unwrap();
    assert!(machine.enable_dirty_rings(1000).is_err(), "no power of two");
    assert!(machine.create_vcpu_with_ring(7).is_err(), "no rings yet");
    machine.enable_dirty_rings(ENTRIES).unwrap();
    machine.log_dirty(true).unwrap();
    let (mut vcpu, ring) = machine.create_vcpu_with_ring(0).unwrap();
    let mut rings = [ring];
    vcpu.set_cpuid(&cpuid::baseline(0, Needs::default()))
        .unwrap();
    long_mode::enter(&vcpu, entry, 0).unwrap();
    let (mut written, mut full) = (BTreeSet::new(), 0);
    loop {
        let exit = vcpu.run().unwrap();
        match machine.harvest(&mut rings) {
            Ok(dirty) => written.extend(by_program(&dirty)),
            Err(error) => {
                assert!(error.to_string().contains("overrun"), "{error}");
                return (written, full, true);
            }
        }
        match exit {
            Exit::IoOut { port, .. } if port == ringside_abi::port::DEBUG_EXIT => break,
            // A hypercall that nobody answers: its result stays 0.
            Exit::IoOut { .. } | Exit::Interrupted => {}
            Exit::DirtyRingFull => full += 1,
            exit => panic!("{exit:?} after {} pages", written.len()),
        }
        assert!(full < 100, "the ring does not empty");
    }
    let after = machine.harvest(&mut rings).unwrap();
    assert_eq!(by_program(&after), [0; 0]);
    assert!(machine.take_dirty().is_err(), "rings replace the bitmap");
    (written, full, false)
}

#[test]
fn a_full_ring_stops_the_guest_until_it_is_harvested() {
    let Some(kvm) = kvm() else { return };
    if kvm.capability(kvm_ioctls::Cap::DirtyLogRing) == 0 {
        return eprintln!("skipped: no dirty rings; they came with Linux 5.11");
    }
    // It fills the first 8 MiB of its heap, from ring 3, and finds no input.
    let program = ringside_guest::program("balloon").expect("it is there");
    let memory = GuestMemory::new(64 * MIB).unwrap();
    let entry = bare::load(&memory, &Image::parse(program.elf).unwrap(), &["8"]).unwrap();
    let (written, full, overrun) = with_ring(&kvm, &memory, entry);
    assert!(!overrun);
    // 2048 pages in rings of 1024.
    assert!(full >= 1, "full {full} times");
    let info = layout::BOOT_INFO + std::mem::offset_of!(BootInfo, heap_start) as u64;
    let heap = memory.read_value::<u64>(Gpa(info)).unwrap();
    let filled: BTreeSet<u64> = written.range(heap..).copied().collect();
    let expected = (0..8 * MIB).step_by(PAGE_BYTES as usize);
    assert!(filled.into_iter().eq(expected.map(|offset| heap + offset)));
}

#[test]
fn a_ring_that_is_overrun_says_so() {
    let Some(kvm) = kvm() else { return };
    if kvm.capability(kvm_ioctls::Cap::DirtyLogRing) == 0 {
        return eprintln!("skipped: no dirty rings; they came with Linux 5.11");
    }
    const WRITTEN: u32 = 3000;
    // mov edi, HEAP; mov ecx, WRITTEN
    let mut code = vec![0xbf];
    code.extend(HEAP.to_le_bytes());
    code.push(0xb9);
    code.extend(WRITTEN.to_le_bytes());
    // 1: mov [rdi], ecx; add edi, 4096; dec ecx; jnz 1b
    code.extend([
        0x89, 0x0f, 0x81, 0xc7, 0, 0x10, 0, 0, 0xff, 0xc9, 0x75, 0xf4,
    ]);
    code.extend(EXIT);
    let memory = GuestMemory::new(64 * MIB).unwrap();
    let entry = bare::load(&memory, &Image::flat(&code).unwrap(), &[]).unwrap();
    // In ring 0, where software KVM does not stop in time.
    let (written, full, overrun) = with_ring(&kvm, &memory, entry);
    let expected = (0..WRITTEN).map(|n| u64::from(HEAP) + u64::from(n) * PAGE_BYTES);
    // The page of the code itself may be there too.
    let filled: BTreeSet<u64> = written.range(u64::from(HEAP)..).copied().collect();
    let differ: Vec<u64> = filled
        .symmetric_difference(&expected.collect())
        .copied()
        .collect();
    assert!(
        overrun || full >= 2 && differ.is_empty(),
        "full {full} times, {differ:x?}"
    );
}

#[test]
fn huge_pages_are_there_or_named_in_the_error() {
    let regions = |bytes| Layout::bare(bytes).unwrap();
    let odd = GuestMemory::with_layout(regions(3 * MIB), Pages::Huge).unwrap_err();
    assert!(matches!(odd, MemoryError::HugeAlignment { .. }), "{odd}");
    let free = pages::free_huge_pages();
    // More than there are, even if another test gives some back meanwhile.
    let error = GuestMemory::with_layout(regions((free + 4096) * 2 * MIB), Pages::Huge);
    let error = error.expect_err("more than the host has").to_string();
    assert!(error.contains("nr_hugepages"), "{error}");
}

#[test]
fn a_guest_runs_on_huge_pages_and_cannot_give_them_back() {
    let Some(kvm) = kvm() else { return };
    let layout = Layout::bare(8 * MIB).unwrap();
    let Some(memory) = huge(layout) else { return };
    let code = [load(0x20_0000), store(HEAP), EXIT.to_vec()].concat();
    let entry = bare::load(&memory, &Image::flat(&code).unwrap(), &[]).unwrap();
    let mut vm = Vm::with_memory(&kvm, memory.clone(), entry, Streams::captured().0).unwrap();
    assert!(matches!(
        vm.run(PATIENCE).unwrap().end,
        End::Stopped(Stop::Exited(_))
    ));
    let usage = memory.usage().unwrap()[0].usage;
    // Tables, program, heap: three of the four.
    assert_eq!(
        (usage.resident_bytes, usage.huge_bytes),
        (6 * MIB, 6 * MIB),
        "{usage:?}"
    );
    assert!(memory.release(Gpa(0), 2 * MIB).is_err());
    assert!(memory.freeze().is_err());
}

/// Memory of huge pages, of which the host is asked for as many more as that takes.
fn huge(layout: Layout) -> Option<GuestMemory> {
    let needed = layout.bytes() >> 21;
    let free = pages::free_huge_pages();
    let reserved = std::fs::read_to_string(pages::RESERVED).ok();
    let reserved: Option<u64> = reserved.and_then(|text| text.trim().parse().ok());
    if free < needed {
        let more = reserved.unwrap_or(0) + needed - free;
        if let Err(error) = std::fs::write(pages::RESERVED, more.to_string()) {
            eprintln!("skipped: cannot reserve huge pages: {error}");
            return None;
        }
    }
    let memory = GuestMemory::with_layout(layout, Pages::Huge);
    // They leave the pool when the memory goes.
    if let (true, Some(reserved)) = (free < needed, reserved) {
        let _ = std::fs::write(pages::RESERVED, reserved.to_string());
    }
    memory
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

#[test]
fn transparent_huge_pages_are_asked_for_or_refused_with_the_remedy() {
    let layout = Layout::bare(8 * MIB).unwrap();
    let setting = std::fs::read_to_string(pages::TRANSPARENT).unwrap_or_default();
    let can = ["[always]", "[within_size]", "[advise]", "[force]"];
    let can = can.iter().any(|word| setting.contains(word));
    match GuestMemory::with_layout(layout, Pages::Transparent) {
        Ok(memory) => {
            assert!(can, "{setting}");
            memory.write(Gpa(0), &vec![1; 8 * MIB as usize]).unwrap();
            // How many of them are huge is the host's choice. Given back are all.
            assert_eq!(memory.usage().unwrap()[0].usage.resident_bytes, 8 * MIB);
            memory.release(Gpa(0), 8 * MIB).unwrap();
            assert_eq!(memory.usage().unwrap()[0].usage.resident_bytes, 0);
        }
        Err(error) => {
            assert!(!can, "{setting}: {error}");
            assert!(error.to_string().contains("shmem_enabled"), "{error}");
        }
    }
}

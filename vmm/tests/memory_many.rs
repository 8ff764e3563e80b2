//! Many machines from one image, alive at once. The only test of its process: it counts all of the
//! process's memory.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringside_vmm::boot::{Image, bare};
use ringside_vmm::device::Streams;
use ringside_vmm::memory::{GuestMemory, Usage};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::trap::Stop;
use ringside_vmm::vm::{End, Limits, Vm};
use std::time::Duration;

const MACHINES: u64 = 500;
/// Beyond guest memory, for each machine.
const OVERHEAD_MAX_BYTES: u64 = 1 << 20;
/// What `hello` writes is little: stacks, tables' accessed bits, its data.
const COPIED_MAX_BYTES: u64 = 256 << 10;

/// This process's proportional set size.
fn pss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// What the machines' memory costs in all.
fn guests(machines: &[Vm]) -> Usage {
    let usages = machines.iter().flat_map(|vm| vm.memory().usage().unwrap());
    usages.map(|region| region.usage).sum()
}

#[test]
fn five_hundred_machines_of_one_image_are_alive_at_once() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    // Each machine has two descriptors, its own and its vCPU's.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = 2 * MACHINES + 100;
    if hard < wanted {
        return eprintln!("skipped: only {hard} open files are allowed, and {wanted} are needed");
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).unwrap();

    let program = ringside_guest::program("hello").expect("it is there");
    let memory = GuestMemory::new(32 << 20).unwrap();
    let image = Image::parse(program.elf).unwrap();
    let entry = bare::load(&memory, &image, &[]).unwrap();
    let loaded = memory.usage().unwrap()[0].usage;
    let frozen = memory.freeze().unwrap();

    let add = |machines: &mut Vec<Vm>| {
        let (streams, output) = Streams::captured();
        let memory = frozen.memory().unwrap();
        let mut vm = Vm::with_memory(&kvm, memory, entry, streams).unwrap();
        let limits = Limits {
            time: Some(Duration::from_secs(60)),
            ..Limits::default()
        };
        assert_eq!(vm.run(limits).unwrap().end, End::Stopped(Stop::Exited(0)));
        assert!(output.lock().unwrap().starts_with(b"Hello from ring 3"));
        machines.push(vm);
    };
    let mut machines = Vec::with_capacity(MACHINES as usize);
    add(&mut machines);
    let first = guests(&machines);
    let before = pss_bytes() - first.pss_bytes;
    while (machines.len() as u64) < MACHINES {
        add(&mut machines);
    }
    let pss = pss_bytes();
    // One at a time: a look at all 500 would parse the process's map as often.
    let last = guests(&machines[machines.len() - 1..]);
    let copied = last.copied_bytes;
    assert!(
        copied <= COPIED_MAX_BYTES && copied < loaded.resident_bytes,
        "{last:?}"
    );
    assert_eq!(
        copied, first.copied_bytes,
        "the same program writes the same pages"
    );
    // The image's pages count once, divided by all of the machines.
    assert!(
        last.pss_bytes < copied + loaded.resident_bytes / 100,
        "{last:?}"
    );
    let all = last.pss_bytes * MACHINES;
    let overhead = (pss.saturating_sub(all).saturating_sub(before)) / (MACHINES - 1);
    eprintln!(
        "image {} KiB; of each of {MACHINES} machines {} KiB are its own; {} bytes beyond guest memory each",
        loaded.resident_bytes >> 10,
        copied >> 10,
        overhead
    );
    assert!(overhead <= OVERHEAD_MAX_BYTES, "{overhead} bytes a machine");
    // All of them still answer: each has what it wrote, and its registers.
    assert!(machines.iter().all(|vm| vm.system_registers().is_some()));
}

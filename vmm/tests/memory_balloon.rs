//! A running guest gives memory back and takes it again, in so many exits and bytes.

use ringside_vmm::boot::{Image, bare};
use ringside_vmm::device::Streams;
use ringside_vmm::memory::GuestMemory;
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::trap::{Reason, Stop};
use ringside_vmm::vm::{End, Limits, Vm};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// The guest's input: at each byte, the host notes what the guest has and asks for something else.
struct Host {
    memory: GuestMemory,
    wishes: std::vec::IntoIter<u64>,
    /// Resident bytes, and what the guest says that it gave back.
    seen: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Read for Host {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let memory = &self.memory;
        let usage = memory.usage().map_err(io::Error::other)?;
        let resident = usage.iter().map(|region| region.usage.resident_bytes);
        let reported = memory.balloon().reported();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push((resident.sum(), reported));
        let Some(wish) = self.wishes.next() else {
            return Ok(0);
        };
        memory.balloon().ask(wish);
        bytes[0] = b'\n';
        Ok(1)
    }
}

/// Runs `balloon` on memory of its own, or on a copy of an image, with these wishes.
fn run(kvm: &Kvm, from_image: bool, wishes: Vec<u64>) -> (Vec<(u64, u64)>, u64) {
    let program = ringside_guest::program("balloon").expect("it is there");
    let mut memory = GuestMemory::new(64 * MIB).unwrap();
    let image = Image::parse(program.elf).unwrap();
    let entry = bare::load(&memory, &image, &["8"]).unwrap();
    if from_image {
        memory = memory.freeze().unwrap().memory().unwrap();
    }
    let (mut streams, output) = Streams::captured();
    let seen = Arc::new(Mutex::new(Vec::new()));
    streams.input = Box::new(Host {
        memory: memory.clone(),
        wishes: wishes.into_iter(),
        seen: seen.clone(),
    });
    let mut vm = Vm::with_memory(kvm, memory, entry, streams).unwrap();
    let limits = Limits {
        time: Some(Duration::from_secs(60)),
        exits: Some(1000),
    };
    let outcome = vm.run(limits).unwrap();
    let said = String::from_utf8(output.lock().unwrap().clone()).unwrap();
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(0)), "{said}");
    let exits = outcome.statistics.count(Reason::IoOut);
    assert_eq!(outcome.statistics.total(), exits);
    (seen.lock().unwrap().clone(), exits)
}

#[test]
fn a_guest_gives_pages_back_and_takes_them_again() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    for from_image in [false, true] {
        // Inflate to 6 MiB, on to 8, deflate to 2, as it is, all back, more than there is.
        let wishes = [6, 8, 2, 2, 0, 100].map(|mib| mib * MIB);
        let (seen, exits) = run(&kvm, from_image, wishes.to_vec());
        let (full, _) = seen[0];
        assert!(full >= 8 * MIB, "{full}");
        let expected = [0, 6, 8, 2, 2, 0, 8].map(|mib| (full - mib * MIB, mib * MIB));
        assert_eq!(seen[..6], expected[..6], "from an image: {from_image}");
        // Asked for more than it can do without, it gives all that it can, and says so.
        assert_eq!(seen[6], expected[6]);
        // Seven reads; a question before and after each change, one where nothing changes; a
        // release for each inflation; the end.
        assert_eq!(
            exits,
            7 + (5 * 2 + 1) + 3 + 1,
            "from an image: {from_image}"
        );
    }
}

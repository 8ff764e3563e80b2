//! A device whose registers an access reaches only in part: what it answers arrives where it belongs.

use ringside_vmm::boot::{Image, bare};
use ringside_vmm::device::{Bus, Device};
use ringside_vmm::memory::{Gpa, GuestMemory};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::sys::vm::VmHandle;
use ringside_vmm::trap::{Exit, Reply, Width};
use ringside_vmm::vcpu::{cpuid, long_mode};
use std::sync::{Arc, Mutex};

/// Guest-physical, behind the end of memory.
const DEVICE: u64 = 8 << 20;
/// The heap of so small a machine is one page of 2 MiB.
const HEAP: u64 = 4 << 20;
/// Guest-virtual, behind the heap: from here on, the guest maps the device.
const BORDER: u64 = 6 << 20;

/// Answers a read with as many of `11 22 33 …` as it asks for, and notes what is written.
struct Counting(Arc<Mutex<Vec<(u64, Width, u64)>>>);

impl Device for Counting {
    fn read(&mut self, _: u64, width: Width) -> Reply {
        Reply::Value(0x8877_6655_4433_2211 & width.mask())
    }

    fn write(&mut self, offset: u64, width: Width, value: u64) -> Reply {
        self.0.lock().unwrap().push((offset, width, value));
        Reply::Resume
    }
}

#[test]
fn an_access_that_begins_in_memory_ends_in_the_device() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    // For each address in rsi: mov rax, [rsi]; mov [rsi], rax; add rax to rbx by xor; next.
    let mut code = vec![
        0x0f, 0x20, 0xd8, // mov rax, cr3
    ];
    // Three levels down to the page directory, whose entry 3 is to lead to the device.
    for _ in 0..2 {
        code.extend([0x48, 0x8b, 0x00]); // mov rax, [rax]
        code.extend([0x48, 0x25, 0x00, 0xf0, 0xff, 0xff]); // and rax, -4096
    }
    code.extend([0xb9]); // mov ecx, DEVICE | large, writable, present
    code.extend((DEVICE as u32 | 0x83).to_le_bytes());
    code.extend([0x48, 0x89, 0x48, 8 * 3]); // mov [rax + 8 * 3], rcx
    let accesses = 7;
    for before in 1..=accesses {
        code.extend([0xbe]); // mov esi, BORDER - before
        code.extend((BORDER as u32 - before).to_le_bytes());
        code.extend([0x48, 0x8b, 0x06]); // mov rax, [rsi]
        code.extend([0x48, 0x89, 0x06]); // mov [rsi], rax
        code.extend([0x48, 0x89, 0x04, 0x25]); // mov [HEAP + 8 * before], rax
        code.extend((HEAP as u32 + 8 * before).to_le_bytes());
    }
    code.extend([0xe6, 0xf4]); // out 0xf4, al
    let image = Image::flat(&code).unwrap();
    let memory = GuestMemory::new(DEVICE).unwrap();
    let entry = bare::load(&memory, &image, &[]).unwrap();
    let last_bytes = [0xa7, 0xa6, 0xa5, 0xa4, 0xa3, 0xa2, 0xa1];
    memory.write(Gpa(BORDER - 7), &last_bytes).unwrap();

    let written = Arc::new(Mutex::new(Vec::new()));
    let mut bus = Bus::default();
    bus.insert(DEVICE, 8, Counting(written.clone())).unwrap();
    let machine = VmHandle::new(&kvm, &memory).unwrap();
    let mut vcpu = machine.create_vcpu(0).unwrap();
    vcpu.set_cpuid(&cpuid::baseline(0, image.needs)).unwrap();
    long_mode::enter(&vcpu, entry, 0).unwrap();
    loop {
        let exit = vcpu.run().unwrap();
        match exit {
            Exit::MmioRead { address, width } => match bus.read(address, width) {
                Reply::Value(value) => vcpu.answer(exit, 0, value),
                reply => panic!("{exit}: {reply:?}"),
            },
            Exit::MmioWrite {
                address,
                width,
                value,
            } => assert_eq!(bus.write(address, width, value), Reply::Resume, "{exit}"),
            Exit::IoOut { port: 0xf4, .. } => break,
            exit => panic!("{exit}"),
        }
    }
    let written = written.lock().unwrap();
    for before in 1..=accesses as usize {
        let width = Width::from_bytes(8 - before).unwrap();
        let answer = 0x8877_6655_4433_2211 & width.mask();
        assert_eq!(written[before - 1], (0, width, answer));
        // Little-endian: what lies in memory comes first.
        let mut bytes = [0; 8];
        bytes[..before].copy_from_slice(&last_bytes[7 - before..]);
        bytes[before..].copy_from_slice(&answer.to_le_bytes()[..8 - before]);
        let read: [u8; 8] = memory.read_value(Gpa(HEAP + 8 * before as u64)).unwrap();
        assert_eq!(read, bytes, "{before} bytes before the end");
    }
    assert_eq!(written.len(), accesses as usize);
}

//! The walker against KVM's own: `KVM_TRANSLATE` over thousands of random tables.
//!
//! What `KVM_TRANSLATE` does (`kvm_arch_vcpu_ioctl_translate` in Linux's `arch/x86/kvm/x86.c`, which
//! the kernel's `api.rst` does not spell out), and what these tests therefore hold the walker to:
//!
//! - It walks as a read by the supervisor. So it fails at entries that are absent, have reserved
//!   bits, or lie outside every memory slot, and, with CR4.SMAP, at user pages unless EFLAGS.AC is
//!   set; writable, user and no-execute bits never matter.
//! - `valid` says whether it found anything, `physical_address` what, offset included; nothing need
//!   be at that address. `writeable` is always 1 and `usermode` always 0, whatever the tables say.
//! - It never asks whether the address is canonical: it takes the bits that the levels use.
//! - It sets accessed bits in the guest's tables, on success only.
//! - Which bits are reserved follows the vCPU's CPUID: width of addresses, 1 GiB pages, NX, vendor.

use std::ops::Range;

use ringside_vmm::memory::{Gpa, GuestMemory, Gva};
use ringside_vmm::paging::arbitrary::{self, Random};
use ringside_vmm::paging::{
    Access, ControlRegisters, Fault, Kind, Levels, Paging, PhysicalMemory, Privilege, Processor,
    VecMemory,
};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::sys::vcpu::Vcpu;
use ringside_vmm::sys::vm::VmHandle;

const PAGES: u64 = 48;
const REGION: Range<Gpa> = Gpa(0)..Gpa(PAGES << 12);
/// Random memories, random registers in each, random addresses for each of those.
const MEMORIES: u64 = 40;
const MODES: u64 = 8;
const ADDRESSES: u64 = 50;

const CR0: u64 = 0x8000_0031;
const CR0_WP: u64 = 1 << 16;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER: u64 = 0x500;
const EFER_NXE: u64 = 1 << 11;
const RFLAGS_AC: u64 = 1 << 18;

/// What the guest's CPUID lets it switch on.
struct Features {
    processor: Processor,
    la57: bool,
    smep: bool,
    smap: bool,
}

/// Software KVM offers five levels in CPUID and refuses them in CR4, so what CPUID says is tried.
fn features(cpuid: &kvm_bindings::CpuId, vcpu: &Vcpu) -> Features {
    let leaf = |function| {
        let entries = cpuid.as_slice().iter();
        let found = entries.filter(|e| e.function == function && e.index == 0);
        found.copied().next().unwrap_or_default()
    };
    let vendor = leaf(0);
    let accepts = |cr4| {
        let mut system = vcpu.system_registers().expect("registers");
        (system.cr0, system.cr3, system.efer) = (CR0, 0, EFER);
        system.cr4 = CR4_PAE | cr4;
        vcpu.set_system_registers(&system).is_ok()
    };
    Features {
        processor: Processor {
            physical_bits: leaf(0x8000_0008).eax as u8,
            gigabyte_pages: leaf(0x8000_0001).edx >> 26 & 1 == 1,
            // "Auth" of AuthenticAMD, "Hygo" of HygonGenuine.
            top_global_reserved: [0x6874_7541, 0x6f67_7948].contains(&vendor.ebx),
        },
        la57: leaf(7).ecx >> 16 & 1 == 1 && accepts(CR4_LA57),
        smep: leaf(7).ebx >> 7 & 1 == 1 && accepts(CR4_SMEP),
        smap: leaf(7).ebx >> 20 & 1 == 1 && accepts(CR4_SMAP),
    }
}

/// Registers of a random mode that the vCPU accepts, and whether EFLAGS.AC is set.
fn enter_random_mode(random: &mut Random, features: &Features, vcpu: &Vcpu) -> (Paging, Privilege) {
    let bit = |random: &mut Random, can: bool, bit: u64| {
        if can && random.one_in(2) { bit } else { 0 }
    };
    let root = arbitrary::paging(random, &REGION, features.processor).root;
    let registers = ControlRegisters {
        cr0: CR0 | bit(random, true, CR0_WP),
        // The low bits of CR3 are flags, not address.
        cr3: root.0 | random.below(4) << 3,
        cr4: CR4_PAE
            | bit(random, features.la57, CR4_LA57)
            | bit(random, features.smep, CR4_SMEP)
            | bit(random, features.smap, CR4_SMAP),
        efer: EFER | bit(random, true, EFER_NXE) | bit(random, true, EFER_NXE),
    };
    let ac = random.one_in(2);

    let mut system = vcpu.system_registers().expect("registers");
    (system.cr0, system.cr3) = (registers.cr0, registers.cr3);
    (system.cr4, system.efer) = (registers.cr4, registers.efer);
    (system.cs.l, system.cs.db) = (1, 0);
    vcpu.set_system_registers(&system)
        .expect("a mode that CPUID offers");
    let mut general = vcpu.registers().expect("registers");
    general.rflags = 2 | if ac { RFLAGS_AC } else { 0 };
    vcpu.set_registers(&general).expect("registers");

    let paging = Paging::from_registers(registers, features.processor).expect("long mode");
    let privilege = if ac {
        Privilege::SupervisorAc
    } else {
        Privilege::Supervisor
    };
    (paging, privilege)
}

#[test]
fn the_walker_finds_what_kvm_finds_in_random_tables() {
    compare(None);
}

#[test]
fn the_walker_finds_what_kvm_finds_with_addresses_of_38_bits() {
    compare(Some(38));
}

/// Compares over random tables, on a processor that has addresses of so many bits, or the host's.
fn compare(physical_bits: Option<u32>) {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let memory = GuestMemory::new(PAGES << 12).expect("memory");
    let vm = VmHandle::new(&kvm, &memory).expect("machine");
    let vcpu = vm.create_vcpu(0).expect("vCPU");
    let mut cpuid = kvm.supported_cpuid().expect("CPUID");
    if let Some(bits) = physical_bits {
        let widths = cpuid.as_mut_slice().iter_mut();
        for leaf in widths.filter(|leaf| leaf.function == 0x8000_0008) {
            leaf.eax = leaf.eax & !0xff | bits;
        }
    }
    vcpu.set_cpuid(&cpuid).expect("CPUID");
    let features = features(&cpuid, &vcpu);

    let (mut found, mut refused, mut not_canonical, mut five) = (0, 0, 0, 0);
    for seed in 0..MEMORIES {
        // The guest's memory, and a copy in which our walker sets its own accessed bits.
        let mirror = VecMemory::new(Gpa(0), PAGES as usize);
        arbitrary::fill(&mut Random::new(seed), &mirror, REGION, REGION);
        arbitrary::fill(&mut Random::new(seed), &memory, REGION, REGION);
        let mut random = Random::new(!seed);
        for _ in 0..MODES {
            let (paging, privilege) = enter_random_mode(&mut random, &features, &vcpu);
            for _ in 0..ADDRESSES {
                let address = arbitrary::address(&mut random, paging.levels);
                let kvm_says = vcpu.translate(address);
                let canonical = paging.levels.canonical(address);
                let access = Access::new(Kind::Read, privilege);
                let walk = paging.walk_and_mark(&mirror, canonical, access);
                let walker_says = walk.outcome.ok().map(|found| found.gpa);
                assert_eq!(
                    kvm_says, walker_says,
                    "seed {seed}, {address}, KVM left, walker right:\n{paging:?}\n{walk}"
                );
                match walker_says {
                    Some(_) => found += 1,
                    None => refused += 1,
                }
                if canonical != address {
                    not_canonical += 1;
                    let walk = paging.walk(&mirror, address, access);
                    assert_eq!(walk.outcome, Err(Fault::NotCanonical(address)));
                }
                five += u64::from(paging.levels == Levels::Five);
            }
        }
        for at in (0..PAGES << 12).step_by(8).map(Gpa) {
            assert_eq!(
                memory.read_u64(at),
                mirror.read_u64(at),
                "seed {seed}, entry at {at}"
            );
        }
    }
    eprintln!(
        "{found} found, {refused} refused; {not_canonical} not canonical, {five} with five levels; \
         {} bits, 1 GiB pages: {}, SMEP: {}, SMAP: {}",
        features.processor.physical_bits,
        features.processor.gigabyte_pages,
        features.smep,
        features.smap
    );
    assert_eq!(found + refused, MEMORIES * MODES * ADDRESSES);
    assert!(found > 1000 && refused > 1000 && not_canonical > 100);
}

#[test]
fn kvm_takes_an_address_that_is_not_canonical_for_one_that_is() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let memory = GuestMemory::new(2 << 12).expect("memory");
    // One table as every level, whose entry 0 points to itself.
    memory.write_u64(Gpa(0x1000), 0x1003).expect("table");
    let vm = VmHandle::new(&kvm, &memory).expect("machine");
    let vcpu = vm.create_vcpu(0).expect("vCPU");
    vcpu.set_cpuid(&kvm.supported_cpuid().expect("CPUID"))
        .expect("CPUID");
    let mut system = vcpu.system_registers().expect("registers");
    (system.cr0, system.cr3, system.cr4, system.efer) = (CR0, 0x1000, CR4_PAE, EFER);
    vcpu.set_system_registers(&system).expect("long mode");

    let paging = Paging::new(Gpa(0x1000), Levels::Four);
    let odd = Gva(0x0001_0000_0000_0042);
    assert_eq!(vcpu.translate(odd), Some(Gpa(0x1042)));
    let walk = paging.walk(&memory, odd, Access::READ);
    assert_eq!(walk.outcome, Err(Fault::NotCanonical(odd)));
    assert_eq!(
        memory.read_u64(Gpa(0x1000)),
        Some(0x1023),
        "KVM set the accessed bit"
    );
}

//! The floor under a virtual machine's start: the kernel calls that a bare guest cannot do without,
//! written by hand, in order, and nothing else.
//!
//! open `/dev/kvm` → VM → one memory slot → one vCPU → CPUID → long mode → first exit. Then it writes the
//! time of that exit (`CLOCK_MONOTONIC`, nanoseconds, 8 bytes little-endian) to standard output and
//! exits with status 0; on any failure it says which call failed and exits with status 1.
//!
//! What `ringside run --in vm -- stamp` takes beyond this is what the VMM costs.
//! (Linux: Documentation/virt/kvm/api.rst; Intel SDM 3A section 10.8.5 for the mode switch.)
//!
//! Built by `../build.rs` with the standard library alone, and embedded.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::ExitCode;
use std::ptr::null_mut;

// The C library is there already: the standard library links it.
unsafe extern "C" {
    fn ioctl(fd: i32, request: u64, ...) -> i32;
    fn memfd_create(name: *const u8, flags: u32) -> i32;
    fn ftruncate(fd: i32, length: i64) -> i32;
    fn mmap(addr: *mut u8, length: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
}

const CLOCK_MONOTONIC: i32 = 1;
const MFD_CLOEXEC: u32 = 1;
const PROT_READ_WRITE: i32 = 1 | 2;
const MAP_SHARED: i32 = 1;

const KVM_CREATE_VM: u64 = 0xae01;
const KVM_GET_VCPU_MMAP_SIZE: u64 = 0xae04;
const KVM_CREATE_VCPU: u64 = 0xae41;
const KVM_SET_USER_MEMORY_REGION: u64 = 0x4020_ae46;
const KVM_RUN: u64 = 0xae80;
const KVM_SET_REGS: u64 = 0x4090_ae82;
const KVM_GET_SREGS: u64 = 0x8138_ae83;
const KVM_SET_SREGS: u64 = 0x4138_ae84;
const KVM_SET_CPUID2: u64 = 0x4008_ae90;
const KVM_EXIT_IO: u32 = 2;

/// As much as `ringside run --in vm` gives its guests when nothing else is asked for.
const MEMORY_BYTES: usize = 64 << 20;

// Guest-physical layout: three page tables, then the code.
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const PD: usize = 0x3000;
const CODE: usize = 0x4000;

/// `struct kvm_userspace_memory_region`.
#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_phys_addr: u64,
    memory_size: u64,
    userspace_addr: u64,
}

/// `struct kvm_segment`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    kind: u8,
    present: u8,
    dpl: u8,
    db: u8,
    s: u8,
    l: u8,
    g: u8,
    avl: u8,
    unusable: u8,
    padding: u8,
}

/// `struct kvm_sregs`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct SystemRegisters {
    cs: Segment,
    ds: Segment,
    es: Segment,
    fs: Segment,
    gs: Segment,
    ss: Segment,
    tr: Segment,
    ldt: Segment,
    gdt: [u64; 2],
    idt: [u64; 2],
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    cr8: u64,
    efer: u64,
    apic_base: u64,
    interrupts: [u64; 4],
}

/// `struct kvm_cpuid2` with its entries of 40 bytes.
#[repr(C)]
struct Cpuid {
    count: u32,
    padding: u32,
    entries: [[u32; 10]; CPUID_ENTRIES],
}

/// As many as our machine sets.
const CPUID_ENTRIES: usize = 5;

/// `struct kvm_regs`: rax … r15, rip, rflags.
type Registers = [u64; 18];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let kvm = kvm.map_err(|error| named("open /dev/kvm", &error))?;
    // SAFETY: these requests take an integer and return a new descriptor or a size.
    let vm = unsafe {
        File::from_raw_fd(done(
            "KVM_CREATE_VM",
            ioctl(kvm.as_raw_fd(), KVM_CREATE_VM, 0),
        )?)
    };

    // SAFETY: the name is a C string; the descriptor is new and nobody else's.
    let memory_file = unsafe {
        File::from_raw_fd(done(
            "memfd_create",
            memfd_create(c"floor".as_ptr().cast(), MFD_CLOEXEC),
        )?)
    };
    // SAFETY: the descriptor is open.
    done("ftruncate", unsafe {
        ftruncate(memory_file.as_raw_fd(), MEMORY_BYTES as i64)
    })?;
    let memory = map(&memory_file, MEMORY_BYTES)?;

    let write = |address: usize, bytes: &[u8]| {
        assert!(address + bytes.len() <= MEMORY_BYTES);
        // SAFETY: within the mapping, by the line above; no vCPU runs yet.
        unsafe {
            memory
                .add(address)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
    };
    write(PML4, &(PDPT as u64 | 3).to_le_bytes()); // present, writable
    write(PDPT, &(PD as u64 | 3).to_le_bytes());
    write(PD, &0x83_u64.to_le_bytes()); // present, writable, 2 MiB from address 0
    write(CODE, &[0xee]); // out dx, al

    let region = MemoryRegion {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: memory as u64,
    };
    // SAFETY: the region describes the mapping above, which lives as long as this process.
    done("KVM_SET_USER_MEMORY_REGION", unsafe {
        ioctl(
            vm.as_raw_fd(),
            KVM_SET_USER_MEMORY_REGION,
            &raw const region,
        )
    })?;

    // SAFETY: as for the VM.
    let vcpu = unsafe {
        File::from_raw_fd(done(
            "KVM_CREATE_VCPU",
            ioctl(vm.as_raw_fd(), KVM_CREATE_VCPU, 0),
        )?)
    };
    // SAFETY: takes no argument.
    let run_bytes = done("KVM_GET_VCPU_MMAP_SIZE", unsafe {
        ioctl(kvm.as_raw_fd(), KVM_GET_VCPU_MMAP_SIZE, 0)
    })?;
    let run = map(&vcpu, run_bytes as usize)?;

    // function, index, flags, eax, ebx, ecx, edx: what x86-64 cannot do without.
    let leaf = |function, eax, edx| [function, 0, 0, eax, 0, 0, edx, 0, 0, 0];
    let cpuid = Cpuid {
        count: CPUID_ENTRIES as u32,
        padding: 0,
        entries: [
            leaf(0, 1, 0),
            leaf(1, 0x600, 0x0789_8171),
            leaf(0x8000_0000, 0x8000_0008, 0),
            leaf(0x8000_0001, 0, 0x2010_0800),
            leaf(0x8000_0008, 0x3028, 0),
        ],
    };
    // SAFETY: `count` says how many entries there are.
    done("KVM_SET_CPUID2", unsafe {
        ioctl(vcpu.as_raw_fd(), KVM_SET_CPUID2, &raw const cpuid)
    })?;

    let mut system = SystemRegisters::default();
    // SAFETY: the structure has the size that the request's number encodes.
    done("KVM_GET_SREGS", unsafe {
        ioctl(vcpu.as_raw_fd(), KVM_GET_SREGS, &raw mut system)
    })?;
    let flat = Segment {
        limit: u32::MAX,
        present: 1,
        s: 1,
        g: 1,
        ..Segment::default()
    };
    system.cs = Segment {
        selector: 0x10,
        kind: 0xb,
        l: 1,
        ..flat
    };
    let data = Segment {
        selector: 0x18,
        kind: 0x3,
        db: 1,
        ..flat
    };
    (system.ds, system.es, system.ss) = (data, data, data);
    system.cr0 = 0x8000_0011; // PG, ET, PE
    system.cr3 = PML4 as u64;
    system.cr4 = 0x20; // PAE
    system.efer = 0x500; // LMA, LME
    // SAFETY: as above.
    done("KVM_SET_SREGS", unsafe {
        ioctl(vcpu.as_raw_fd(), KVM_SET_SREGS, &raw const system)
    })?;
    let mut registers: Registers = [0; 18];
    registers[16] = CODE as u64;
    registers[17] = 2; // the bit that is always one
    // SAFETY: as above.
    done("KVM_SET_REGS", unsafe {
        ioctl(vcpu.as_raw_fd(), KVM_SET_REGS, &raw const registers)
    })?;

    // SAFETY: takes no argument; the guest owns the memory that was given to it.
    done("KVM_RUN", unsafe { ioctl(vcpu.as_raw_fd(), KVM_RUN, 0) })?;
    let mut now = [0_i64; 2];
    // SAFETY: `now` is a `struct timespec`.
    done("clock_gettime", unsafe {
        clock_gettime(CLOCK_MONOTONIC, &raw mut now)
    })?;

    // SAFETY: `kvm_run.exit_reason` is a u32 at offset 8 of the mapping.
    let reason = unsafe { run.add(8).cast::<u32>().read() };
    if reason != KVM_EXIT_IO {
        return Err(io::Error::other(format!(
            "the guest's first exit has reason {reason}, not KVM_EXIT_IO"
        )));
    }
    let now_ns = (now[0] * 1_000_000_000 + now[1]) as u64;
    let mut output = io::stdout();
    output.write_all(&now_ns.to_le_bytes())?;
    output.flush()
}

/// Maps the first `length` bytes of `file`, shared, for as long as the process lives.
fn map(file: &File, length: usize) -> io::Result<*mut u8> {
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let address = unsafe {
        mmap(
            null_mut(),
            length,
            PROT_READ_WRITE,
            MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if address.addr() == usize::MAX {
        Err(io::Error::last_os_error())
    } else {
        Ok(address)
    }
}

/// Turns a call's -1 into an error that names the call.
fn done(call: &str, result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(named(call, &io::Error::last_os_error()));
    }
    Ok(result)
}

fn named(call: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}: {error}"))
}

//! Misbehaves, in the way that its argument names: what can a guest do to its VMM?
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};
use ringside_abi::hypercall::{Number, Request};
use ringside_abi::{layout, port};
use ringside_programs::{guest, println, ring0};

ringside_programs::entry!(main);

/// What `attack NAME` does.
const ATTACKS: [(&str, fn()); 17] = [
    ("loop", || {
        loop {
            core::hint::spin_loop();
        }
    }),
    ("loop-ring0", || in_ring0(spin)),
    ("exits", || {
        loop {
            guest::hypercall(Number::Null, [0; 4]);
        }
    }),
    ("halt", || in_ring0(halt)),
    ("triple-fault", || in_ring0(triple_fault)),
    ("null", || read(0)),
    ("kernel", || read(layout::GDT)),
    ("outside", || in_ring0(read_outside)),
    ("table-outside", || in_ring0(table_outside)),
    ("port-ring3", || {
        // SAFETY: faults; that is the point.
        unsafe { guest::out8(0x80, 1) }
    }),
    ("port", || in_ring0(unknown_port)),
    ("port-string", || in_ring0(unknown_port_string)),
    ("opcode", || {
        // SAFETY: faults; that is the point.
        unsafe { asm!("ud2") }
    }),
    ("sse-ring0", || in_ring0(sse)),
    // SAFETY: the VMM finds no request there.
    ("hypercall-outside", || unsafe {
        guest::out32(port::HYPERCALL, 0xffff_fff8)
    }),
    // SAFETY: the VMM finds no request there.
    ("hypercall-narrow", || unsafe {
        guest::out8(port::HYPERCALL, 8)
    }),
    ("hypercall-pointers", hypercall_pointers),
];

fn main(arguments: &[&str]) -> u8 {
    let [name] = arguments else {
        println!("usage: attack NAME");
        return 2;
    };
    let Some((_, attack)) = ATTACKS.iter().find(|(other, _)| other == name) else {
        println!("no attack `{name}`; there are:");
        for (name, _) in ATTACKS {
            println!("  {name}");
        }
        return 2;
    };
    attack();
    println!("survived");
    0
}

fn in_ring0(function: unsafe extern "C" fn()) {
    // SAFETY: the functions below are integer assembly, but for the one that is meant not to be.
    unsafe { ring0::call(function) };
}

fn read(address: u64) {
    // SAFETY: faults; that is the point.
    unsafe { asm!("mov al, [{}]", in(reg) address, out("al") _) };
}

#[unsafe(naked)]
unsafe extern "C" fn spin() {
    naked_asm!("2: jmp 2b")
}

#[unsafe(naked)]
unsafe extern "C" fn halt() {
    naked_asm!("cli", "hlt", "ret")
}

/// A fault with no gate to go to, nor one for the fault of not finding it.
#[unsafe(naked)]
unsafe extern "C" fn triple_fault() {
    naked_asm!("push 0", "push 0", "lidt [rsp]", "ud2")
}

/// Maps the first heap page to guest-physical 1 GiB, beyond memory, and reads it.
#[unsafe(naked)]
unsafe extern "C" fn read_outside() {
    naked_asm!(
        "mov rax, cr3",   // PML4
        "mov rax, [rax]", // PDPT
        "and rax, -4096",
        "mov rax, [rax]", // PD
        "and rax, -4096",
        "mov ecx, 0x40000083", // 1 GiB, large, writable, present
        "mov [rax + 8 * 3], rcx",
        "mov rdx, 0x600000",
        "invlpg [rdx]",
        "mov eax, [rdx]",
        "ret"
    )
}

/// Puts the root page table where there is no memory.
#[unsafe(naked)]
unsafe extern "C" fn table_outside() {
    naked_asm!("movabs rax, 0x10000000000", "mov cr3, rax", "nop", "ret")
}

#[unsafe(naked)]
unsafe extern "C" fn unknown_port() {
    naked_asm!(
        "mov edx, 0xdead",
        "mov eax, 0x12345678",
        "out dx, eax",
        "ret"
    )
}

#[unsafe(naked)]
unsafe extern "C" fn unknown_port_string() {
    naked_asm!(
        "mov edx, 0xdead",
        "mov esi, 0x200000",
        "mov ecx, 100",
        "rep outsb",
        "ret"
    )
}

#[unsafe(naked)]
unsafe extern "C" fn sse() {
    naked_asm!("pxor xmm0, xmm0", "ret")
}

/// Good requests with wild arguments: each gets an error, and the guest lives on.
fn hypercall_pointers() {
    let memory = guest::boot_info().memory_bytes;
    for [address, length] in [
        [memory, 1],
        [memory - 1, 2],
        [u64::MAX, 1],
        [u64::MAX - 7, 16],
        [0, u64::MAX],
        [1 << 63, 1 << 63],
    ] {
        for number in [Number::Write, Number::Read, Number::Release] {
            let result = guest::hypercall(number, [address, length, 0, 0]);
            println!("{number:?} {address:#x} {length:#x} {result}");
        }
    }
    let mut request = Request::new(Number::Null, [0; 4]);
    request.number = 12345;
    // SAFETY: the VMM writes the result of this request.
    unsafe { guest::out32(port::HYPERCALL, (&raw mut request) as u32) };
    // SAFETY: a valid reference; volatile, for the compiler does not see the VMM write.
    println!("unknown {}", unsafe {
        (&raw const request.result).read_volatile()
    });
}

//! Misbehaves, in the way that its argument names: what can a guest do to its VMM?
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};
use ringside_abi::hypercall::{Number, Request, Ring};
use ringside_abi::{layout, port};
use ringside_programs::{guest, println, ring0};

ringside_programs::entry!(main);

/// What `attack NAME` does.
const ATTACKS: [(&str, fn()); 33] = [
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
    ("outside", || {
        in_ring0(map_hole);
        read(HOLE);
    }),
    ("outside-write", || {
        in_ring0(map_hole);
        // SAFETY: nothing is there; that is the point.
        unsafe { (HOLE as *mut u16).write_volatile(0xabcd) };
    }),
    ("outside-into", || {
        in_ring0(map_hole);
        // SAFETY: begins in memory and ends where there is none; that is the point.
        unsafe { asm!("mov rax, [{}]", in(reg) HOLE - 3, out("rax") _) };
    }),
    ("outside-into-write", || {
        in_ring0(map_hole);
        // SAFETY: as above; the three bytes in memory are the heap's, which nobody uses.
        unsafe { asm!("mov [{}], {}", in(reg) HOLE - 3, in(reg) 0x0807_0605_0403_0201_u64) };
    }),
    ("outside-out-of", || {
        in_ring0(map_hole);
        // SAFETY: begins where there is no memory; that is the point.
        unsafe { asm!("mov rax, [{}]", in(reg) HOLE_END - 3, out("rax") _) };
    }),
    ("outside-vector", || {
        in_ring0(map_hole);
        // SAFETY: nothing is there; that is the point.
        unsafe { asm!("movups xmm0, [{}]", in(reg) HOLE, out("xmm0") _) };
    }),
    ("outside-locked", || {
        in_ring0(map_hole);
        // SAFETY: nothing is there; that is the point.
        unsafe { asm!("lock inc qword ptr [{}]", in(reg) HOLE + 4092) };
    }),
    ("outside-jump", || {
        in_ring0(map_hole);
        // SAFETY: nothing is there; that is the point.
        unsafe { asm!("jmp {}", in(reg) HOLE) };
    }),
    ("outside-stack", || {
        in_ring0(map_hole);
        // SAFETY: nothing is there; that is the point.
        unsafe { asm!("mov rsp, {}", "push rax", "ud2", in(reg) HOLE + 4096) };
    }),
    ("table-outside", || in_ring0(table_outside)),
    ("table-self", || in_ring0(table_self)),
    ("table-loop", || in_ring0(table_loop)),
    ("no-idt", || in_ring0(no_idt)),
    ("no-gdt", || in_ring0(no_gdt)),
    ("no-trap-stack", || {
        in_ring0(no_trap_stack);
        // SAFETY: faults; that is the point.
        unsafe { asm!("ud2") };
    }),
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
    // SAFETY: the VMM finds only half of a request there.
    ("hypercall-straddles", || unsafe {
        guest::out32(port::HYPERCALL, guest::boot_info().memory_bytes as u32 - 24)
    }),
    // SAFETY: a request of no alignment.
    ("hypercall-unaligned", || unsafe {
        guest::out32(port::HYPERCALL, layout::IMAGE as u32 + 4)
    }),
    // SAFETY: the VMM finds no request at the first of these addresses.
    ("hypercall-string", || unsafe {
        let wild = [u32::MAX; 64];
        asm!("rep outsd", in("dx") port::HYPERCALL, inout("rsi") &raw const wild => _, inout("rcx") 64_u64 => _)
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

/// Two pages of 2 MiB: the second of the heap becomes a hole, and the third stays memory.
const HOLE: u64 = 3 * layout::LARGE_PAGE;
const HOLE_END: u64 = HOLE + layout::LARGE_PAGE;

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

/// Maps the second page of the heap to guest-physical 1 GiB, beyond memory.
#[unsafe(naked)]
unsafe extern "C" fn map_hole() {
    naked_asm!(
        "mov rax, cr3",   // PML4
        "mov rax, [rax]", // PDPT
        "and rax, -4096",
        "mov rax, [rax]", // PD
        "and rax, -4096",
        "mov ecx, 0x40000087", // 1 GiB, large, user, writable, present
        "mov [rax + 8 * {hole} / {large}], rcx",
        "mov edx, {hole}",
        "invlpg [rdx]",
        "ret",
        hole = const HOLE,
        large = const layout::LARGE_PAGE,
    )
}

/// Puts the root page table where there is no memory.
#[unsafe(naked)]
unsafe extern "C" fn table_outside() {
    naked_asm!("movabs rax, 0x10000000000", "mov cr3, rax", "nop", "ret")
}

/// Makes the root table an entry of itself (all four levels are then the one table), and reads it
/// through that entry: no harm, and every kernel for teaching does so.
#[unsafe(naked)]
unsafe extern "C" fn table_self() {
    naked_asm!(
        "mov rax, cr3",
        "lea rcx, [rax + 3]", // writable, present
        "mov [rax + 8 * 510], rcx",
        "movabs rdx, 0xffffff7fbfdfe000", // index 510 on each level
        "mov rdx, [rdx + 8 * 510]",
        "and dl, 0xdf", // the processor noted the access
        "cmp rdx, rcx",
        "je 2f",
        "ud2",
        "2: ret"
    )
}

/// Makes a root table of which every entry is the table itself: every address is somewhere in it,
/// and nothing there can be executed, not even a handler.
#[unsafe(naked)]
unsafe extern "C" fn table_loop() {
    naked_asm!(
        "mov edi, {table}",
        "movabs rax, 0x8000000000000007", // no-execute, user, writable, present
        "or rax, rdi",
        "mov rdx, rdi",
        "mov ecx, 512",
        "rep stosq",
        "mov cr3, rdx",
        "nop",
        "ret",
        table = const 2 * layout::LARGE_PAGE,
    )
}

/// A fault with no gate to go to.
#[unsafe(naked)]
unsafe extern "C" fn no_idt() {
    naked_asm!(
        "mov rax, cr3", // the page of gates becomes not present: PML4, PDPT, PD, PT
        "mov rax, [rax]",
        "and rax, -4096",
        "mov rax, [rax]",
        "and rax, -4096",
        "mov rax, [rax]",
        "and rax, -4096",
        "mov qword ptr [rax + 8 * {idt} / {page}], 0",
        "mov edx, {idt}",
        "invlpg [rdx]",
        "ud2",
        idt = const layout::IDT,
        page = const layout::PAGE,
    )
}

/// No segment descriptors any more, which each gate's selector is looked up in.
#[unsafe(naked)]
unsafe extern "C" fn no_gdt() {
    naked_asm!("push 0", "push 0", "lgdt [rsp]", "ud2")
}

/// Traps run on a stack that is nowhere.
#[unsafe(naked)]
unsafe extern "C" fn no_trap_stack() {
    naked_asm!(
        "mov eax, {task}",
        "movabs rcx, 0x7fff00000000",
        "mov [rax + 4], rcx",  // ring 0's
        "mov [rax + 36], rcx", // the first of the interrupt stack table
        "ret",
        task = const layout::TSS,
    )
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
    for address in [memory, memory - 16, u64::MAX - 7, 1 << 63] {
        let result = guest::hypercall(Number::Ring, [address, 0, 0, 0]);
        println!("ring at {address:#x} {result}");
    }
    // Rings that are all there, with a counter that cannot be or a slot that leads nowhere.
    for (filled, served, slot) in [
        (65, 0, [layout::IMAGE, 1]),
        (0, 1, [layout::IMAGE, 1]),
        (1, 0, [u64::MAX - 7, 16]),
        (0, u64::MAX, [memory - 1, 2]),
        (1, 0, [layout::IMAGE, u64::MAX]),
    ] {
        let mut ring = Ring::new();
        (ring.filled, ring.served) = (filled, served);
        ring.slots = [slot; 64];
        let result = guest::hypercall(Number::Ring, [(&raw mut ring) as u64, 0, 0, 0]);
        println!("ring {filled:#x} {served:#x} {slot:x?} {result}");
    }
    let held = guest::hypercall(Number::Balloon, [u64::MAX, 0, 0, 0]);
    println!("balloon {held}");
    let mut request = Request::new(Number::Null, [0; 4]);
    request.number = 12345;
    // SAFETY: the VMM writes the result of this request.
    unsafe { guest::out32(port::HYPERCALL, (&raw mut request) as u32) };
    // SAFETY: a valid reference; volatile, for the compiler does not see the VMM write.
    println!("unknown {}", unsafe {
        (&raw const request.result).read_volatile()
    });
}

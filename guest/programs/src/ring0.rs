//! Ring 0: a page of assembly, baseline integer instructions only, for on hosts whose KVM is
//! software each one is emulated, at about a microsecond.
//!
//! The VMM has done what it can from outside: long mode is on, and the GDT, the IDT (gate `n` goes
//! to `vectors + 16 n`), the task-state segment and the first page tables are in place. Left to do:
//! drop to ring 3, and answer traps.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};
use ringside_abi::{boot_info::offset, hypercall::Number, layout, port};

// Processor rdi begins here, with its ring-3 stack in rsi and its task register's selector in rdx;
// ring 3 finds its number in rdi.
//
// Every trap comes here on the trap stack, with the same frame whatever its vector:
//
//   rsp+48  ss      rsp+40  rsp     rsp+32  rflags   rsp+24  cs   rsp+16  rip
//   rsp+8   error code (zero where the processor pushes none)     rsp     vector
global_asm!(
    r#"
    .section .ring0.vectors, "ax", @progbits
    .balign 4096
    .set vector, 0
    .rept 256
        .balign {stride}
        .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
            push 0
        .endif
        .byte 0x68              // push vector
        .long vector
        jmp ring0_trap
        .set vector, vector + 1
    .endr

    .section .ring0, "ax", @progbits
    .weak ring0_entry           // a program may have an entry of its own, and stay in ring 0
ring0_entry:                    // the drop to ring 3: an interrupt's return with no interrupt before
    ltr dx                      // the VMM loaded it already; QEMU's emulation of AMD-V honours the I/O
    push {user_data}            // bitmap only of one that the guest loads itself
    push rsi
    push 0x202                  // rflags: interrupts on, and the bit that is always one
    push {user_code}
    push offset ring3_start
    iretq

ring0_trap:
    cmp dword ptr [rsp], 0x80
    je 5f
    cmp dword ptr [rsp], 6
    je 8f
    cmp dword ptr [rsp], 14
    jne 4f

    // Demand paging: a page of the zone that is not present gets the frame at its own offset.
    push rax
    push rcx
    push rdx
    test byte ptr [rsp + 32], 1 // error code: the page is there, but its rights forbid
    jnz 3f
    mov rax, cr2
    movabs rcx, {demand_zone}
    sub rax, rcx
    cmp rax, [{boot_info} + {demand_bytes}]
    jae 3f
    shr rax, 12
    mov rcx, [{boot_info} + {demand_tables}]
    lea rcx, [rcx + 8 * rax]
    shl rax, 12
    add rax, [{boot_info} + {demand_frames}]
    movabs rdx, {entry_flags}
    or rax, rdx
    mov [rcx], rax              // not-present entries are never cached: nothing to flush
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

3:  pop rdx
    pop rcx
    pop rax
4:  cmp dword ptr [rsp], 32
    jae 9f
    cmp qword ptr [ring0_recover], 0
    jne 20f
    // Nothing here can help: tell the VMM (vector, error code, rip, cr2) and stop.
    pop rax
    pop rcx
    mov rdx, [rsp]
    sub rsp, 48
    mov qword ptr [rsp], {fault}
    mov [rsp + 8], rax
    mov [rsp + 16], rcx
    mov [rsp + 24], rdx
    mov rax, cr2
    mov [rsp + 32], rax
    mov eax, esp
    mov edx, {hypercall_port}
    out dx, eax
    cli
    hlt

5:  // System call: rax chooses.
    add rsp, 16
    test rax, rax
    jnz 6f
    iretq                       // 0: nothing, the price of a system call
6:  cmp rax, 1
    jne 7f
    call rdi                    // 1: call ring 3's function in ring 0; no real kernel would
    iretq
7:  mov rax, -38                // no such system call
    iretq

9:  // An interrupt: count it, and tell the x2APIC that it was taken.
    push rax
    push rcx
    push rdx
    mov eax, [rsp + 24]
    lock inc qword ptr [ring0_interrupts + 8 * rax]
    mov ecx, {end_of_interrupt}
    xor eax, eax
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

20: // Somebody expects an exception: note it, and go on where they want to.
    push rax
    mov rax, [rsp + 8]
    mov [ring0_trapped], rax
    mov rax, [rsp + 16]
    mov [ring0_trapped + 8], rax
    mov rax, cr2
    mov [ring0_trapped + 16], rax
    xor eax, eax
    xchg rax, [ring0_recover]
    mov [rsp + 24], rax
    pop rax
    add rsp, 16
    iretq

8:  // Some software KVM knows no int in ring 3 and calls it an invalid opcode.
    push rax
    mov rax, [rsp + 24]
    cmp word ptr [rax], 0x80cd  // int 0x80
    pop rax
    jne 4b
    add qword ptr [rsp + 16], 2
    jmp 5b

    .bss
    .balign 8
    .global ring0_recover, ring0_trapped, ring0_interrupts
ring0_recover: .zero 8          // where to go on after an exception that somebody expects; 0: nobody
ring0_trapped: .zero 24         // that exception: vector, error code, cr2
ring0_interrupts: .zero 8 * 256 // how often each vector came
    "#,
    stride = const layout::VECTOR_STRIDE,
    user_data = const layout::selector::USER_DATA,
    user_code = const layout::selector::USER_CODE,
    demand_zone = const layout::DEMAND_ZONE,
    boot_info = const layout::BOOT_INFO,
    demand_bytes = const offset::DEMAND_BYTES,
    demand_tables = const offset::DEMAND_TABLES,
    demand_frames = const offset::DEMAND_FRAMES,
    entry_flags = const (1_u64 << 63) | 0x67, // no-execute, dirty, accessed, user, writable, present
    fault = const Number::Fault as u64,
    hypercall_port = const port::HYPERCALL,
    end_of_interrupt = const x2apic::END_OF_INTERRUPT,
);

/// The null system call: into ring 0 and back.
pub fn null_call() {
    // SAFETY: vector 0x80 with rax 0 returns at once and changes no register.
    unsafe { asm!("int 0x80", in("rax") 0_u64, options(nostack)) };
}

/// Halts this processor until an interrupt; for good where none can come.
pub fn halt() {
    #[unsafe(naked)]
    unsafe extern "C" fn halt() {
        core::arch::naked_asm!("sti", "hlt", "cli", "ret")
    }
    // SAFETY: an interrupt's return comes back here; ring 3 gets its own flags back.
    unsafe { call(halt) };
}

/// The local interrupt controller's registers, as MSRs (SDM vol. 3A, table 11-6), for a program that
/// asks for interrupts.
pub mod x2apic {
    /// Any value: the interrupt was taken care of.
    pub const END_OF_INTERRUPT: u32 = 0x80b;
    /// Bit 8 switches the controller on; bits 0 to 7 are the spurious vector.
    pub const SPURIOUS: u32 = 0x80f;
    /// An interrupt for other processors: vector, and the target's number in bits 32 and up.
    pub const COMMAND: u32 = 0x830;
    /// The timer's vector, and its mode in bits 17 and 18; bit 16 masks it.
    pub const TIMER: u32 = 0x832;
    /// Counts down from what is written here.
    pub const TIMER_COUNT: u32 = 0x838;
    /// What the timer's clock is divided by; 11 is 1.
    pub const TIMER_DIVIDE: u32 = 0x83e;
    /// An interrupt for this very processor: its vector.
    pub const SELF: u32 = 0x83f;
    /// In its mode, the timer's interrupt comes when the time-stamp counter has this value.
    pub const TSC_DEADLINE: u32 = 0x6e0;
}

/// Writes a model-specific register, from ring 0.
///
/// # Safety
/// The register's meaning: what it changes must leave ring 3 as it is.
pub unsafe fn write_msr(register: u32, value: u64) {
    #[unsafe(naked)]
    unsafe extern "C" fn write() {
        core::arch::naked_asm!(
            "mov ecx, esi",
            "mov eax, edx",
            "shr rdx, 32",
            "wrmsr",
            "ret"
        )
    }
    // SAFETY: the caller's.
    unsafe { call_with(write, register.into(), value) };
}

/// How often the interrupt `vector` came, on all processors.
pub fn interrupts(vector: u8) -> u64 {
    unsafe extern "C" {
        static ring0_interrupts: [AtomicU64; 256];
    }
    // SAFETY: as many counters as there are vectors, which ring 0 changes atomically.
    unsafe { ring0_interrupts[usize::from(vector)].load(Ordering::Relaxed) }
}

/// An exception that was expected.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trapped {
    /// Its vector.
    pub vector: u64,
    /// Its error code; 0 for vectors without one.
    pub error_code: u64,
    /// The last page fault's address.
    pub cr2: u64,
}

/// The exception that the last [`probe!`](crate::probe) met, if it met one.
pub fn trapped() -> Option<Trapped> {
    unsafe extern "C" {
        static ring0_trapped: Trapped;
    }
    // SAFETY: three plain words, which ring 0 wrote; volatile, for the compiler sees nobody write.
    let trapped = unsafe { (&raw const ring0_trapped).read_volatile() };
    (trapped.vector != u64::MAX).then_some(trapped)
}

/// Runs instructions that may raise an exception; [`trapped`](crate::ring0::trapped) then tells which.
/// They are the operands of `asm!`, which the first of them must not skip over the end of. One
/// processor at a time may do so.
#[macro_export]
macro_rules! probe {
    ($code:literal $($operands:tt)*) => {
        core::arch::asm!(
            "mov qword ptr [ring0_trapped], -1",
            "lea {recover}, [rip + 77f]",
            "mov [ring0_recover], {recover}",
            $code,
            "77:",
            "mov qword ptr [ring0_recover], 0",
            recover = out(reg) _
            $($operands)*
        )
    };
}

/// Runs `function` in ring 0, with `a` in `rsi` and `b` in `rdx`; what it leaves in `rax`.
///
/// # Safety
/// As of [`call`].
pub unsafe fn call_with(function: unsafe extern "C" fn(), a: u64, b: u64) -> u64 {
    let result;
    // SAFETY: as in `call`.
    unsafe {
        asm!("int 0x80", inout("rax") 1_u64 => result, in("rdi") function, in("rsi") a, in("rdx") b, clobber_abi("C"), options(nostack))
    };
    result
}

/// Runs `function` in ring 0.
///
/// # Safety
/// `function` is integer-only assembly (software KVM emulates no other instruction in ring 0),
/// keeps the C calling convention, and leaves the machine in a state in which ring 3 can go on.
pub unsafe fn call(function: unsafe extern "C" fn()) {
    // SAFETY: vector 0x80 with rax 1 calls rdi; the clobbers are those of the C convention.
    unsafe {
        asm!("int 0x80", inout("rax") 1_u64 => _, in("rdi") function, clobber_abi("C"), options(nostack))
    };
}

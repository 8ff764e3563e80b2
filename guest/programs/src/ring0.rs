//! Ring 0: a page of assembly, baseline integer instructions only, for on hosts whose KVM is
//! software each one is emulated, at about a microsecond.
//!
//! The VMM has done what it can from outside: long mode is on, and the GDT, the IDT (gate `n` goes
//! to `vectors + 16 n`), the task-state segment and the first page tables are in place. Left to do:
//! drop to ring 3, and answer traps.

use core::arch::{asm, global_asm};
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
4:  // Nothing here can help: tell the VMM (vector, error code, rip, cr2) and stop.
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

8:  // Some software KVM knows no int in ring 3 and calls it an invalid opcode.
    push rax
    mov rax, [rsp + 24]
    cmp word ptr [rax], 0x80cd  // int 0x80
    pop rax
    jne 4b
    add qword ptr [rsp + 16], 2
    jmp 5b
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

//! Long mode without the way there: KVM lets a VMM set the registers that a boot loader would reach
//! through real and protected mode (SDM vol. 3A, 10.8.5 lists the steps that are skipped).

use crate::boot::bare::{Entry, TASK_LIMIT, gdt_limit};
use crate::sys::vcpu::Vcpu;
use crate::sys::vm::SetUpError;
use kvm_bindings::{kvm_regs, kvm_segment};
use ringside_abi::layout::{self, selector};

/// CR0: protection, FPU present and its errors native, write protection for ring 0 too, paging.
pub const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// CR4: physical address extension, and SSE with its exceptions for ring 3.
pub const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// EFER: `syscall`, long mode enabled and active, no-execute pages.
pub const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;

/// A flat segment of `kind` (3 = data, 11 = code) for ring `privilege`.
fn flat(selector: u16, kind: u8, privilege: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        dpl: privilege,
        db: u8::from(kind == 3),
        s: 1,
        l: u8::from(kind == 11),
        g: 1,
        ..Default::default()
    }
}

/// The local interrupt controller's base register: where it would be in memory, enabled, and in
/// x2APIC mode, in which MSRs reach it (SDM vol. 3A, 11.12.1).
const APIC_BASE: u64 = 0xfee0_0000 | 1 << 11 | 1 << 10;
/// The same register: this is the processor that boots the others.
const APIC_FIRST: u64 = 1 << 8;

/// Puts fresh vCPU `index` at a bare guest's entry: ring 0, long mode, interrupts off, tables in
/// place. It finds its own number in `rdi`, the top of its ring-3 stack in `rsi` and its task
/// register's selector in `rdx`.
///
/// All vCPUs begin so, side by side: no start-up message wakes the others as on a real machine.
///
/// # Errors
/// The ioctls'.
pub fn enter(vcpu: &Vcpu, entry: Entry, index: u32) -> Result<(), SetUpError> {
    let mut system = vcpu.system_registers()?;
    system.cs = flat(selector::KERNEL_CODE, 11, 0);
    system.ss = flat(selector::KERNEL_DATA, 3, 0);
    // Ring 0 has no use for data segments; ring 3 finds its own in place.
    let data = flat(selector::USER_DATA, 3, 3);
    (system.ds, system.es, system.fs, system.gs) = (data, data, data, data);
    system.tr = kvm_segment {
        base: layout::task_state(index),
        limit: TASK_LIMIT,
        selector: selector::task(index),
        type_: 11,
        present: 1,
        ..Default::default()
    };
    (system.gdt.base, system.gdt.limit) = (layout::GDT, gdt_limit(entry.needs.processors));
    (system.idt.base, system.idt.limit) = (layout::IDT, 4095);
    (system.cr0, system.cr3, system.cr4, system.efer) = (CR0, entry.cr3, CR4, EFER);
    if entry.needs.interrupts {
        system.apic_base = APIC_BASE | if index == 0 { APIC_FIRST } else { 0 };
        vcpu.make_runnable()?;
    }
    vcpu.set_system_registers(&system)?;
    vcpu.set_registers(&kvm_regs {
        rip: entry.rip,
        rsp: layout::trap_stack_top(index),
        rdi: index.into(),
        rsi: layout::stack_top(index) - 8, // as after a call: rsp + 8 is a multiple of 16
        rdx: selector::task(index).into(),
        rflags: 2, // the bit that is always one
        ..Default::default()
    })
}

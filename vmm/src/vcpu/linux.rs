//! Where Linux begins: the registers that a boot loader would leave behind
//! (`Documentation/arch/x86/boot.rst`, "64-bit boot protocol"; Xen's `docs/misc/pvh.pandoc`).
//!
//! Only the first processor begins so. The others wait, in KVM, for the start-up message that the
//! first one sends when it is ready for them (SDM vol. 3A, 9.4).

use crate::boot::linux::{LinuxEntry, map};
use crate::sys::vcpu::Vcpu;
use crate::sys::vm::SetUpError;
use kvm_bindings::{kvm_regs, kvm_segment};

/// Code and data in the first descriptor table, as the protocol wants them.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;

/// CR0: protection, FPU errors native, and paging.
const PROTECTION: u64 = 1;
const EXTENSION: u64 = 1 << 4;
const PAGING: u64 = 1 << 31;
/// CR4: physical address extension.
const PAE: u64 = 1 << 5;
/// EFER: long mode enabled and active.
const LONG_MODE: u64 = 1 << 8 | 1 << 10;

fn flat(selector: u16, kind: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

/// Puts the first vCPU, fresh, at a kernel's entry.
///
/// # Errors
/// The ioctls'.
pub fn enter(vcpu: &Vcpu, entry: LinuxEntry) -> Result<(), SetUpError> {
    let mut system = vcpu.system_registers()?;
    let data = flat(DATA, 3);
    (system.ds, system.es, system.ss) = (data, data, data);
    (system.fs, system.gs) = (data, data);
    (system.gdt.base, system.gdt.limit) = (map::GDT.0, 31);
    (system.idt.base, system.idt.limit) = (0, 0);
    system.tr = kvm_segment {
        limit: 0x67,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    let registers = match entry {
        LinuxEntry::Linux64 { rip, cr3 } => {
            system.cs = kvm_segment {
                db: 0,
                l: 1,
                ..flat(CODE, 11)
            };
            (system.cr0, system.cr3) = (PROTECTION | EXTENSION | PAGING, cr3);
            (system.cr4, system.efer) = (PAE, LONG_MODE);
            kvm_regs {
                rip,
                rsi: map::ZERO_PAGE.0,
                ..Default::default()
            }
        }
        LinuxEntry::Pvh { eip } => {
            system.cs = flat(CODE, 11);
            (system.cr0, system.cr3) = (PROTECTION | EXTENSION, 0);
            (system.cr4, system.efer) = (0, 0);
            kvm_regs {
                rip: eip.into(),
                rbx: map::START_INFO.0,
                ..Default::default()
            }
        }
    };
    vcpu.set_system_registers(&system)?;
    vcpu.set_registers(&kvm_regs {
        rflags: 2, // the bit that is always one
        ..registers
    })
}

//! The processor that a bare guest finds: plain x86-64, the same on every host.
//!
//! What `cpuid` says is the VMM's choice, to a point: software KVM adds some features of the host's.
//! (Intel SDM vol. 2A, `CPUID`; AMD APM vol. 3, appendix E.)

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use ringside_abi::needs::Needs;
use std::arch::x86_64::__cpuid;

/// Leaf 1, EDX: floating point, TSC, MSRs, PAE, CMPXCHG8B, CMOV, PAT, CLFLUSH, MMX, FXSAVE, SSE, SSE2.
const FEATURES: u32 =
    1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 15 | 1 << 16 | 1 << 19 | 0xf << 23;
/// Leaf 1, ECX: "a hypervisor is present".
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 7, ECX: UMIP, which guests may switch on where the host's processor has it too.
const STRUCTURED_FEATURES: u32 = 1 << 2;
/// Leaf 0x8000_0001, EDX: `syscall`, no-execute pages, long mode.
const EXTENDED_FEATURES: u32 = 1 << 11 | 1 << 20 | 1 << 29;

/// Leaf 1, ECX and EDX with a local interrupt controller: x2APIC and TSC deadline; APIC.
const INTERRUPTS: (u32, u32) = (1 << 21 | 1 << 24, 1 << 9);

/// A baseline x86-64 processor of the host's maker (which KVM wants to agree) and address width.
///
/// Six leaves of our own, and not KVM's whole list of what the host could offer: asking for that
/// takes as long as the guest's memory and processor together.
///
/// `index` is the processor's own number, out of `processors`.
pub fn baseline(index: u32, needs: Needs) -> CpuId {
    let maker = __cpuid(0);
    let model = __cpuid(1).eax;
    let widths = __cpuid(0x8000_0008).eax & 0xffff;
    // Initial APIC number, and how many share the package.
    let numbers = index << 24 | needs.processors << 16;
    let interrupts = if needs.interrupts { INTERRUPTS } else { (0, 0) };
    let leaf = |function, eax, ebx, ecx, edx| kvm_cpuid_entry2 {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    };
    let leaves = [
        leaf(0, 7, maker.ebx, maker.ecx, maker.edx),
        leaf(
            1,
            model,
            numbers,
            HYPERVISOR | interrupts.0,
            FEATURES | interrupts.1,
        ),
        kvm_cpuid_entry2 {
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX, // its other indices are zeros
            ..leaf(7, 0, 0, STRUCTURED_FEATURES, 0)
        },
        leaf(0x8000_0000, 0x8000_0008, maker.ebx, maker.ecx, maker.edx),
        leaf(0x8000_0001, 0, 0, 0, EXTENDED_FEATURES),
        leaf(0x8000_0008, widths, 0, 0, 0),
    ];
    CpuId::from_entries(&leaves).expect("six are fewer than KVM takes")
}

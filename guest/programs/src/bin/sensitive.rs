//! Sensitive instructions in ring 3: which trap, which lie, and which the hypervisor may see.
//!
//! Popek and Goldberg (1974): a machine can be virtualized by trapping if every *sensitive*
//! instruction (one that reads or changes what belongs to the system) is *privileged* (traps outside
//! ring 0). On x86 some are not (Robin and Irvine, 2000), which is why it took dynamic translation,
//! paravirtualization or new hardware.
#![no_std]
#![no_main]

use core::arch::naked_asm;
use ringside_programs::{println, probe, ring0};

ringside_programs::entry!(main);

/// Sets the bits `rsi` in CR4 and clears the bits `rdx`.
#[unsafe(naked)]
unsafe extern "C" fn change_cr4() {
    naked_asm!(
        "mov rax, cr4",
        "or rax, rsi",
        "not rdx",
        "and rax, rdx",
        "mov cr4, rax",
        "ret"
    )
}

/// CR4: user-mode instruction prevention.
const UMIP: u64 = 1 << 11;

/// Ring 0's way to try: 1 if the processor refuses.
#[unsafe(naked)]
unsafe extern "C" fn try_umip() {
    naked_asm!(
        "lea rax, [rip + 78f]",
        "mov [ring0_recover], rax",
        "mov rax, cr4",
        "or rax, {umip}",
        "mov cr4, rax",
        "xor eax, eax",
        "mov [ring0_recover], rax",
        "ret",
        "78: mov eax, 1",
        "ret",
        umip = const UMIP,
    )
}

/// One row: what happened, and what it was worth.
fn row(instruction: &str, value: Option<u64>, verdict: &str) {
    match (ring0::trapped(), value) {
        (Some(trap), _) => println!(
            "{instruction:<14} traps   exception {}, error code {:#x}",
            trap.vector, trap.error_code
        ),
        (None, Some(value)) => println!("{instruction:<14} {verdict}  {value:#x}"),
        (None, None) => println!("{instruction:<14} {verdict}"),
    }
}

/// Room for what a descriptor-table register's store writes.
#[repr(C, align(16))]
struct Store([u8; 16]);

impl Store {
    fn base(&self) -> u64 {
        u64::from_le_bytes(self.0[2..10].try_into().expect("eight bytes"))
    }
}

fn privileged() {
    // SAFETY: each of these is stopped before it does anything; what it would clobber is said.
    unsafe {
        probe!("cli");
        row("cli", None, "runs ");
        probe!("hlt");
        row("hlt", None, "runs ");
        probe!("mov rax, cr0", out("rax") _);
        row("mov rax, cr0", None, "runs ");
        probe!("mov cr3, rax", in("rax") 0_u64);
        row("mov cr3, rax", None, "runs ");
        probe!("rdmsr", in("ecx") 0x1b, out("eax") _, out("edx") _);
        row("rdmsr", None, "runs ");
        probe!("wrmsr", in("ecx") 0x1b, in("eax") 0, in("edx") 0);
        row("wrmsr", None, "runs ");
        probe!("lgdt [{store}]", store = in(reg) &Store([0; 16]));
        row("lgdt", None, "runs ");
        probe!("invlpg [{page}]", page = in(reg) 0_u64);
        row("invlpg", None, "runs ");
        probe!("in al, 0x80", out("al") _);
        row("in al, 0x80", None, "runs ");
        probe!("out 0x80, al", in("al") 0_u8);
        row("out 0x80, al", None, "runs ");
    }
}

fn lying() {
    let (before, after): (u64, u64);
    // SAFETY: flags are popped as they were, but for the interrupt flag, which does not change.
    unsafe {
        probe!(
            "pushfq
             pop {before}
             mov {after}, {before}
             btr {after}, 9
             push {after}
             popfq
             pushfq
             pop {after}",
            before = out(reg) before,
            after = out(reg) after
        );
    }
    let verdict = match (before ^ after) >> 9 & 1 {
        0 => "lies: the interrupt flag stays",
        _ => "runs: the interrupt flag goes",
    };
    row("popf", Some(after >> 9 & 1), verdict);
    let value: u64;
    // SAFETY: reads a selector.
    unsafe { probe!("mov {value:r}, cs", value = out(reg) value) };
    row("mov rax, cs", Some(value & 0xffff), "tells");
    let value: u64;
    // SAFETY: reads a descriptor's limit.
    unsafe { probe!("lsl {value:r}, {cs:r}", cs = in(reg) value_of_cs(), value = out(reg) value) };
    row("lsl", Some(value), "tells");
}

fn value_of_cs() -> u64 {
    ringside_abi::layout::selector::USER_CODE.into()
}

/// What UMIP is about: stores of system registers, which need no privilege without it.
fn stores() {
    let mut store = Store([0; 16]);
    // SAFETY: each writes at most ten bytes to `store` or a register.
    unsafe {
        probe!("sgdt [{store}]", store = in(reg) &mut store);
        row("sgdt", Some(store.base()), "tells");
        probe!("sidt [{store}]", store = in(reg) &mut store);
        row("sidt", Some(store.base()), "tells");
        let mut value: u64;
        probe!("sldt {value:r}", value = inout(reg) 0_u64 => value);
        row("sldt", Some(value & 0xffff), "tells");
        probe!("smsw {value:r}", value = inout(reg) 0_u64 => value);
        row("smsw", Some(value & 0xffff), "tells");
        probe!("str {value:r}", value = inout(reg) 0_u64 => value);
        row("str", Some(value & 0xffff), "tells");
    }
}

fn main(_: &[&str]) -> u8 {
    println!("privileged: the guest's kernel gets them");
    privileged();
    println!("sensitive, and not privileged: nobody gets them");
    lying();
    stores();
    println!("the hypervisor's to decide, in any ring");
    let (maximum, stamp): (u64, u64);
    // SAFETY: reads facts about the processor; rbx is kept by hand.
    unsafe {
        probe!("mov {kept}, rbx
                cpuid
                mov rbx, {kept}", kept = out(reg) _, inout("rax") 0_u64 => maximum, out("rcx") _, out("rdx") _);
    }
    row(
        "cpuid",
        Some(maximum),
        "exits to KVM, whose answer is the VMM's",
    );
    // SAFETY: reads a counter.
    unsafe { probe!("rdtsc", out("rax") stamp, out("rdx") _) };
    row(
        "rdtsc",
        Some((stamp != 0).into()),
        "runs, unless the hypervisor minds",
    );
    // SAFETY: the bit concerns only what `stores` tries.
    match unsafe { ring0::call_with(try_umip, 0, 0) } {
        0 => {
            println!("with UMIP, the stores");
            stores();
            // SAFETY: as it was.
            unsafe { ring0::call_with(change_cr4, 0, UMIP) };
        }
        _ => println!("no UMIP here: setting CR4.UMIP is exception 13"),
    }
    0
}

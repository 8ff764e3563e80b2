//! What a guest was doing when it came to a bad end: registers, code bytes, disassembly, stack, and
//! how the page tables translate RIP and RSP.

use super::Exit;
use super::log::{code_at, read_virtual};
use crate::memory::{GuestMemory, Gva};
use crate::paging::{Access, ControlRegisters, Paging, Processor, Walk};
use crate::sys::vcpu::Vcpu;
use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
use kvm_bindings::{kvm_regs, kvm_sregs};
use std::fmt;

/// A guest's state at its end.
#[derive(Clone, Debug)]
pub struct Report {
    /// General registers.
    pub registers: kvm_regs,
    /// System registers.
    pub system: kvm_sregs,
    /// The bytes at RIP, as many as could be read.
    pub code: Vec<u8>,
    /// The instruction at RIP, if the bytes are one. After an access to a port or to memory that
    /// is not there, KVM may have stepped over it already.
    pub instruction: Option<String>,
    /// The words at RSP and above, as many as could be read.
    pub stack: Vec<u64>,
    /// How the guest's tables translate RIP (a fetch) and RSP (a read); `None` without paging.
    pub walks: Option<[Walk; 2]>,
    /// Whether RIP alone is from where the trouble was, and the rest from the guest's own handler,
    /// which reported it.
    pub in_handler: bool,
}

/// How many words of the stack are shown.
const STACK_WORDS: u64 = 8;

/// RIP and the base of the code segment after a reset (SDM vol. 3A, table 11-1).
const RESET_VECTOR: (u64, u64) = (0xfff0, 0xffff_0000);

impl Report {
    /// Looks at a stopped vCPU. `rip` is where the trouble is, if not where the vCPU stands now (a
    /// guest that reported an exception stands in its handler).
    pub fn capture(
        vcpu: &Vcpu,
        memory: &GuestMemory,
        exit: Exit,
        rip: Option<u64>,
    ) -> Option<Report> {
        let mut registers = vcpu.registers().ok()?;
        let system = vcpu.system_registers().ok()?;
        let in_handler = rip.is_some();
        registers.rip = rip.unwrap_or(registers.rip);
        let paging = paging_of(&system);
        let code = match (exit, &paging) {
            // KVM fetched the instruction before it gave up on it.
            (Exit::InternalError { bytes, len, .. }, _) if len > 0 => {
                bytes[..usize::from(len)].to_vec()
            }
            (_, Some(paging)) => code_at(paging, memory, registers.rip),
            (_, None) => Vec::new(),
        };
        let stack = paging.as_ref().map_or_else(Vec::new, |paging| {
            let bytes = read_virtual(paging, memory, registers.rsp, 8 * STACK_WORDS);
            let (words, _) = bytes.as_chunks();
            words.iter().copied().map(u64::from_le_bytes).collect()
        });
        let walk =
            |paging: &Paging, address, access| paging.walk(memory.inner(), Gva(address), access);
        Some(Report {
            instruction: disassemble(&code, registers.rip, system.cs.l != 0),
            walks: paging.map(|paging| {
                [
                    walk(&paging, registers.rip, Access::FETCH),
                    walk(&paging, registers.rsp, Access::READ),
                ]
            }),
            registers,
            system,
            code,
            stack,
            in_handler,
        })
    }

    /// Whether these are the registers of a processor that was reset: AMD's manual leaves a processor's
    /// state undefined after a triple fault (vol. 2, 15.14.3), and there KVM resets it before it
    /// says so. What the guest did last is in a [`TrapLog`](super::TrapLog) only.
    pub fn is_of_reset(&self) -> bool {
        (self.registers.rip, self.system.cs.base) == RESET_VECTOR
    }

    /// The privilege level the guest ran at: 0 for its kernel, 3 for its programs; `None` if only
    /// its handler's is known.
    pub fn ring(&self) -> Option<u16> {
        (!self.in_handler).then_some(self.system.cs.selector & 3)
    }
}

/// Paging as a vCPU's registers set it up; `None` outside long mode.
pub fn paging_of(system: &kvm_sregs) -> Option<Paging> {
    let registers = ControlRegisters {
        cr0: system.cr0,
        cr3: system.cr3,
        cr4: system.cr4,
        efer: system.efer,
    };
    Paging::from_registers(registers, Processor::default()).ok()
}

/// The general registers, `rip` and `rflags` with their names, in the order of `struct kvm_regs`.
pub fn named_registers(registers: &kvm_regs) -> [(&'static str, u64); 18] {
    let r = registers;
    [
        ("rax", r.rax),
        ("rbx", r.rbx),
        ("rcx", r.rcx),
        ("rdx", r.rdx),
        ("rsi", r.rsi),
        ("rdi", r.rdi),
        ("rsp", r.rsp),
        ("rbp", r.rbp),
        ("r8", r.r8),
        ("r9", r.r9),
        ("r10", r.r10),
        ("r11", r.r11),
        ("r12", r.r12),
        ("r13", r.r13),
        ("r14", r.r14),
        ("r15", r.r15),
        ("rip", r.rip),
        ("rflags", r.rflags),
    ]
}

/// The first instruction in `code`, in Intel's notation; `None` if the bytes are none.
pub fn disassemble(code: &[u8], rip: u64, long_mode: bool) -> Option<String> {
    let bits = if long_mode { 64 } else { 16 };
    let mut decoder = Decoder::with_ip(bits, code, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return None;
    }
    let mut text = String::new();
    NasmFormatter::new().format(&instruction, &mut text);
    Some(text)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.registers;
        let s = &self.system;
        let whose = match self.ring() {
            Some(ring) => format!("ring {ring}"),
            None => "(other registers are the handler's)".to_owned(),
        };
        if self.is_of_reset() {
            writeln!(
                f,
                "  KVM has reset the processor meanwhile, as it does on AMD-V: nothing here is the guest's any more (--trace shows its last exits)"
            )?;
        }
        let instruction = self.instruction.as_deref();
        let instruction = instruction.unwrap_or("(no valid instruction)");
        writeln!(f, "  rip {:#018x}  {whose}  {instruction}", r.rip)?;
        write!(f, "  code")?;
        for byte in &self.code {
            write!(f, " {byte:02x}")?;
        }
        if self.code.is_empty() {
            write!(f, " not readable: no memory is there")?;
        }
        writeln!(f)?;
        let general = &named_registers(r)[..16];
        let control = [
            ("cr0", s.cr0),
            ("cr2", s.cr2),
            ("cr3", s.cr3),
            ("cr4", s.cr4),
        ];
        for row in general.chunks(4).chain([&control[..]]) {
            for (name, value) in row {
                write!(f, "  {name:<3} {value:#018x}")?;
            }
            writeln!(f)?;
        }
        let (rflags, efer) = (r.rflags, s.efer);
        let (cs, ss) = (s.cs.selector, s.ss.selector);
        write!(
            f,
            "  rflags {rflags:#x}  efer {efer:#x}  cs {cs:#x}  ss {ss:#x}"
        )?;
        for (index, word) in self.stack.iter().enumerate() {
            let lead = if index % 4 == 0 { "\n  stack" } else { "" };
            write!(f, "{lead} {word:#018x}")?;
        }
        for walk in self.walks.iter().flatten() {
            write!(f, "\n\n{}", walk.to_string().trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_named_and_junk_is_not() {
        assert_eq!(disassemble(&[0xf4], 0, true).as_deref(), Some("hlt"));
        let pxor = [0x66, 0x0f, 0xef, 0xc0];
        assert_eq!(
            disassemble(&pxor, 0, true).as_deref(),
            Some("pxor xmm0,xmm0")
        );
        assert_eq!(disassemble(&[], 0, true), None);
        assert_eq!(disassemble(&[0x0f, 0xff], 0, true), None);
        assert_eq!(disassemble(&[0xe8, 0, 0], 0, true), None, "cut short");
    }
}

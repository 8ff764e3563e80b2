//! What a guest was doing when it came to a bad end: registers, code bytes, disassembly.

use super::Exit;
use crate::memory::{GuestMemory, Gva};
use crate::sys::vcpu::Vcpu;
use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
use kvm_bindings::{kvm_regs, kvm_sregs};
use std::fmt;

/// The longest x86 instruction, bytes.
const INSTRUCTION_MAX: usize = 15;

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
    /// Whether RIP alone is from where the trouble was, and the rest from the guest's own handler,
    /// which reported it.
    pub in_handler: bool,
}

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
        let code = match exit {
            // KVM fetched the instruction before it gave up on it.
            Exit::InternalError { bytes, len, .. } if len > 0 => bytes[..usize::from(len)].to_vec(),
            _ => code_at(vcpu, memory, registers.rip),
        };
        let instruction = disassemble(&code, registers.rip, system.cs.l != 0);
        Some(Report {
            registers,
            system,
            code,
            instruction,
            in_handler,
        })
    }

    /// The privilege level the guest ran at: 0 for its kernel, 3 for its programs; `None` if only
    /// its handler's is known.
    pub fn ring(&self) -> Option<u16> {
        (!self.in_handler).then_some(self.system.cs.selector & 3)
    }
}

/// The bytes of code from a guest-virtual address on: up to one instruction's, fewer where the next
/// page is not mapped.
fn code_at(vcpu: &Vcpu, memory: &GuestMemory, rip: u64) -> Vec<u8> {
    let mut code = Vec::with_capacity(INSTRUCTION_MAX);
    for offset in 0..INSTRUCTION_MAX as u64 {
        let mut byte = [0];
        let address = rip
            .checked_add(offset)
            .and_then(|address| vcpu.translate(Gva(address)));
        match address {
            Some(address) if memory.read(address, &mut byte).is_ok() => code.push(byte[0]),
            _ => break,
        }
    }
    code
}

/// The first instruction in `code`, in Intel's notation; `None` if the bytes are none.
pub fn disassemble(code: &[u8], rip: u64, long_mode: bool) -> Option<String> {
    let mut decoder = Decoder::with_ip(
        if long_mode { 64 } else { 16 },
        code,
        rip,
        DecoderOptions::NONE,
    );
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
        writeln!(
            f,
            "  rip {:#018x}  {whose}  {}",
            r.rip,
            self.instruction
                .as_deref()
                .unwrap_or("(no valid instruction)")
        )?;
        write!(f, "  code")?;
        for byte in &self.code {
            write!(f, " {byte:02x}")?;
        }
        if self.code.is_empty() {
            write!(f, " not readable: nothing is mapped there")?;
        }
        writeln!(f)?;
        for row in [
            [
                ("rax", r.rax),
                ("rbx", r.rbx),
                ("rcx", r.rcx),
                ("rdx", r.rdx),
            ],
            [
                ("rsi", r.rsi),
                ("rdi", r.rdi),
                ("rsp", r.rsp),
                ("rbp", r.rbp),
            ],
            [("r8 ", r.r8), ("r9 ", r.r9), ("r10", r.r10), ("r11", r.r11)],
            [
                ("r12", r.r12),
                ("r13", r.r13),
                ("r14", r.r14),
                ("r15", r.r15),
            ],
            [
                ("cr0", s.cr0),
                ("cr2", s.cr2),
                ("cr3", s.cr3),
                ("cr4", s.cr4),
            ],
        ] {
            for (name, value) in row {
                write!(f, "  {name} {value:#018x}")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "  rflags {:#x}  efer {:#x}  cs {:#x}  ss {:#x}",
            r.rflags, s.efer, s.cs.selector, s.ss.selector
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_named_and_junk_is_not() {
        assert_eq!(disassemble(&[0xf4], 0, true).as_deref(), Some("hlt"));
        assert_eq!(
            disassemble(&[0x66, 0x0f, 0xef, 0xc0], 0, true).as_deref(),
            Some("pxor xmm0,xmm0")
        );
        assert_eq!(disassemble(&[], 0, true), None);
        assert_eq!(disassemble(&[0x0f, 0xff], 0, true), None);
        assert_eq!(disassemble(&[0xe8, 0, 0], 0, true), None, "cut short");
    }
}

//! The last exits of a guest, kept in a ring of fixed size: "it hangs and prints nothing" is no
//! longer all that can be said.

use super::{Exit, Observer, Reply, disassemble};
use crate::memory::{GuestMemory, Gva};
use crate::paging::{Access, Paging};
use kvm_bindings::kvm_regs;
use std::collections::VecDeque;

/// One exit as it was.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number in the guest's life, from 1.
    pub number: u64,
    /// The exit.
    pub exit: Exit,
    /// What dispatch decided; `None` while it still decides.
    pub reply: Option<Reply>,
    /// The registers that came with it.
    pub registers: kvm_regs,
}

/// A bounded log of exits.
#[derive(Clone, Debug)]
pub struct TrapLog {
    capacity: usize,
    entries: VecDeque<Entry>,
    seen: u64,
}

impl TrapLog {
    /// An empty log that keeps the last `capacity` exits.
    pub fn new(capacity: usize) -> TrapLog {
        TrapLog {
            capacity,
            entries: VecDeque::new(),
            seen: 0,
        }
    }

    /// What was kept, the oldest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many exits there were, kept or not.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

impl Observer for TrapLog {
    const WANTS_REGISTERS: bool = true;

    fn exited(&mut self, exit: Exit, registers: &kvm_regs, _: &GuestMemory) {
        self.seen += 1;
        if self.capacity == 0 {
            return;
        }
        if self.entries.len() == self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            number: self.seen,
            exit,
            reply: None,
            registers: *registers,
        });
    }

    fn handled(&mut self, _: Exit, reply: Reply, _: &GuestMemory) {
        if let Some(entry) = self.entries.back_mut() {
            entry.reply = Some(reply);
        }
    }
}

/// The instruction that exited, as memory holds it now; `None` where it cannot be read.
///
/// For a port access, some processors leave RIP at the instruction and others behind it, so both
/// places are looked at: an `in` or `out` is known by its opcode.
pub fn trapped_instruction(
    entry: &Entry,
    paging: &Paging,
    memory: &GuestMemory,
) -> Option<(u64, String)> {
    let rip = entry.registers.rip;
    let places: &[u64] = match entry.exit {
        Exit::IoIn { .. } | Exit::IoOut { .. } | Exit::IoString { .. } => &[0, 1, 2, 3],
        Exit::Hlt => &[0, 1],
        _ => &[0],
    };
    places.iter().find_map(|&back| {
        let at = rip.checked_sub(back)?;
        let code = code_at(paging, memory, at);
        let text = disassemble(&code, at, true)?;
        let mnemonic = text.split_ascii_whitespace().find(|word| *word != "rep")?;
        let fits = match entry.exit {
            Exit::IoIn { .. } => matches!(mnemonic, "in" | "insb" | "insw" | "insd"),
            Exit::IoOut { .. } => matches!(mnemonic, "out" | "outsb" | "outsw" | "outsd"),
            Exit::IoString { .. } => mnemonic.starts_with("ins") || mnemonic.starts_with("outs"),
            Exit::Hlt => mnemonic == "hlt",
            _ => true,
        };
        fits.then_some((at, text))
    })
}

/// The bytes of code at a guest-virtual address: one instruction's at most, fewer where the next
/// page is not mapped.
pub(super) fn code_at(paging: &Paging, memory: &GuestMemory, at: u64) -> Vec<u8> {
    /// The longest x86 instruction.
    const INSTRUCTION_MAX: u64 = 15;
    read_virtual(paging, memory, at, INSTRUCTION_MAX)
}

/// What of `bytes` from a guest-virtual address on can be read, up to the first byte that cannot.
pub(super) fn read_virtual(paging: &Paging, memory: &GuestMemory, at: u64, bytes: u64) -> Vec<u8> {
    let byte = |offset| {
        let address = Gva(at.checked_add(offset)?);
        let walk = paging.walk(memory.inner(), address, Access::READ);
        let mut byte = [0];
        memory.read(walk.outcome.ok()?.gpa, &mut byte).ok()?;
        Some(byte[0])
    };
    (0..bytes).map_while(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trap::Width;

    #[test]
    fn the_last_exits_are_kept_with_their_numbers() {
        let memory = GuestMemory::new(4096).unwrap();
        let mut log = TrapLog::new(3);
        for port in 0..5 {
            let exit = Exit::IoIn {
                port,
                width: Width::Byte,
            };
            let registers = kvm_regs {
                rip: port.into(),
                ..Default::default()
            };
            log.exited(exit, &registers, &memory);
            log.handled(exit, Reply::Value(7), &memory);
        }
        let kept: Vec<(u64, u64)> = log.entries().map(|e| (e.number, e.registers.rip)).collect();
        assert_eq!(kept, [(3, 2), (4, 3), (5, 4)]);
        assert_eq!(log.seen(), 5);
        assert!(log.entries().all(|e| e.reply == Some(Reply::Value(7))));
    }

    #[test]
    fn a_log_of_nothing_counts_all_the_same() {
        let memory = GuestMemory::new(4096).unwrap();
        let mut log = TrapLog::new(0);
        log.exited(Exit::Hlt, &kvm_regs::default(), &memory);
        log.handled(Exit::Hlt, Reply::Resume, &memory);
        assert_eq!((log.entries().len(), log.seen()), (0, 1));
    }
}

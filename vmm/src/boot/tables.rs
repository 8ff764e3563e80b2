//! The descriptor tables that the processor consults on every trap, as the VMM leaves them in a bare
//! guest's memory (SDM vol. 3A: 3.4.5 segments, 6.14.1 gates, 7.7 and 18.5.2 the task state).

use ringside_abi::layout::{self, selector};
use ringside_abi::port::OPEN_TO_RING3;

/// Descriptors before the first processor's task state.
const GDT_FIXED: usize = selector::TASK as usize / 8;

/// The global descriptor table's limit: its last valid byte.
pub(crate) const fn gdt_limit(processors: u32) -> u16 {
    selector::task(processors) - 1
}

/// The global descriptor table, each descriptor at its selector: flat 64-bit code and flat data for
/// rings 0 and 3, and each processor's task state.
pub(super) fn global_descriptors(processors: u32) -> Vec<u64> {
    let mut table = vec![0; GDT_FIXED + 2 * processors as usize];
    table[usize::from(selector::KERNEL_CODE >> 3)] = 0x00af_9b00_0000_ffff;
    table[usize::from(selector::KERNEL_DATA >> 3)] = 0x00cf_9300_0000_ffff;
    table[usize::from(selector::USER_DATA >> 3)] = 0x00cf_f300_0000_ffff;
    table[usize::from(selector::USER_CODE >> 3)] = 0x00af_fb00_0000_ffff;
    for index in 0..processors {
        let task = usize::from(selector::task(index) >> 3);
        let (limit, base) = (u64::from(TASK_LIMIT), layout::task_state(index));
        // base 23:0 at bit 16, base 31:24 at bit 56, present, type 9 (available 64-bit task state)
        table[task] = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        table[task + 1] = base >> 32;
    }
    table
}

/// The interrupt descriptor table: gate `n` leads to the `n`-th stub of the program's vector page,
/// on the trap stack (where ring 0 already runs there, on top of what it does).
pub(super) fn interrupt_gates() -> [u64; 512] {
    let mut table = [0; 512];
    for vector in 0..256_u64 {
        let handler = layout::IMAGE + vector * layout::VECTOR_STRIDE;
        // Ring 3 may raise breakpoint, overflow and system call by instruction.
        let privilege = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        // Non-maskable interrupt, double fault and machine check come whatever the stack is like.
        let ist = u64::from(matches!(vector, 2 | 8 | 18));
        let (interrupt_gate, present) = (14, 1);
        table[2 * vector as usize] = (handler & 0xffff)
            | u64::from(selector::KERNEL_CODE) << 16
            | ist << 32
            | interrupt_gate << 40
            | privilege << 45
            | present << 47
            | (handler >> 16 & 0xffff) << 48;
        table[2 * vector as usize + 1] = handler >> 32;
    }
    table
}

/// Bytes of a 64-bit task-state segment, after which its I/O bitmap comes.
const TASK_BYTES: usize = 104;

/// Bytes of the bitmap: a bit for each port up to the last open one. Ports beyond its end are
/// closed; the processor wants one more byte behind it, all ones.
const BITMAP_BYTES: usize = {
    let mut end = 0;
    let mut index = 0;
    while index < OPEN_TO_RING3.len() {
        let (first, count) = OPEN_TO_RING3[index];
        if first + count > end {
            end = first + count;
        }
        index += 1;
    }
    (end as usize).div_ceil(8)
};

/// The task-state segment's limit: its last valid byte.
pub(crate) const TASK_LIMIT: u32 = (TASK_BYTES + BITMAP_BYTES) as u32;

/// Processor `index`'s task-state segment: its trap stack, and the bitmap of the ports that ring 3 may use.
///
/// The bitmap and not IOPL: software KVM drops IOPL on the way to ring 3.
pub(super) fn task_state(index: u32) -> [u8; TASK_BYTES + BITMAP_BYTES + 1] {
    let mut segment = [0; TASK_BYTES + BITMAP_BYTES + 1];
    for stack in [4, 36] {
        // rsp0, and the interrupt stack table's first entry
        segment[stack..stack + 8].copy_from_slice(&layout::trap_stack_top(index).to_le_bytes());
    }
    segment[102..104].copy_from_slice(&(TASK_BYTES as u16).to_le_bytes());
    let bitmap = &mut segment[TASK_BYTES..];
    bitmap.fill(0xff);
    for (first, count) in OPEN_TO_RING3 {
        for port in first..first + count {
            bitmap[usize::from(port / 8)] &= !(1 << (port % 8));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_leads_to_its_stub_on_the_trap_stack() {
        let gates = interrupt_gates();
        let handler = |vector: usize| {
            gates[2 * vector] & 0xffff | gates[2 * vector] >> 48 << 16 | gates[2 * vector + 1] << 32
        };
        assert_eq!(handler(0), layout::IMAGE);
        assert_eq!(handler(14), layout::IMAGE + 14 * 16);
        assert_eq!(
            gates[2 * 0x80] >> 40 & 0xff,
            0xee,
            "present, ring 3, interrupt gate"
        );
        assert_eq!(
            gates[2 * 14] >> 40 & 0xff,
            0x8e,
            "present, ring 0, interrupt gate"
        );
        assert_eq!((gates[2 * 14] >> 32 & 7, gates[2 * 8] >> 32 & 7), (0, 1));
    }

    #[test]
    fn only_the_open_ports_are_open() {
        let segment = task_state(0);
        let bitmap = &segment[TASK_BYTES..];
        let open = |port: usize| {
            bitmap
                .get(port / 8)
                .is_some_and(|byte| byte >> (port % 8) & 1 == 0)
        };
        for port in 0..0x1_0000 {
            let expected = OPEN_TO_RING3
                .iter()
                .any(|&(first, count)| (first..first + count).contains(&(port as u16)));
            assert_eq!(open(port), expected, "port {port:#x}");
        }
        assert!(
            TASK_LIMIT as usize + 1 == segment.len() && segment.len() as u64 <= layout::TSS_STRIDE
        );
    }
}

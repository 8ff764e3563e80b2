//! Where things are in a bare guest's memory.
//!
//! Guest-virtual and guest-physical addresses are equal everywhere but in the demand zone. Rights
//! are what the VMM's first page tables say; a guest may change them.
//!
//! ```text
//!  guest-physical                                          ring 0   ring 3
//!  0x0000_0000  nothing: a null pointer faults               –        –
//!  0x0000_1000  GDT         (1 page)                         r w      –
//!  0x0000_2000  IDT         (1 page, 256 gates)              r w      –
//!  0x0000_3000  TSS and its I/O bitmap, one a processor      r w      –
//!  0x0000_4000  trap stack, grows down from 0x8000           r w      –
//!  0x0000_8000  boot information (1 page)                    r        r
//!  0x0000_9000  trap stacks of further processors (1 page each, up to 0x1_0000)
//!                                                            r w      –
//!  0x0001_0000  page tables  … 0x0010_0000                   r w      –
//!  0x0010_0000  ring-3 stacks … 0x0020_0000, guards below    r w      r w
//!  0x0020_0000  program image (its own segments' rights)     …        …
//!     …         heap: the rest up to the demand frames       r w      r w
//!     …         demand frames: mapped only on first touch    –        –
//!  end of memory
//!     …
//!  0x8_0000_0000  registers of a virtio console, if asked for r w      r w
//!
//!  guest-virtual only
//!  0x40_0000_0000  demand zone: its first touch is a page fault that ring 0
//!                  answers by mapping the demand frame at the same offset
//! ```

/// Bytes in a small page.
pub const PAGE: u64 = 4096;
/// Bytes in a large page, the largest that software KVM offers its guests.
pub const LARGE_PAGE: u64 = 2 << 20;

/// The global descriptor table.
pub const GDT: u64 = 0x1000;
/// The interrupt descriptor table.
pub const IDT: u64 = 0x2000;
/// The first processor's task-state segment; its I/O permission bitmap follows it.
pub const TSS: u64 = 0x3000;
/// From one processor's task-state segment to the next one's.
pub const TSS_STRIDE: u64 = 0x200;
/// Top of the stack on which the first processor's traps run.
pub const TRAP_STACK_TOP: u64 = 0x8000;
/// The most processors that a bare guest has.
pub const PROCESSORS_MAX: u32 = 8;
/// The [`BootInfo`](crate::boot_info::BootInfo) page.
pub const BOOT_INFO: u64 = 0x8000;
/// First page table; the tables of the demand zone's last level are contiguous.
pub const TABLES: u64 = 0x1_0000;
/// End of the room for page tables.
pub const TABLES_END: u64 = 0x10_0000;
/// Lowest address of the ring-3 stack of a machine with one processor; the page below it is not
/// mapped.
pub const STACK: u64 = 0x10_1000;
/// Top of the first processor's ring-3 stack.
pub const STACK_TOP: u64 = 0x20_0000;
/// From the top of one processor's ring-3 stack to the next one's, where there are several.
pub const STACK_STRIDE: u64 = 0x2_0000;
/// Where a program's image begins: its page of trap vectors.
pub const IMAGE: u64 = 0x20_0000;
/// Guest-virtual start of the demand zone.
pub const DEMAND_ZONE: u64 = 0x40_0000_0000;
/// The largest demand zone: what its page tables have room for.
pub const DEMAND_MAX_BYTES: u64 = 256 << 20;
/// The registers of a virtio console: beyond all memory, on a page of their own.
pub const CONSOLE: u64 = 32 << 30;
/// The least memory that a bare guest can be given.
pub const MEMORY_MIN_BYTES: u64 = 8 << 20;

/// Bytes from one trap vector's entry code to the next, from [`IMAGE`] on.
pub const VECTOR_STRIDE: u64 = 16;

/// Where processor `index` has its task-state segment.
pub const fn task_state(index: u32) -> u64 {
    TSS + index as u64 * TSS_STRIDE
}

/// Top of the stack on which the traps of processor `index` run.
pub const fn trap_stack_top(index: u32) -> u64 {
    match index {
        0 => TRAP_STACK_TOP,
        index => BOOT_INFO + PAGE + index as u64 * PAGE,
    }
}

/// Top of the ring-3 stack of processor `index`.
pub const fn stack_top(index: u32) -> u64 {
    STACK_TOP - index as u64 * STACK_STRIDE
}

const _: () = assert!(trap_stack_top(PROCESSORS_MAX - 1) == TABLES);
const _: () = assert!(stack_top(PROCESSORS_MAX) == STACK - PAGE);
const _: () = assert!(task_state(PROCESSORS_MAX) == 0x4000);

/// Segment selectors, as Linux has them: software KVM knows no others.
pub mod selector {
    /// Ring-0 code.
    pub const KERNEL_CODE: u16 = 0x10;
    /// Ring-0 data.
    pub const KERNEL_DATA: u16 = 0x18;
    /// Ring-3 data, with its requested privilege level.
    pub const USER_DATA: u16 = 0x2b;
    /// Ring-3 code, with its requested privilege level.
    pub const USER_CODE: u16 = 0x33;
    /// The first processor's task-state segment (two slots); the others' follow.
    pub const TASK: u16 = 0x40;

    /// The task-state segment of processor `index`.
    pub const fn task(index: u32) -> u16 {
        TASK + 16 * index as u16
    }
}

/// An ELF segment that only ring 0 may touch has this operating-system-specific flag (`PF_MASKOS`).
pub const SEGMENT_RING0: u32 = 0x0010_0000;

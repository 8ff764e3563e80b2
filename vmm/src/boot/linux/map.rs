//! Where things are when Linux begins. Whatever it finds below 1 MiB is ours to place; from its
//! first instructions on it builds tables of its own and keeps of ours only what the memory map
//! says it must.
//!
//! ```text
//!  0x0000_0500 ┌───────────────────────┐ GDT: four descriptors
//!  0x0000_7000 ├───────────────────────┤ ZERO_PAGE: struct boot_params
//!  0x0000_8000 ├───────────────────────┤ START_INFO: struct hvm_start_info, its modules and memory map
//!  0x0000_9000 ├───────────────────────┤ TABLES: page tables, guest-virtual = guest-physical
//!  0x0002_0000 ├───────────────────────┤ COMMAND_LINE
//!  0x0009_fc00 ├───────────────────────┤ MP_POINTER: Linux looks for it in the last KiB below 640 KiB
//!  0x000e_0000 ├───────────────────────┤ ACPI: RSDP first, then the tables
//!  0x000f_8000 ├───────────────────────┤ MP_TABLE
//!  0x0010_0000 ├───────────────────────┤ KERNEL_MIN
//!  0x0100_0000 │ the kernel, where its │
//!              │ ELF headers want it   │
//!              ├───────────────────────┤
//!              │ initramfs, page-      │
//!              │ aligned, at the end   │
//!              │ of low memory         │
//!              └───────────────────────┘
//! ```

use crate::memory::Gpa;

/// The first descriptor table: null, null, 64-bit or 32-bit code at 0x10, data at 0x18.
pub const GDT: Gpa = Gpa(0x500);
/// `struct boot_params` (the kernel's `Documentation/arch/x86/zero-page.rst`).
pub const ZERO_PAGE: Gpa = Gpa(0x7000);
/// `struct hvm_start_info` (Xen's `docs/misc/pvh.pandoc`).
pub const START_INFO: Gpa = Gpa(0x8000);
/// The first page tables.
pub const TABLES: Gpa = Gpa(0x9000);
/// Their end: a root, a table of 1 GiB entries and one of 2 MiB entries.
pub const TABLES_END: Gpa = Gpa(0xc000);
/// The command line, with its NUL.
pub const COMMAND_LINE: Gpa = Gpa(0x2_0000);
/// Where usable memory below 1 MiB ends, and the MP table's floating pointer is.
pub const MP_POINTER: Gpa = Gpa(0x9_fc00);
/// ACPI's root pointer, and behind it the tables.
pub const ACPI: Gpa = Gpa(0xe_0000);
/// Their end.
pub const ACPI_END: Gpa = Gpa(0xf_8000);
/// The MP configuration table.
pub const MP_TABLE: Gpa = Gpa(0xf_8000);
/// Where usable memory goes on; no kernel is loaded lower.
pub const KERNEL_MIN: Gpa = Gpa(0x10_0000);
/// No kernel ends higher: so far the first page tables reach.
pub const KERNEL_MAX: Gpa = Gpa(1 << 30);

//! Linux: from a kernel's file to its first instruction, as boot loader and firmware would do it.
//!
//! A `vmlinuz` is a small program that decompresses the kernel and jumps into it. Here the host does
//! both, so that no guest instruction is spent on it (`Documentation/arch/x86/boot.rst`, the 64-bit
//! protocol):
//!
//! ```text
//!   vmlinuz ──▶ [`Kernel`]: header, payload ──▶ decompressed once, kept in the [`KernelCache`]
//!                                                      │
//!   guest memory  ◀── mapped copy-on-write ────────────┴──── vmlinux: ELF segments
//!   initramfs     ──▶ mapped copy-on-write, high
//!   zero page, command line, memory map, ACPI and MP tables ──▶ written below 1 MiB
//! ```
//!
//! Files that are mapped must not change while the guest runs: what would be shown to the guest
//! then is undefined, and a file that is cut short ends the machine.

mod acpi;
mod cache;
mod kernel;
pub mod map;
mod mp_table;
mod payload;
mod platform;
mod start_info;
#[cfg(test)]
mod tests;
mod zero_page;

pub use acpi::{POWER, SLEEP_S5};
pub use cache::{KernelCache, UnpackError};
pub use kernel::{Kernel, KernelError, Segment};
pub use payload::{Compression, PayloadError};
pub use platform::{PC_LINES, Platform, VIRTIO_WINDOW, VirtioMmio};

use crate::memory::layout::{HIGH, HOLE};
use crate::memory::{Gpa, GuestMemory, MemoryError, Region};
use crate::paging::{BuildError, Builder, Flags, Levels, PageSize, TablePool};
use std::fs::File;
use std::io;
use thiserror::Error;

/// Why a Linux guest cannot be set up.
#[derive(Debug, Error)]
pub enum LinuxError {
    /// The kernel's file.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Memory that ends before the kernel does.
    #[error(
        "the kernel takes guest-physical {start} to {end}, and low memory ends at {memory_end}; give the guest more memory"
    )]
    TooLittleMemory {
        /// Where the kernel begins.
        start: Gpa,
        /// Where it ends.
        end: Gpa,
        /// Where memory ends.
        memory_end: Gpa,
    },
    /// An initramfs larger than what the kernel leaves free.
    #[error(
        "an initramfs of {bytes} bytes does not fit between the kernel, which ends at guest-physical {kernel_end}, and the end of low memory at {memory_end}; give the guest more memory"
    )]
    Initramfs {
        /// Its length.
        bytes: u64,
        /// Where the kernel ends.
        kernel_end: Gpa,
        /// Where memory ends.
        memory_end: Gpa,
    },
    /// The initramfs's file.
    #[error("cannot read the initramfs: {0}")]
    InitramfsFile(io::Error),
    /// A command line longer than the kernel reads.
    #[error("the kernel's command line has {bytes} bytes, and this kernel reads {max}; shorten it")]
    CommandLine {
        /// Its length.
        bytes: usize,
        /// What the kernel takes.
        max: usize,
    },
    /// A command line with a NUL in it, behind which the kernel would not look.
    #[error("the kernel's command line {line:?} has a NUL byte in it; leave it out")]
    CommandLineNul {
        /// The line.
        line: String,
    },
    /// A kernel without the asked-for entry.
    #[error(
        "the kernel has no PVH entry (an ELF note of type 18 by `Xen`); build it with CONFIG_PVH, or use the 64-bit entry"
    )]
    NoPvh,
    /// The tables that describe the machine.
    #[error(
        "the machine's description takes {bytes} bytes, more than there is room for; give it fewer processors or devices"
    )]
    Tables {
        /// Their length.
        bytes: u64,
    },
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The first page tables.
    #[error("cannot build the first page tables: {0}")]
    PageTables(#[from] BuildError),
}

/// How the kernel is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// In long mode, with `struct boot_params` (the 64-bit boot protocol).
    #[default]
    Linux64,
    /// In 32-bit protected mode without paging, with `struct hvm_start_info` (PVH).
    Pvh,
}

/// The first instruction, and what the registers say there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxEntry {
    /// Long mode; RSI is the zero page.
    Linux64 {
        /// The first instruction.
        rip: u64,
        /// The root page table.
        cr3: u64,
    },
    /// Protected mode; EBX is the start information.
    Pvh {
        /// The first instruction.
        eip: u32,
    },
}

/// What is to be booted, and how.
#[derive(Debug)]
pub struct Boot<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The first file system, if any.
    pub initramfs: Option<&'a File>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// How it is entered.
    pub protocol: Protocol,
}

/// Puts a kernel and all that it wants to find into fresh guest memory.
///
/// # Errors
/// What does not fit, and what cannot be read.
pub fn load(
    memory: &GuestMemory,
    boot: &Boot<'_>,
    platform: &Platform,
) -> Result<LinuxEntry, LinuxError> {
    let kernel = boot.kernel;
    let low = memory.layout().regions()[0];
    let memory_end = match low {
        low if low.start == Gpa(0) && !low.read_only => low.end().min(HOLE),
        _ => Gpa(0),
    };
    if kernel.end() > memory_end {
        return Err(LinuxError::TooLittleMemory {
            start: kernel.start(),
            end: kernel.end(),
            memory_end,
        });
    }
    kernel.load(memory)?;
    let initramfs = match boot.initramfs {
        Some(file) => Some(load_initramfs(memory, file, kernel, memory_end)?),
        None => None,
    };
    load_command_line(memory, boot.command_line, kernel)?;
    acpi::write(memory, platform)?;
    mp_table::write(memory, platform)?;
    let modules = Modules {
        initramfs,
        memory_map: memory_map(memory),
    };
    match boot.protocol {
        Protocol::Linux64 => {
            memory.write_value(map::ZERO_PAGE, zero_page::build(kernel, &modules))?;
            write_gdt(memory, CODE_64)?;
            let pool = TablePool::zeroed(map::TABLES..map::TABLES_END);
            let mut tables = Builder::with_tables(memory.inner(), Levels::Four, pool)?;
            let all = map::KERNEL_MAX.0;
            // 2 MiB pages: hosts with software KVM know no larger ones.
            tables.map(
                crate::memory::Gva(0),
                Gpa(0),
                all,
                PageSize::Mib2,
                Flags::WRITABLE,
            )?;
            Ok(LinuxEntry::Linux64 {
                rip: kernel.entry(),
                cr3: tables.root().0,
            })
        }
        Protocol::Pvh => {
            let eip = kernel.pvh_entry().ok_or(LinuxError::NoPvh)?;
            start_info::write(memory, &modules)?;
            write_gdt(memory, CODE_32)?;
            Ok(LinuxEntry::Pvh { eip })
        }
    }
}

/// Flat 64-bit code; flat 32-bit code; flat data.
const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;

fn write_gdt(memory: &GuestMemory, code: u64) -> Result<(), MemoryError> {
    memory.write_value(map::GDT, [0, 0, code, DATA])
}

/// What is in memory beside the kernel.
struct Modules {
    initramfs: Option<Region>,
    memory_map: Vec<Range>,
}

/// A line of the memory map that firmware would give (ACPI 6.5, 15, "System Address Map").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: Gpa,
    bytes: u64,
    kind: RangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RangeKind {
    Usable = 1,
    Reserved = 2,
    Acpi = 3,
}

fn memory_map(memory: &GuestMemory) -> Vec<Range> {
    let range = |from: Gpa, to: Gpa, kind| Range {
        start: from,
        bytes: to.0 - from.0,
        kind,
    };
    let mut ranges = vec![
        range(Gpa(0), map::MP_POINTER, RangeKind::Usable),
        range(map::MP_POINTER, map::ACPI, RangeKind::Reserved),
        range(map::ACPI, map::ACPI_END, RangeKind::Acpi),
        range(map::MP_TABLE, map::KERNEL_MIN, RangeKind::Reserved),
    ];
    for region in memory.layout().regions() {
        let from = region.start.max(map::KERNEL_MIN);
        if from < region.end() && !region.read_only && (from < HOLE || from >= HIGH) {
            ranges.push(range(from, region.end(), RangeKind::Usable));
        }
    }
    ranges
}

/// Maps the initramfs as high as low memory goes; where it begins, and how long it is.
fn load_initramfs(
    memory: &GuestMemory,
    file: &File,
    kernel: &Kernel,
    memory_end: Gpa,
) -> Result<Region, LinuxError> {
    let bytes = file.metadata().map_err(LinuxError::InitramfsFile)?.len();
    let end = memory_end.0.min(kernel.initramfs_end());
    let start = end.checked_sub(bytes).map(|start| Gpa(start).page());
    let start = start.filter(|start| *start >= kernel.end());
    let start = start.ok_or(LinuxError::Initramfs {
        bytes,
        kernel_end: kernel.end(),
        memory_end,
    })?;
    memory.map_file(start, file, 0, bytes)?;
    Ok(Region::memory(start, bytes))
}

fn load_command_line(memory: &GuestMemory, line: &str, kernel: &Kernel) -> Result<(), LinuxError> {
    let max = kernel.command_line_max();
    if line.len() > max {
        return Err(LinuxError::CommandLine {
            bytes: line.len(),
            max,
        });
    }
    if line.contains('\0') {
        return Err(LinuxError::CommandLineNul {
            line: line.to_owned(),
        });
    }
    // Memory is zeros: the NUL is there.
    Ok(memory.write(map::COMMAND_LINE, line.as_bytes())?)
}

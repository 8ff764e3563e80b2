//! `struct hvm_start_info`: what a kernel that is entered by PVH is told (Xen's
//! `docs/misc/pvh.pandoc`; `include/xen/interface/hvm/start_info.h`).

use super::{LinuxError, Modules, map};
use crate::memory::{Gpa, GuestMemory};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};

const MAGIC: u32 = 0x336e_c578;
/// With a memory map.
const VERSION: u32 = 1;
const MODULES: Gpa = Gpa(map::START_INFO.0 + 0x40);
const MEMORY_MAP: Gpa = Gpa(map::START_INFO.0 + 0x80);

/// Writes the structure, its list of modules and its memory map.
pub(super) fn write(memory: &GuestMemory, modules: &Modules) -> Result<(), LinuxError> {
    if let Some(initramfs) = modules.initramfs {
        let module = hvm_modlist_entry {
            paddr: initramfs.start.0,
            size: initramfs.bytes,
            ..Default::default()
        };
        memory.write_value(MODULES, module)?;
    }
    for (index, range) in (0..).zip(&modules.memory_map) {
        let entry = hvm_memmap_table_entry {
            addr: range.start.0,
            size: range.bytes,
            type_: range.kind as u32,
            reserved: 0,
        };
        let at = MEMORY_MAP.0 + index * size_of::<hvm_memmap_table_entry>() as u64;
        memory.write_value(Gpa(at), entry)?;
    }
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: modules.initramfs.is_some().into(),
        modlist_paddr: MODULES.0,
        cmdline_paddr: map::COMMAND_LINE.0,
        rsdp_paddr: map::ACPI.0,
        memmap_paddr: MEMORY_MAP.0,
        memmap_entries: modules.memory_map.len() as u32,
        ..Default::default()
    };
    Ok(memory.write_value(map::START_INFO, info)?)
}

//! `struct boot_params`, "the zero page": what a boot loader tells a kernel that is entered by the
//! 64-bit protocol (`Documentation/arch/x86/boot.rst` and `zero-page.rst`).

use super::{Kernel, Modules, map};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};

/// "HdrS", by which the kernel knows that what stands there is a header.
pub(super) const HEADER: u32 = 0x5372_6448;
/// Every loader without a number of its own.
const LOADER_UNKNOWN: u8 = 0xff;
const LOADED_HIGH: u8 = 1;

/// The page for this kernel, with its own header where it came with one (a bzImage).
pub(super) fn build(kernel: &Kernel, modules: &Modules) -> boot_params {
    let header = kernel.header().unwrap_or(setup_header {
        boot_flag: 0xaa55,
        header: HEADER,
        version: 0x020f,
        kernel_alignment: 0x100_0000,
        ..Default::default()
    });
    let initramfs = modules.initramfs.map_or((0, 0), |region| {
        // Low memory ends below 4 GiB.
        (region.start.0 as u32, region.bytes as u32)
    });
    let mut page = boot_params {
        acpi_rsdp_addr: map::ACPI.0,
        hdr: setup_header {
            type_of_loader: LOADER_UNKNOWN,
            loadflags: header.loadflags | LOADED_HIGH,
            cmd_line_ptr: map::COMMAND_LINE.0 as u32,
            ramdisk_image: initramfs.0,
            ramdisk_size: initramfs.1,
            // Nothing else follows; a file does not say otherwise.
            setup_data: 0,
            ..header
        },
        e820_entries: modules.memory_map.len() as u8,
        ..Default::default()
    };
    let mut table = page.e820_table;
    for (entry, range) in table.iter_mut().zip(&modules.memory_map) {
        *entry = boot_e820_entry {
            addr: range.start.0,
            size: range.bytes,
            r#type: range.kind as u32,
        };
    }
    page.e820_table = table;
    page
}

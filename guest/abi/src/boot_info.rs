//! The page of facts that the VMM leaves at [`layout::BOOT_INFO`](crate::layout::BOOT_INFO).

/// The longest command line, in bytes.
pub const COMMAND_LINE_MAX: usize = 2048;

/// "RINGSIDE" in ASCII, little-endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"RINGSIDE");

/// Facts about the machine, for the guest. Ring 0's assembly reads it by the byte offsets below.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// Guest-physical memory, bytes.
    pub memory_bytes: u64,
    /// First byte of the heap (2 MiB aligned; mapped with large pages).
    pub heap_start: u64,
    /// One past the heap's last byte.
    pub heap_end: u64,
    /// Length of the demand zone, bytes.
    pub demand_bytes: u64,
    /// Guest-physical address of the first demand frame.
    pub demand_frames: u64,
    /// Guest-physical address of the demand zone's first last-level table; the others follow it, so
    /// that the entry of page `n` is at `demand_tables + 8 n`.
    pub demand_tables: u64,
    /// How many virtual processors the machine has.
    pub processors: u64,
    /// Bytes of `command_line` in use.
    pub command_line_len: u64,
    /// The program's arguments, separated by NUL bytes.
    pub command_line: [u8; COMMAND_LINE_MAX],
}

/// Byte offsets into [`BootInfo`] for assembly.
pub mod offset {
    use super::BootInfo;
    use core::mem::offset_of;
    /// [`BootInfo::demand_bytes`].
    pub const DEMAND_BYTES: usize = offset_of!(BootInfo, demand_bytes);
    /// [`BootInfo::demand_frames`].
    pub const DEMAND_FRAMES: usize = offset_of!(BootInfo, demand_frames);
    /// [`BootInfo::demand_tables`].
    pub const DEMAND_TABLES: usize = offset_of!(BootInfo, demand_tables);
}

const _: () = assert!(
    size_of::<BootInfo>() <= crate::layout::PAGE as usize,
    "one page holds it"
);

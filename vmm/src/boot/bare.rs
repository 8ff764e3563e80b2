//! Setting up a bare guest: everything that a kernel's early assembly would do, done from outside,
//! where an instruction costs nothing (on hosts with software KVM, each of ring 0 costs a
//! microsecond). The map is drawn in [`ringside_abi::layout`].

use super::image::{Image, ImageError};
use super::tables;
pub(crate) use super::tables::{TASK_LIMIT, gdt_limit};
use crate::memory::{Gpa, GuestMemory, Gva, MemoryError};
use crate::paging::{BuildError, Builder, Flags, Levels, PageSize, TablePool};
use ringside_abi::boot_info::{BootInfo, COMMAND_LINE_MAX, MAGIC};
use ringside_abi::layout::{self, LARGE_PAGE, PAGE};
use ringside_abi::needs::Needs;
use std::mem::offset_of;
use thiserror::Error;

/// Why a bare guest cannot be set up.
#[derive(Debug, Error)]
pub enum BootError {
    /// The image.
    #[error("cannot load the program: {0}")]
    Image(#[from] ImageError),
    /// Too little memory, or more than the page tables' room can map.
    #[error("a bare guest cannot have {bytes} bytes of memory; give it a multiple of 2 MiB, from {} to {} MiB", layout::MEMORY_MIN_BYTES >> 20, MEMORY_MAX_BYTES >> 20)]
    Memory {
        /// The size asked for.
        bytes: u64,
    },
    /// A number of processors that there is no room for.
    #[error(
        "a bare guest cannot have {processors} processors; ask for 1 to {}",
        layout::PROCESSORS_MAX
    )]
    Processors {
        /// The number asked for.
        processors: u32,
    },
    /// Arguments longer than the page that they travel in.
    #[error(
        "the program's arguments take {bytes} bytes, and a bare guest has room for {COMMAND_LINE_MAX}; pass fewer or shorter ones"
    )]
    Arguments {
        /// Their length.
        bytes: usize,
    },
    /// An argument that cannot be told from two.
    #[error("argument {argument:?} has a NUL byte in it")]
    Nul {
        /// The argument.
        argument: String,
    },
    /// Guest memory.
    #[error(transparent)]
    Guest(#[from] MemoryError),
    /// The first page tables.
    #[error("cannot build the guest's page tables: {0}")]
    Tables(#[from] BuildError),
}

/// The most memory that a bare guest can have: what the room for page tables can map.
pub const MEMORY_MAX_BYTES: u64 = layout::CONSOLE;

/// Where a loaded guest begins, for who sets the vCPU's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first instruction, in ring 0.
    pub rip: u64,
    /// The root page table.
    pub cr3: u64,
    /// What the program asks of its machine; so many processors were prepared.
    pub needs: Needs,
}

/// Loads a program with its arguments, and everything around it, into fresh guest memory.
///
/// # Errors
/// An image that does not fit, memory of an impossible size, arguments that are too long.
pub fn load(
    memory: &GuestMemory,
    image: &Image<'_>,
    arguments: &[&str],
) -> Result<Entry, BootError> {
    // The map is drawn for one piece from 0 on; what else a layout has, the guest finds by itself.
    let memory_bytes = match memory.layout().regions()[0] {
        low if low.start == Gpa(0) && !low.read_only => low.bytes,
        _ => 0,
    };
    if !(layout::MEMORY_MIN_BYTES..=MEMORY_MAX_BYTES).contains(&memory_bytes)
        || !memory_bytes.is_multiple_of(LARGE_PAGE)
    {
        return Err(BootError::Memory {
            bytes: memory_bytes,
        });
    }
    let processors = image.needs.processors;
    if !(1..=layout::PROCESSORS_MAX).contains(&processors) {
        return Err(BootError::Processors { processors });
    }
    let heap_start = image.end().next_multiple_of(LARGE_PAGE);
    if heap_start > memory_bytes {
        let last = image.segments.last().expect("an image has segments");
        return Err(ImageError::Misplaced {
            start: last.start,
            bytes: last.memory_bytes,
        }
        .into());
    }
    let demand_bytes =
        ((memory_bytes - heap_start) / 2 / LARGE_PAGE * LARGE_PAGE).min(layout::DEMAND_MAX_BYTES);
    let heap_end = memory_bytes - demand_bytes;

    for segment in &image.segments {
        memory.write(Gpa(segment.start), segment.bytes)?;
    }
    memory.write(
        Gpa(layout::GDT),
        &bytes_of(&tables::global_descriptors(processors)),
    )?;
    memory.write(Gpa(layout::IDT), &bytes_of(&tables::interrupt_gates()))?;
    for index in 0..processors {
        memory.write(Gpa(layout::task_state(index)), &tables::task_state(index))?;
    }

    let pool = TablePool::zeroed(Gpa(layout::TABLES)..Gpa(layout::TABLES_END));
    let mut tables = Builder::with_tables(memory.inner(), Levels::Four, pool)?;
    // Guest-virtual = guest-physical, for all but the demand zone.
    let mut map = |start: u64, bytes: u64, flags| {
        tables.map_up_to(Gva(start), Gpa(start), bytes, PageSize::Mib2, flags)
    };
    let supervisor = Flags::WRITABLE | Flags::NO_EXECUTE;
    let user = supervisor | Flags::USER;
    map(
        layout::GDT,
        layout::TRAP_STACK_TOP - layout::GDT,
        supervisor,
    )?;
    map(layout::BOOT_INFO, PAGE, user - Flags::WRITABLE)?;
    map(
        layout::TABLES,
        layout::TABLES_END - layout::TABLES,
        supervisor,
    )?;
    match processors {
        1 => map(layout::STACK, layout::STACK_TOP - layout::STACK, user)?,
        several => {
            let further = PAGE * u64::from(several - 1);
            map(layout::BOOT_INFO + PAGE, further, supervisor)?;
            for index in 0..several {
                let bytes = layout::STACK_STRIDE - PAGE;
                map(layout::stack_top(index) - bytes, bytes, user)?;
            }
        }
    }
    for segment in &image.segments {
        let mut flags = Flags::empty();
        flags.set(Flags::WRITABLE, segment.writable);
        flags.set(Flags::NO_EXECUTE, !segment.executable);
        flags.set(Flags::USER, !segment.ring0_only);
        map(
            segment.start,
            segment.memory_bytes.next_multiple_of(PAGE),
            flags,
        )?;
    }
    map(heap_start, heap_end - heap_start, user)?;
    if image.needs.console {
        map(layout::CONSOLE, PAGE, user)?;
    }
    let demand_tables = tables.reserve(Gva(layout::DEMAND_ZONE), demand_bytes)?.0;
    let root = tables.root();

    let facts = [
        MAGIC,
        memory_bytes,
        heap_start,
        heap_end,
        demand_bytes,
        heap_end,
        demand_tables,
        processors.into(),
    ];
    write_boot_info(memory, facts, arguments)?;
    Ok(Entry {
        rip: image.entry,
        cr3: root.0,
        needs: image.needs,
    })
}

/// Writes the [`BootInfo`] page: its numbers in their order, then the arguments.
fn write_boot_info(
    memory: &GuestMemory,
    facts: [u64; 8],
    arguments: &[&str],
) -> Result<(), BootError> {
    if let Some(argument) = arguments.iter().find(|argument| argument.contains('\0')) {
        return Err(BootError::Nul {
            argument: (*argument).to_owned(),
        });
    }
    let line = arguments.join("\0");
    if line.len() > COMMAND_LINE_MAX {
        return Err(BootError::Arguments { bytes: line.len() });
    }
    const _: () = assert!(
        offset_of!(BootInfo, command_line_len) == 8 * 8,
        "eight numbers come first"
    );
    memory.write(Gpa(layout::BOOT_INFO), &bytes_of(&facts))?;
    memory.write_value(
        Gpa(layout::BOOT_INFO + offset_of!(BootInfo, command_line_len) as u64),
        line.len() as u64,
    )?;
    memory.write(
        Gpa(layout::BOOT_INFO + offset_of!(BootInfo, command_line) as u64),
        line.as_bytes(),
    )?;
    Ok(())
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

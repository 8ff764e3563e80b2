//! Page tables: the guest's own, the two levels together, and the shadow of both.
//!
//! An address is split into indices; each picks an entry of one table, which says where the next
//! table is:
//!
//! ```text
//!   0x00007f1234567abc     63      48 47    39 38    30 29    21 20    12 11          0
//!                         ┌──────────┬────────┬────────┬────────┬────────┬─────────────┐
//!                         │  0000    │  254   │   72   │  418   │  359   │    0xabc    │
//!                         └──────────┴───┬────┴───┬────┴───┬────┴───┬────┴──────┬──────┘
//!                            sign        │        │        │        │           │
//!                              CR3 ──▶ PML4 ──▶ PDPT ──▶  PD  ──▶  PT  ──▶ page + 0xabc
//! ```
//!
//! | To | Use |
//! |---|---|
//! | write tables | [`Builder`] |
//! | see what the processor makes of them | [`Paging::walk`], whose [`Walk`] prints as a picture |
//! | follow an address to the host's memory | [`Paging::walk_nested`] over [`Slots`] or [`NestedTables`] |
//! | merge both levels as a hypervisor without nested paging must | [`shadow`] |
//! | know what that costs | [`Trace`], [`workload`] |
//! | have random tables to test with | [`arbitrary`] |
//!
//! All of it works over [`PhysicalMemory`], three functions that guest memory, a vector, or a
//! student's own type has; there is no KVM in it.
//!
//! ```
//! use ringside_vmm::memory::{Gpa, Gva, Hva};
//! use ringside_vmm::paging::{
//!     Access, Builder, Flags, Levels, PageSize, Paging, Slot, Slots, VecMemory,
//! };
//!
//! // Sixteen pages of guest memory; tables from the second on; one page of data.
//! let memory = VecMemory::new(Gpa(0), 16);
//! let mut builder = Builder::new(&memory, Levels::Four, Gpa(0x1000)..Gpa(0x8000))?;
//! let (address, page) = (Gva(0x7f12_3456_7000), Gpa(0x9000));
//! builder.map(address, page, 0x1000, PageSize::Kib4, Flags::USER | Flags::WRITABLE)?;
//!
//! // The first level: four references.
//! let paging = Paging::new(builder.root(), Levels::Four);
//! let walk = paging.walk(&memory, Gva(address.0 + 0xabc), Access::USER_READ);
//! assert_eq!(walk.steps().len(), 4);
//! assert_eq!(walk.outcome?.gpa, Gpa(0x9abc));
//! println!("{walk}");
//!
//! // Both levels: twenty-four.
//! let slot = Slot {
//!     number: 0,
//!     gpa: Gpa(0),
//!     bytes: 0x1_0000,
//!     hva: Hva(0x7000_0000),
//!     read_only: false,
//! };
//! let slots = Slots::new([slot]);
//! let walk = paging.walk_nested(&memory, &slots, Gva(address.0 + 0xabc), Access::USER_READ);
//! assert_eq!(walk.references(), 24);
//! assert_eq!(walk.outcome?.host.hva, Some(Hva(0x7000_9abc)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arbitrary;
mod build;
mod control;
mod entry;
mod fault;
mod level;
mod memory;
mod nested;
mod nested_mmu;
mod picture;
mod second;
pub mod shadow;
pub mod tlb;
mod trace;
mod walk;
pub mod workload;

pub use build::{BuildError, Builder, TablePool};
pub use control::{ControlError, ControlRegisters, Paging, Processor};
pub use entry::{Entry, Flags, Letters};
pub use fault::{Access, Cause, ErrorCode, Fault, Kind, PageFault, Privilege};
pub use level::{ENTRIES, Level, Levels, PageSize};
pub use memory::{PhysicalMemory, VecMemory};
pub use nested::{NestedFault, NestedTranslation, NestedWalk, nested_references};
pub use nested_mmu::NestedMmu;
pub use second::{Backing, NestedTables, SecondLevel, Slot, Slots, Through};
pub use trace::{Costs, Exits, GuestState, Mmu, Op, Trace};
pub use walk::{Rights, Step, Translation, Walk};

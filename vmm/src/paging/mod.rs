//! Page tables: the guest's own, the two levels together, and the shadow of both.
//!
//! It works over [`PhysicalMemory`], and has no KVM in it.

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

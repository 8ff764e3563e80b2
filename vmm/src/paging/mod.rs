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
mod picture;
mod second;
mod walk;

pub use build::{BuildError, Builder, TablePool};
pub use control::{ControlError, ControlRegisters, Paging, Processor};
pub use entry::{Entry, Flags, Letters};
pub use fault::{Access, Cause, ErrorCode, Fault, Kind, PageFault, Privilege};
pub use level::{ENTRIES, Level, Levels, PageSize};
pub use memory::{PhysicalMemory, VecMemory};
pub use nested::{NestedFault, NestedTranslation, NestedWalk, nested_references};
pub use second::{Backing, NestedTables, SecondLevel, Slot, Slots};
pub use walk::{Rights, Step, Translation, Walk};

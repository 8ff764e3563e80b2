//! Guest memory: the addresses, the regions, the slots.

pub mod address;
mod balloon;
mod dirty;
mod guest;
mod image;
pub mod layout;
mod mapped;
mod owners;
pub mod pages;
mod release;
pub mod size;
mod usage;

pub use address::{Gpa, Gva, Hpa, Hva, PAGE_BYTES};
pub use balloon::Balloon;
pub use dirty::DirtyPages;
pub use guest::{GuestMemory, MemoryError, Origin};
pub use image::MemoryImage;
pub use layout::{Layout, LayoutError, Region};
pub use owners::{Owner, Run, owners};
pub use pages::Pages;
pub use usage::{RegionUsage, Usage};

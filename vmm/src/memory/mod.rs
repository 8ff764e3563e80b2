//! Guest memory: the addresses, the regions, the slots.

pub mod address;
mod dirty;
mod guest;
mod image;
pub mod layout;
pub mod pages;
mod release;
pub mod size;
mod usage;

pub use address::{Gpa, Gva, Hpa, Hva, PAGE_BYTES};
pub use dirty::DirtyPages;
pub use guest::{GuestMemory, MemoryError, Origin};
pub use image::MemoryImage;
pub use layout::{Layout, LayoutError, Region};
pub use pages::Pages;
pub use usage::{RegionUsage, Usage};

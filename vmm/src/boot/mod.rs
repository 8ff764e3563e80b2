//! From a file to a guest's first instruction: what a boot loader and firmware would do.

pub mod bare;
pub mod image;
pub mod linux;
mod tables;

pub use image::{Image, ImageError};

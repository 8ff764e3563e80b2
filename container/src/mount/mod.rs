//! What a container sees of files: a root of its own, put together from mounts.

pub mod overlay;
pub mod special;
pub mod table;
pub mod view;

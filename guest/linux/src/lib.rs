//! Linux guests: a kernel ([`build`], [`fetch`], kept in a [`cache`]), an init of ours ([`INIT`]), and
//! programs of this host with all that they need ([`closure`]) in a read-only image ([`erofs`]).
//!
//! ```
//! use ringside_linux::{closure::{Closure, find_program}, erofs, tree::Tree};
//!
//! let mut tree = Tree::default();
//! let program = find_program("sh".as_ref())?;
//! Closure::new(&mut tree).add_program(&program)?;
//! let mut image = tempfile::tempfile()?;
//! erofs::write(&tree, &mut image)?;
//! assert!(image.metadata()?.len() > 4096);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod build;
pub mod cache;
pub mod closure;
pub mod cpio;
pub mod erofs;
pub mod fetch;
pub mod guest;
mod ld_cache;
pub mod machine;
pub mod package;
pub mod session;
mod streams;
mod sys;
pub mod tree;

/// The first process of a guest: a static program without a C library.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

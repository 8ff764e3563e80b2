//! What a bare guest and its VMM agree on: the memory map, the ports, the hypercalls and the page
//! of facts that the VMM leaves for the guest. Both sides compile this one crate, so that neither
//! can drift from the other.
//!
//! ```
//! use ringside_abi::{hypercall::{Number, Request}, layout};
//!
//! let request = Request::new(Number::Write, [layout::IMAGE, 5, 0, 0]);
//! assert_eq!(Number::from_raw(request.number), Some(Number::Write));
//! assert_eq!(size_of::<Request>(), 48);
//! ```
#![no_std]

pub mod boot_info;
pub mod hypercall;
pub mod layout;
pub mod needs;
pub mod port;
pub mod session;

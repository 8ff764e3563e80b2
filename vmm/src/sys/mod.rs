//! The only unsafe code of this crate: KVM's ioctls, the time-stamp counter, `memfd_create`, streams, signals and timers. Each
//! function wraps one of them and is safe for every input that its signature admits.
#![expect(unsafe_code, reason = "system calls and ioctls have no other form")]

pub mod clock;
pub mod code;
pub mod dirty_ring;
mod exit;
pub mod file;
pub mod kvm;
pub mod memfd;
pub mod pagemap;
pub mod signal;
pub mod stream;
pub mod tap;
pub mod terminal;
pub mod thread;
pub mod vcpu;
pub mod vectored;
pub mod vm;

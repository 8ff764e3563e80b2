//! A minimal virtual machine monitor on KVM, for teaching.
//!
//! The rooms, in the order in which a guest meets them:
//!
//! | Room | Idea |
//! |---|---|
//! | [`memory`] | what the guest takes for physical memory |
//! | [`paging`] | guest-virtual → guest-physical → host-virtual → host-physical |
//! | [`boot`] | from a file to the first instruction |
//! | [`vcpu`] | the virtual processor's state |
//! | [`trap`] | why a guest exits, and what happens then |
//! | [`device`] | what stands behind ports and memory-mapped registers |
//! | [`virtio`] | devices that know that they are virtual: queues in shared memory |
//! | [`sys`] | KVM's ioctls: all of this crate's unsafe code |
//! | [`vm`] | a machine, put together and run |
//! | [`linux`] | a machine with Linux in it |
//!
//! A guest of four bytes:
//!
//! ```
//! use ringside_vmm::{boot::Image, device::Streams, sys::kvm::Kvm, vm::{Limits, Vm}};
//!
//! let Ok(kvm) = Kvm::open() else { return Ok(()) };
//! // mov al, 7; out 0xf4, al
//! let image = Image::flat(&[0xb0, 7, 0xe6, 0xf4])?;
//! let mut vm = Vm::new(&kvm, 8 << 20, &image, &[], Streams::captured().0)?;
//! println!("{}", vm.run(Limits::default())?.end); // the guest exited with status 7
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod boot;
pub mod device;
pub mod host;
pub mod linux;
pub mod memory;
pub mod paging;
pub mod sys;
pub mod trap;
pub mod vcpu;
pub mod virtio;
pub mod vm;

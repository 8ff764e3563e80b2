//! Who watches a guest's exits, without having a say in them.

use super::{Exit, Reply};
use crate::memory::GuestMemory;
use kvm_bindings::kvm_regs;

/// Sees every access that a vCPU exits for, before and after dispatch. A string access is seen as
/// its elements.
pub trait Observer {
    /// Whether registers are to be had. They come with the exit itself (`KVM_SYNC_REGS`), not by a
    /// system call of their own; still, copying them takes time.
    const WANTS_REGISTERS: bool;

    /// The guest exited; nothing was done about it yet.
    fn exited(&mut self, exit: Exit, registers: &kvm_regs, memory: &GuestMemory);

    /// Dispatch decided.
    fn handled(&mut self, exit: Exit, reply: Reply, memory: &GuestMemory);
}

/// Nobody watches.
impl Observer for () {
    const WANTS_REGISTERS: bool = false;

    fn exited(&mut self, _: Exit, _: &kvm_regs, _: &GuestMemory) {}

    fn handled(&mut self, _: Exit, _: Reply, _: &GuestMemory) {}
}

/// Two watch.
impl<A: Observer, B: Observer> Observer for (A, B) {
    const WANTS_REGISTERS: bool = A::WANTS_REGISTERS || B::WANTS_REGISTERS;

    fn exited(&mut self, exit: Exit, registers: &kvm_regs, memory: &GuestMemory) {
        self.0.exited(exit, registers, memory);
        self.1.exited(exit, registers, memory);
    }

    fn handled(&mut self, exit: Exit, reply: Reply, memory: &GuestMemory) {
        self.0.handled(exit, reply, memory);
        self.1.handled(exit, reply, memory);
    }
}

impl<O: Observer> Observer for &mut O {
    const WANTS_REGISTERS: bool = O::WANTS_REGISTERS;

    fn exited(&mut self, exit: Exit, registers: &kvm_regs, memory: &GuestMemory) {
        (**self).exited(exit, registers, memory);
    }

    fn handled(&mut self, exit: Exit, reply: Reply, memory: &GuestMemory) {
        (**self).handled(exit, reply, memory);
    }
}

//! What this host's KVM can do, of all that this crate asks of it.
//!
//! Source: the kernel's `Documentation/virt/kvm/api.rst`, where each capability is named beside the
//! ioctl that it announces.

use kvm_ioctls::Cap;

use crate::sys::kvm::Kvm;

/// A capability that this crate uses, and what KVM says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name in `linux/kvm.h`.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether no guest runs without it.
    pub is_required: bool,
    /// The answer of `KVM_CHECK_EXTENSION`: 0 without it; 1 or a number such as how many, with it.
    pub answer: i32,
}

/// The capabilities in use, the required ones first.
const USED: [(Cap, &str, &str, bool); 7] = [
    (
        Cap::UserMemory,
        "KVM_CAP_USER_MEMORY",
        "guest memory from our own",
        true,
    ),
    (
        Cap::ImmediateExit,
        "KVM_CAP_IMMEDIATE_EXIT",
        "stopping a vCPU without losing a signal",
        true,
    ),
    (
        Cap::ExtCpuid,
        "KVM_CAP_EXT_CPUID",
        "telling the guest what its processor can do",
        true,
    ),
    (
        Cap::NrMemslots,
        "KVM_CAP_NR_MEMSLOTS",
        "pieces of guest memory",
        true,
    ),
    (
        Cap::MaxVcpus,
        "KVM_CAP_MAX_VCPUS",
        "vCPUs of one machine",
        false,
    ),
    (
        Cap::SyncRegs,
        "KVM_CAP_SYNC_REGS",
        "registers without an ioctl",
        false,
    ),
    (
        Cap::InternalErrorData,
        "KVM_CAP_INTERNAL_ERROR_DATA",
        "why KVM itself gave up",
        false,
    ),
];

/// Asks for each capability in use.
pub fn capabilities(kvm: &Kvm) -> Vec<Capability> {
    let ask = |(capability, name, purpose, is_required)| Capability {
        name,
        purpose,
        is_required,
        answer: kvm.capability(capability),
    };
    USED.into_iter().map(ask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_that_opens_has_what_is_required() {
        let kvm = match Kvm::open() {
            Ok(kvm) => kvm,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        for capability in capabilities(&kvm) {
            assert!(
                !capability.is_required || capability.answer > 0,
                "{capability:?}"
            );
        }
    }
}

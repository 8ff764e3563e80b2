//! Which Linux kernel this host's virtual machines can run.

use crate::host::KvmLabel;
use ringside_linux::cache::Ring0;

/// How ring 0 of a guest runs behind a KVM of that label; `None` without KVM, or where nobody looked.
pub fn ring0(label: &KvmLabel) -> Option<Ring0> {
    match label {
        KvmLabel::Hardware(_) => Some(Ring0::Native),
        KvmLabel::Software(_) => Some(Ring0::Emulated),
        KvmLabel::None { .. } | KvmLabel::Uncalibrated => None,
    }
}

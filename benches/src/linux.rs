//! Which Linux kernel this host's virtual machines can run.

use crate::host::KvmLabel;
use ringside_linux::cache::{Cache, Kernel, Ring0};
use ringside_linux::machine::{RunError, no_kernel};

/// How ring 0 of a guest runs behind a KVM of that label; `None` without KVM, or where nobody looked.
pub fn ring0(label: &KvmLabel) -> Option<Ring0> {
    match label {
        KvmLabel::Hardware(_) => Some(Ring0::Native),
        KvmLabel::Software(_) => Some(Ring0::Emulated),
        KvmLabel::None { .. } | KvmLabel::Uncalibrated => None,
    }
}

/// The kernel that a guest of such a host gets when nobody names one.
///
/// # Errors
/// [`RunError::NoKernel`], with the command that makes one.
pub fn kernel(cache: &Cache, ring0: Ring0) -> Result<Kernel, RunError> {
    cache.best(ring0).ok_or_else(|| no_kernel(ring0))
}

/// Its name, for a comparison.
///
/// # Errors
/// Why there is none, and what to do.
pub fn kernel_name(label: &KvmLabel) -> Result<String, String> {
    // Without KVM the machine itself says why.
    let ring0 = ring0(label).unwrap_or(Ring0::Native);
    let cache = Cache::of_user().map_err(|error| error.to_string())?;
    match kernel(&cache, ring0) {
        Ok(kernel) => Ok(kernel.name),
        Err(RunError::NoKernel(remedy)) => Err(format!("no Linux kernel is kept; {remedy}")),
        Err(error) => Err(error.to_string()),
    }
}

//! Threads that no signal reaches.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread::{Builder, JoinHandle};

/// Spawns a thread that blocks every signal: one that asks the process to end must reach a thread
/// that runs a vCPU, whose `KVM_RUN` it interrupts, and not a device's.
///
/// # Errors
/// The system's refusal of a thread.
pub fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are locals; `sigfillset` initializes the one, and `pthread_sigmask` the other.
    let before = unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    };
    // A thread begins with the mask of the one that makes it.
    let spawned = Builder::new().name(name).spawn(run);
    // SAFETY: the set was just read.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    spawned
}

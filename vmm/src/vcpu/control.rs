//! Pause, resume, stop: how other threads have a say in a running machine.
//!
//! A vCPU in the guest cannot be asked anything; it is *kicked* out by a signal to its thread
//! ([`signal`](crate::sys::signal)) and then finds what is wanted of it:
//!
//! ```text
//!   another thread                    a vCPU's thread
//!   wanted |= PAUSE                   KVM_RUN …
//!   signal ─────────────────────────▶ … EINTR
//!   wait until none runs  ◀────────── paused; waits
//!   wanted &= !PAUSE, wake ─────────▶ KVM_RUN …
//! ```

use crate::sys::signal::Kick;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Every vCPU leaves the guest and waits.
const PAUSE: u8 = 1;
/// The machine ends, for good.
const STOP: u8 = 2;
/// One of its vCPUs ended, and so do the others.
const ENDED: u8 = 4;

/// How often a kick is repeated. One may come when its thread is about to block in a device (a read
/// from standard input) and is then lost, but not the next one.
pub(crate) const PATIENCE: Duration = Duration::from_millis(10);

/// A handle to a machine, for threads other than its own. Clones are the same machine's.
#[derive(Clone, Debug, Default)]
pub struct VmControl(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// What is wanted of the vCPUs: the flags above.
    wanted: AtomicU8,
    vcpus: Mutex<Vcpus>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Vcpus {
    /// The threads in their run loops, and whether each is paused or halted.
    threads: Vec<(Kick, bool)>,
    /// vCPUs that did not halt.
    live: usize,
    /// vCPUs whose run loop did not end, or did not begin yet.
    to_come: usize,
}

/// What a vCPU is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Run,
    Pause,
    Stop,
    /// Another vCPU ended the machine.
    Leave,
}

impl VmControl {
    /// Takes every vCPU out of the guest, and returns when none is in it. A machine that does not
    /// run yet will begin paused. What its guest asked of a device before is still answered.
    ///
    /// Not for a thread that runs a vCPU: it would wait for itself.
    pub fn pause(&self) {
        self.want(PAUSE);
    }

    /// Lets a paused machine go on.
    pub fn resume(&self) {
        let _vcpus = self.lock();
        self.0.wanted.fetch_and(!PAUSE, Ordering::SeqCst);
        self.0.changed.notify_all();
    }

    /// Ends the machine with [`End::Cancelled`](crate::vm::End::Cancelled), and returns when no vCPU
    /// is in the guest. It does not run again.
    pub fn stop(&self) {
        self.want(STOP);
    }

    /// The threads that run its vCPUs, as the kernel numbers them (`man 2 gettid`); none while the
    /// machine does not run. Who limits a machine's processor time moves these into a cgroup.
    pub fn threads(&self) -> Vec<i32> {
        let vcpus = self.lock();
        vcpus
            .threads
            .iter()
            .map(|(kick, _)| kick.thread())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vcpus> {
        self.0.vcpus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, or a little while.
    fn wait<'a>(&self, vcpus: MutexGuard<'a, Vcpus>) -> MutexGuard<'a, Vcpus> {
        let waited = self.0.changed.wait_timeout(vcpus, PATIENCE);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wants `flag` of every vCPU, and kicks them until each has left the guest or somebody else
    /// wants otherwise.
    fn want(&self, flag: u8) {
        let mut vcpus = self.lock();
        self.0.wanted.fetch_or(flag, Ordering::SeqCst);
        self.0.changed.notify_all();
        while self.0.wanted.load(Ordering::SeqCst) & flag != 0 {
            let running = vcpus.threads.iter().filter(|(_, waits)| !waits);
            if running.map(|(kick, _)| kick.kick()).count() == 0 {
                return;
            }
            vcpus = self.wait(vcpus);
        }
    }

    /// What is wanted of a vCPU: one load, for it is asked before each entry.
    pub(crate) fn wanted(&self) -> Wanted {
        match self.0.wanted.load(Ordering::Relaxed) {
            0 => Wanted::Run,
            flags if flags & STOP != 0 => Wanted::Stop,
            flags if flags & ENDED != 0 => Wanted::Leave,
            _ => Wanted::Pause,
        }
    }

    /// A machine of so many vCPUs begins to run.
    pub(crate) fn begin(&self, vcpus: usize) {
        let mut state = self.lock();
        (state.live, state.to_come) = (vcpus, vcpus);
        self.0.wanted.fetch_and(!ENDED, Ordering::SeqCst);
    }

    /// The calling thread is about to run a vCPU, until the guard goes.
    pub(crate) fn enter(&self) -> Entered<'_> {
        let kick = Kick::this_thread();
        self.lock().threads.push((kick, false));
        Entered {
            control: self,
            thread: kick.thread(),
        }
    }

    /// One vCPU halted for good; whether it was the last.
    pub(crate) fn halted(&self) -> bool {
        let mut vcpus = self.lock();
        vcpus.live = vcpus.live.saturating_sub(1);
        vcpus.live == 0
    }

    /// One vCPU ended the machine: kicks the others. Whether it was the first to.
    pub(crate) fn end(&self) -> bool {
        let vcpus = self.lock();
        let before = self.0.wanted.fetch_or(ENDED, Ordering::SeqCst);
        vcpus.threads.iter().for_each(|(kick, _)| kick.kick());
        self.0.changed.notify_all();
        before & ENDED == 0
    }

    /// Kicks every vCPU, once.
    pub(crate) fn kick(&self) {
        self.lock().threads.iter().for_each(|(kick, _)| kick.kick());
    }

    /// Waits a little while for the others' run loops to end; whether all but so many have. Kicks
    /// those that should.
    pub(crate) fn gone_but(&self, rest: usize) -> bool {
        let mut vcpus = self.lock();
        if vcpus.to_come > rest {
            if matches!(self.wanted(), Wanted::Stop | Wanted::Leave) {
                vcpus.threads.iter().for_each(|(kick, _)| kick.kick());
            }
            vcpus = self.wait(vcpus);
        }
        vcpus.to_come <= rest
    }
}

/// A thread that runs a vCPU.
pub(crate) struct Entered<'a> {
    control: &'a VmControl,
    thread: i32,
}

impl Entered<'_> {
    /// Waits while the machine is paused, but not longer than a little while.
    pub(crate) fn pause(&self) {
        let mut vcpus = self.control.lock();
        self.mark(&mut vcpus, true);
        if self.control.wanted() == Wanted::Pause {
            vcpus = self.control.wait(vcpus);
        }
        // From here on it may enter the guest, until it asks again.
        self.mark(&mut vcpus, false);
    }

    fn mark(&self, vcpus: &mut Vcpus, waits: bool) {
        for (_, is_waiting) in vcpus
            .threads
            .iter_mut()
            .filter(|(kick, _)| kick.thread() == self.thread)
        {
            *is_waiting = waits;
        }
        self.control.0.changed.notify_all();
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut vcpus = self.control.lock();
        vcpus.to_come = vcpus.to_come.saturating_sub(1);
        vcpus
            .threads
            .retain(|(kick, _)| kick.thread() != self.thread);
        self.control.0.changed.notify_all();
    }
}

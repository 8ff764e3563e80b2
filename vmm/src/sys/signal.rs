//! How a running guest is interrupted: a signal to its vCPU's thread.
//!
//! A signal that comes while `KVM_RUN` runs ends it with `EINTR`. One that comes just before would
//! be lost, so the handler also sets `immediate_exit` in the `kvm_run` of the vCPU that its thread
//! runs, with which the next `KVM_RUN` returns at once (`Documentation/virt/kvm/api.rst`, 5).

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

thread_local! {
    /// `immediate_exit` of the vCPU that this thread runs, or null.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// The last request to end, of those that [`watch`] watches; 0 for none.
static REQUEST: AtomicI32 = AtomicI32::new(0);

/// The signals by which a terminal, a user or a supervisor asks a process to end.
pub const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The signal that interrupts a vCPU and means nothing else.
pub fn kick_signal() -> i32 {
    libc::SIGRTMIN()
}

extern "C" fn on_signal(signal: i32) {
    if signal != kick_signal() {
        REQUEST.store(signal, Ordering::Relaxed);
    }
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: a non-null flag belongs to a live vCPU of this very thread (`Interruptible`);
        // one volatile byte store is all that a signal handler does here.
        unsafe { flag.write_volatile(1) };
    }
}

fn install(signal: i32) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags (so that blocking calls end with EINTR) and
    // an empty mask. The handler is async-signal-safe: an atomic store, a thread-local without
    // destructor and a volatile store.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
        libc::sigaction(signal, &action, ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes over signals that ask this process to end: a vCPU run by the thread that gets one stops
/// with [`Exit::Interrupted`](crate::trap::Exit::Interrupted), and [`requested`] names it. A signal
/// that the process ignores (as under `nohup`) stays ignored.
///
/// # Errors
/// The system call's, for a signal that cannot be handled.
pub fn watch(signals: &[i32]) -> io::Result<()> {
    for &signal in signals {
        if !is_ignored(signal) {
            install(signal)?;
        }
    }
    Ok(())
}

/// Whether this process ignores a signal, as one under `nohup` does SIGHUP.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: all-zero is a valid `sigaction`, and a null new action only reads the old one.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, ptr::null(), &mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}

/// The signal that asked this process to end, if one did.
pub fn requested() -> Option<i32> {
    match REQUEST.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// While it lives, a watched signal or a kick to this thread interrupts its vCPU. It must not
/// outlive the vCPU, which the run loop that makes it sees to.
#[derive(Debug)]
pub struct Interruptible {
    /// Not `Send`: it is about the thread that made it.
    _thread: PhantomData<*mut u8>,
}

impl Interruptible {
    /// # Safety
    /// `flag` is valid for writes while the value lives.
    pub(super) unsafe fn new(flag: *mut u8) -> Interruptible {
        static KICK: Once = Once::new();
        KICK.call_once(|| install(kick_signal()).expect("a real-time signal can be handled"));
        IMMEDIATE_EXIT.set(flag);
        Interruptible {
            _thread: PhantomData,
        }
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null_mut());
    }
}

/// A thread that can be kicked out of `KVM_RUN`.
#[derive(Clone, Copy, Debug)]
pub struct Kick {
    process: i32,
    thread: i32,
}

impl Kick {
    /// For the calling thread.
    pub fn this_thread() -> Kick {
        // SAFETY: neither call has preconditions.
        unsafe {
            Kick {
                process: libc::getpid(),
                thread: libc::gettid(),
            }
        }
    }

    /// The thread's number, as the kernel knows it.
    pub fn thread(self) -> i32 {
        self.thread
    }

    /// Interrupts that thread's vCPU. Nothing happens if the thread is gone.
    pub fn kick(self) {
        // SAFETY: signals a thread of this process, or none; the handler is installed before any
        // `Kick` of a running vCPU is handed out.
        unsafe { libc::syscall(libc::SYS_tgkill, self.process, self.thread, kick_signal()) };
    }
}

/// A timer that kicks the thread that made it: once after a time, and then every 10 ms, until
/// dropped, so that no guest misses it.
#[derive(Debug)]
pub struct Alarm(libc::timer_t);

// SAFETY: a timer's id may be used from any thread of the process (`man 2 timer_delete`).
unsafe impl Send for Alarm {}

impl Alarm {
    /// Starts the timer.
    ///
    /// # Errors
    /// The system calls': out of timers.
    pub fn after(time: Duration) -> io::Result<Alarm> {
        let mut timer = ptr::null_mut();
        // SAFETY: all-zero is a valid `sigevent`; the fields that the kind of notification reads
        // are set, and both pointers are to locals.
        let made = unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = kick_signal();
            event.sigev_notify_thread_id = libc::gettid();
            libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer)
        };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        let alarm = Alarm(timer);
        let spec = libc::itimerspec {
            // Zero would not arm it.
            it_value: libc::timespec {
                tv_sec: time.as_secs().min(i64::MAX as u64) as i64,
                tv_nsec: i64::from(time.subsec_nanos()).max(i64::from(time.as_secs() == 0)),
            },
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            },
        };
        // SAFETY: the timer was just made; the pointer is to a local.
        let set = unsafe { libc::timer_settime(alarm.0, 0, &spec, ptr::null_mut()) };
        if set == 0 {
            Ok(alarm)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is this value's own.
        unsafe { libc::timer_delete(self.0) };
    }
}

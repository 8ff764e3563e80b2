//! Processes, signals, the machine.

use super::call::{Errno, call};
use super::io::Fd;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::marker::PhantomData;

/// A process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(i32);

/// Who comes back from [`fork`].
pub enum Forked {
    Parent(Pid),
    Child,
}

pub fn fork() -> Result<Forked, Errno> {
    // SAFETY: fork(57) copies this process, which has one thread.
    match unsafe { call(57, []) }? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(Pid(pid as i32))),
    }
}

pub fn exit(status: usize) -> ! {
    loop {
        // SAFETY: exit_group(231) does not come back.
        unsafe { call(231, [status]) }.ok();
    }
}

/// An array of texts as `execve` reads it: pointers, the last one null.
pub struct Pointers<'a> {
    pointers: Vec<*const i8>,
    texts: PhantomData<&'a CStr>,
}

pub fn pointers<'a>(texts: &[&'a CStr]) -> Pointers<'a> {
    let mut pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
    pointers.push(core::ptr::null());
    Pointers {
        pointers,
        texts: PhantomData,
    }
}

/// Comes back only when it fails.
pub fn execute(program: &CStr, arguments: &Pointers<'_>, environment: &Pointers<'_>) -> Errno {
    let (arguments, environment) = (&arguments.pointers, &environment.pointers);
    let all = [
        program.as_ptr() as usize,
        arguments.as_ptr() as usize,
        environment.as_ptr() as usize,
    ];
    // SAFETY: execve(59) reads a path and two arrays that end in null, of texts that still live.
    match unsafe { call(59, all) } {
        Err(errno) => errno,
        Ok(_) => Errno::INVALID,
    }
}

pub fn new_session() {
    // SAFETY: setsid(112) takes nothing.
    unsafe { call(112, []) }.ok();
}

const SIGCHLD: u32 = 17;
const BLOCK: usize = 0;
const UNBLOCK: usize = 1;

fn mask(how: usize) {
    let set = 1_u64 << (SIGCHLD - 1);
    // SAFETY: rt_sigprocmask(14) reads a set of 8 bytes.
    unsafe { call(14, [how, &raw const set as usize, 0, 8]) }.ok();
}

/// A descriptor that can be read when a child has ended.
pub fn child_signals() -> Result<Fd, Errno> {
    mask(BLOCK);
    let set = 1_u64 << (SIGCHLD - 1);
    let (cloexec, nonblock) = (0o2_000_000, 0o4000);
    // SAFETY: signalfd4(289) reads a set of 8 bytes.
    unsafe {
        call(
            289,
            [usize::MAX, &raw const set as usize, 8, cloexec | nonblock],
        )
    }
    .map(Fd::from_raw)
}

/// What a new program expects; handlers are the default ones already.
pub fn default_signals() {
    mask(UNBLOCK);
}

/// A child that has ended, and its status (`man 2 wait4`).
pub fn ended_child() -> Option<(Pid, u32)> {
    let mut status = 0_u32;
    let no_hang = 1;
    // SAFETY: wait4(61) writes a number.
    match unsafe { call(61, [usize::MAX, &raw mut status as usize, no_hang, 0]) } {
        Ok(0) | Err(_) => None,
        Ok(pid) => Some((Pid(pid as i32), status)),
    }
}

pub fn kill(pid: Pid, signal: u32) {
    // SAFETY: kill(62) takes numbers.
    unsafe { call(62, [pid.0 as usize, signal as usize]) }.ok();
}

pub fn set_hostname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: sethostname(170) reads the name.
    unsafe { call(170, [name.as_ptr() as usize, name.len()]) }.map(drop)
}

/// The machine's memory, in bytes (`man 2 sysinfo`; its unit is a byte on 64 bits).
pub fn memory_bytes() -> u64 {
    const TOTAL: usize = 4;
    let mut info = [0_u64; 14];
    // SAFETY: sysinfo(99) writes a structure of 112 bytes.
    unsafe { call(99, [&raw mut info as usize]) }.ok();
    info[TOTAL]
}

pub fn sync() {
    // SAFETY: sync(162) takes nothing.
    unsafe { call(162, []) }.ok();
}

/// Resets the machine, which ends a virtual one.
pub fn reboot() -> ! {
    // SAFETY: reboot(169), with the two numbers that make it mean it, to restart.
    unsafe { call(169, [0xfee1_dead, 672_274_793, 0x0123_4567, 0]) }.ok();
    // Not process 1, or forbidden: nothing else to do.
    exit(125)
}

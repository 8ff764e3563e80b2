//! Files, pipes, terminals, mounts.

use super::call::{Errno, call};
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;

/// A descriptor. Init owns a handful, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(i32);

impl Fd {
    pub const STDIN: Fd = Fd(0);
    pub const STDERR: Fd = Fd(2);

    pub(super) fn from_raw(raw: usize) -> Fd {
        Fd(raw as i32)
    }

    pub(super) fn raw(self) -> usize {
        self.0 as usize
    }
}

const O_RDWR: usize = 2;
const O_NOCTTY: usize = 0o400;
const O_NONBLOCK: usize = 0o4000;
const O_CLOEXEC: usize = 0o2_000_000;
/// Relative to the working directory.
const AT_FDCWD: usize = -100_isize as usize;

pub const MS_RDONLY: usize = 1;
pub const MS_MOVE: usize = 8192;

fn at(path: &CStr) -> usize {
    path.as_ptr() as usize
}

pub fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: read(0) writes into the buffer at most.
    unsafe { call(0, [fd.raw(), buffer.as_mut_ptr() as usize, buffer.len()]) }
}

pub fn write(fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: write(1) reads the bytes.
    unsafe { call(1, [fd.raw(), bytes.as_ptr() as usize, bytes.len()]) }
}

/// All of it, on a descriptor that blocks.
pub fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTERRUPTED) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

pub fn close(fd: Fd) {
    // SAFETY: close(3) of a number; init shares its descriptors with nobody.
    unsafe { call(3, [fd.raw()]) }.ok();
}

fn open(path: &CStr, flags: usize) -> Result<Fd, Errno> {
    // SAFETY: openat(257) reads a path.
    unsafe { call(257, [AT_FDCWD, at(path), flags | O_CLOEXEC, 0]) }.map(Fd::from_raw)
}

/// Reads and writes a device that does not become the terminal of this process.
pub fn open_device(path: &CStr) -> Result<Fd, Errno> {
    open(path, O_RDWR | O_NOCTTY)
}

/// Makes sure that 0, 1 and 2 are taken, so that no other descriptor gets such a number.
pub fn hold_standard_streams() {
    while let Ok(fd) = open(c"/dev/null", O_RDWR) {
        if fd.0 > 2 {
            return close(fd);
        }
    }
}

pub fn read_file(path: &CStr) -> Result<Vec<u8>, Errno> {
    let fd = open(path, 0)?;
    // SAFETY: lseek(8) to the end and back.
    let size = unsafe { call(8, [fd.raw(), 0, 2]) }?;
    // SAFETY: as above.
    unsafe { call(8, [fd.raw(), 0, 0]) }?;
    let mut text = vec![0; size];
    let mut used = 0;
    while used < size {
        match read(fd, &mut text[used..])? {
            0 => break,
            count => used += count,
        }
    }
    text.truncate(used);
    close(fd);
    Ok(text)
}

pub fn load_module(path: &CStr) -> Result<(), Errno> {
    let fd = open(path, 0)?;
    // SAFETY: finit_module(313) reads the file and an empty text.
    let loaded = unsafe { call(313, [fd.raw(), at(c""), 0]) };
    close(fd);
    match loaded {
        Err(errno) if errno.raw() == 17 => Ok(()), // it is there already
        other => other.map(drop),
    }
}

pub fn set_nonblocking(fd: Fd) -> Result<(), Errno> {
    // SAFETY: fcntl(72) F_SETFL.
    unsafe { call(72, [fd.raw(), 4, O_NONBLOCK]) }.map(drop)
}

/// The reading and the writing end.
pub fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [0_i32; 2];
    // SAFETY: pipe2(293) writes two numbers.
    unsafe { call(293, [ends.as_mut_ptr() as usize, O_CLOEXEC]) }?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}

pub fn duplicate(fd: Fd, number: usize) -> Result<(), Errno> {
    // SAFETY: dup2(33): what `number` was is not used again by the caller, which is about to exec.
    unsafe { call(33, [fd.raw(), number]) }.map(drop)
}

pub fn mkdir(path: &CStr) {
    // SAFETY: mkdir(83) reads a path.
    unsafe { call(83, [at(path), 0o755]) }.ok();
}

pub fn chmod(path: &CStr, mode: usize) {
    // SAFETY: chmod(90) reads a path.
    unsafe { call(90, [at(path), mode]) }.ok();
}

pub fn symlink(target: &CStr, path: &CStr) {
    // SAFETY: symlink(88) reads two paths.
    unsafe { call(88, [at(target), at(path)]) }.ok();
}

pub fn chdir(path: &CStr) -> Result<usize, Errno> {
    // SAFETY: chdir(80) reads a path.
    unsafe { call(80, [at(path)]) }
}

pub fn chroot(path: &CStr) -> Result<usize, Errno> {
    // SAFETY: chroot(161) reads a path.
    unsafe { call(161, [at(path)]) }
}

pub fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: usize,
    options: &CStr,
) -> Result<usize, Errno> {
    // SAFETY: mount(165) reads four texts.
    unsafe { call(165, [at(source), at(target), at(kind), flags, at(options)]) }
}

/// What to wait for (`man 2 poll`).
pub struct Events;

impl Events {
    pub const IN: i16 = 1;
    pub const OUT: i16 = 4;
}

/// One descriptor to wait for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Poll {
    fd: i32,
    events: i16,
    happened: i16,
}

impl Poll {
    pub fn new(fd: Fd, events: i16) -> Poll {
        Poll::optional(Some(fd), events)
    }

    /// The kernel passes over a negative descriptor.
    pub fn optional(fd: Option<Fd>, events: i16) -> Poll {
        Poll {
            fd: fd.map_or(-1, |fd| fd.0),
            events,
            happened: 0,
        }
    }

    /// What was waited for, or an end.
    pub fn ready(self) -> bool {
        self.happened != 0
    }
}

pub fn poll(polls: &mut [Poll], timeout_ms: i32) -> Result<usize, Errno> {
    // SAFETY: poll(7) writes into the array's `happened`.
    unsafe {
        call(
            7,
            [
                polls.as_mut_ptr() as usize,
                polls.len(),
                timeout_ms as isize as usize,
            ],
        )
    }
}

const TCGETS: usize = 0x5401;
const TCSETS: usize = 0x5402;
const TIOCSCTTY: usize = 0x540e;
const TIOCSWINSZ: usize = 0x5414;
const TIOCSPTLCK: usize = 0x4004_5431;
const TIOCGPTPEER: usize = 0x5441;

/// The kernel's `struct termios`.
#[repr(C)]
#[derive(Default)]
struct Termios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    line: u8,
    characters: [u8; 19],
}

/// Makes a terminal carry bytes as they are; fails where there is no terminal.
pub fn make_raw(fd: Fd) {
    let mut termios = Termios::default();
    // SAFETY: TCGETS writes a `struct termios`.
    if unsafe { call(16, [fd.raw(), TCGETS, &raw mut termios as usize]) }.is_err() {
        return;
    }
    termios.input = 0;
    termios.output = 0;
    termios.local = 0;
    let (vtime, vmin) = (5, 6);
    termios.characters[vtime] = 0;
    termios.characters[vmin] = 1;
    // SAFETY: TCSETS reads one.
    unsafe { call(16, [fd.raw(), TCSETS, &raw const termios as usize]) }.ok();
}

/// A new terminal of that many rows and columns: our side, and the command's.
pub fn terminal(size: (u16, u16)) -> Result<(Fd, Fd), Errno> {
    let ours = open_device(c"/dev/pts/ptmx")?;
    let locked = 0_i32;
    // SAFETY: TIOCSPTLCK reads a number.
    unsafe { call(16, [ours.raw(), TIOCSPTLCK, &raw const locked as usize]) }?;
    // SAFETY: TIOCGPTPEER takes flags and gives a descriptor.
    let theirs = unsafe { call(16, [ours.raw(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC]) }?;
    resize(ours, size);
    Ok((ours, Fd::from_raw(theirs)))
}

pub fn resize(terminal: Fd, (rows, columns): (u16, u16)) {
    let size = [rows, columns, 0, 0];
    // SAFETY: TIOCSWINSZ reads four numbers.
    unsafe { call(16, [terminal.raw(), TIOCSWINSZ, size.as_ptr() as usize]) }.ok();
}

/// Makes it the terminal of this session.
pub fn take_terminal(fd: Fd) {
    // SAFETY: TIOCSCTTY takes a number.
    unsafe { call(16, [fd.raw(), TIOCSCTTY, 0]) }.ok();
}

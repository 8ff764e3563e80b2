//! A process as the platform of the work: what a guest asks of its VMM by hypercall, a process asks
//! of the kernel by system call.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::parent_id;

use ringside_work::{PAGE_BYTES, Platform};

use crate::clock::monotonic_ns;
use crate::sys;

/// The calling process.
#[derive(Debug)]
pub struct Process {
    written: io::Result<()>,
}

impl Default for Process {
    fn default() -> Self {
        Process { written: Ok(()) }
    }
}

impl Process {
    /// Says whether everything that was written came out.
    ///
    /// # Errors
    ///
    /// The first one that writing to standard output met.
    pub fn finish(self) -> io::Result<()> {
        self.written
    }
}

/// Runs an embedded piece of work in the calling process: `ringside_work::run`, for those who do not
/// depend on it themselves.
///
/// # Errors
///
/// Those of `ringside_work::run`; what writing met is told by [`Process::finish`].
pub fn run<'a>(
    name: &'a str,
    args: &[&'a str],
    process: &mut Process,
) -> Result<(), ringside_work::Error<'a>> {
    ringside_work::run(name, args, process)
}

impl Platform for Process {
    fn now_ns(&mut self) -> u64 {
        monotonic_ns()
    }

    fn null_call(&mut self) {
        // `getppid`, which no C library answers from memory.
        let _ = parent_id();
    }

    fn buffer(&mut self, bytes: usize) -> Option<&'static mut [u64]> {
        let memory = memory(bytes, false)?;
        memory
            .iter_mut()
            .step_by(PAGE_BYTES)
            .for_each(|byte| *byte = 1);
        Some(sys::as_words(memory))
    }

    fn untouched_pages(&mut self, count: usize) -> Option<&'static mut [u8]> {
        memory(count.checked_mul(PAGE_BYTES)?, true)
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.written.is_ok() {
            let mut output = io::stdout().lock();
            self.written = output.write_all(bytes).and_then(|()| output.flush());
        }
    }

    fn wait_for_end_of_input(&mut self) {
        // An input that cannot be read any more has ended.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    }
}

/// Memory that is there to be touched. The kernel would promise more than that, and kill somebody
/// when the promise is called in.
fn memory(bytes: usize, small_pages: bool) -> Option<&'static mut [u8]> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    if bytes > available_bytes(&meminfo)? {
        return None;
    }
    sys::untouched(bytes, small_pages).ok()
}

/// What a `meminfo` file says is there without swapping (man 5 proc_meminfo).
fn available_bytes(meminfo: &str) -> Option<usize> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_touched_and_pages_are_not() {
        let mut process = Process::default();
        let buffer = process.buffer(3 * PAGE_BYTES).unwrap();
        assert_eq!(buffer.len(), 3 * PAGE_BYTES / 8);
        assert_eq!(resident_pages(buffer.as_ptr().addr(), 3), 3);

        let pages = process.untouched_pages(5).unwrap();
        assert_eq!(pages.len(), 5 * PAGE_BYTES);
        assert_eq!(resident_pages(pages.as_ptr().addr(), 5), 0);
        pages[4 * PAGE_BYTES] = 1;
        assert_eq!(resident_pages(pages.as_ptr().addr(), 5), 1);
    }

    /// How many of `count` pages from `address` on are there (man 5 proc_pid_pagemap).
    fn resident_pages(address: usize, count: usize) -> usize {
        use std::os::unix::fs::FileExt;
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        (0..count)
            .map_while(|page| {
                let mut entry = [0; 8];
                let offset = (address / PAGE_BYTES + page) * 8;
                pagemap.read_exact_at(&mut entry, offset as u64).ok()?;
                Some(u64::from_le_bytes(entry) >> 63)
            })
            .filter(|&present| present == 1)
            .count()
    }

    #[test]
    fn more_memory_than_there_is_is_refused() {
        let mut process = Process::default();
        assert!(process.buffer(1 << 40).is_none());
        assert!(process.buffer(1 << 50).is_none());
        assert!(process.buffer(0).is_none());
        assert!(process.untouched_pages(usize::MAX / 2).is_none());
    }

    #[test]
    fn available_memory_is_read_from_its_line() {
        let meminfo = "MemTotal:   100 kB\nMemAvailable:     24 kB\n";
        assert_eq!(available_bytes(meminfo), Some(24 << 10));
        for wrong in [
            "",
            "MemAvailable: much",
            "MemAvailable: 18446744073709551615 kB",
        ] {
            assert_eq!(available_bytes(wrong), None, "{wrong}");
        }
    }
}

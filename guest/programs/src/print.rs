//! Formatted output: a whole `print!` is one hypercall, however long.

use crate::guest::hypercall;
use core::fmt;
use ringside_abi::hypercall::Number;

/// Writes bytes to the host's standard output.
pub fn write(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match hypercall(
            Number::Write,
            [bytes.as_ptr() as u64, bytes.len() as u64, 0, 0],
        ) {
            count if count > 0 => bytes = &bytes[count as usize..],
            _ => return,
        }
    }
}

/// Gathers formatted pieces, so that they leave in few hypercalls.
pub struct Line {
    bytes: [u8; 512],
    used: usize,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Line {
            bytes: [0; 512],
            used: 0,
        }
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) {
        write(&self.bytes[..self.used]);
        self.used = 0;
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

/// Prints to the host's standard output.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {{
        let mut line = $crate::print::Line::new();
        let _ = core::fmt::Write::write_fmt(&mut line, format_args!($($argument)*));
        line.flush();
    }};
}

/// Prints a line to the host's standard output.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($format:literal $($argument:tt)*) => { $crate::print!("{}\n", format_args!($format $($argument)*)) };
}

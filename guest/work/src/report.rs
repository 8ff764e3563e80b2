//! A result line: `name value\n`, the value with three decimals.

use core::fmt::{self, Write};

use crate::Platform;

/// Longest line: a name of ours (under 40 bytes), a space, 2^128 in digits, the decimals.
const LINE_BYTES: usize = 96;

/// A line that is put together before it is written, so that it costs one write (in a guest: one
/// exit).
struct Line {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        let room = self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// Writes `name numerator/denominator`, rounded down to thousandths.
///
/// In integers, because printing a float takes more code than all of the work does, and a guest
/// carries it in its image.
pub fn ratio(platform: &mut dyn Platform, name: &str, numerator: u128, denominator: u128) {
    let thousandths = numerator.saturating_mul(1000) / denominator.max(1);
    let mut line = Line {
        bytes: [0; LINE_BYTES],
        used: 0,
    };
    let (whole, rest) = (thousandths / 1000, thousandths % 1000);
    // Our names are short, so that a line always fits: the tests print the longest number.
    if writeln!(line, "{name} {whole}.{rest:03}").is_ok() {
        platform.write(&line.bytes[..line.used]);
    }
}

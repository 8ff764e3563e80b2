//! Standard output for people: a reader that has seen enough (`| head`) is no failure.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes `text` to standard output; its colours only go to a terminal.
///
/// # Errors
/// Those of `man 2 write`, save that a pipe nobody reads any more takes everything.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut output = anstream::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

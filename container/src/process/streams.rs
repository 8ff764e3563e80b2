//! Standard streams of a container's command.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

/// What a command reads and writes; the caller's own streams where nothing is given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Streams<'a> {
    /// Standard input.
    pub input: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub output: Option<BorrowedFd<'a>>,
    /// Standard error.
    pub error: Option<BorrowedFd<'a>>,
}

impl Streams<'_> {
    /// Makes them the standard streams of the calling process: init's, which does not allocate.
    pub(crate) fn take(&self) -> Result<(), Errno> {
        // Copies first, above the three: an old stream may be among the new ones, in another place.
        let copy = |stream: Option<BorrowedFd<'_>>| -> Result<Option<OwnedFd>, Errno> {
            let copied = stream.map(|fd| fd.try_clone_to_owned()).transpose();
            copied.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EBADF)))
        };
        let (input, output, error) = (copy(self.input)?, copy(self.output)?, copy(self.error)?);
        input.map_or(Ok(()), dup2_stdin)?;
        output.map_or(Ok(()), dup2_stdout)?;
        error.map_or(Ok(()), dup2_stderr)
    }
}

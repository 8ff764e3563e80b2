//! Standard streams of a container's command.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::sys::fstat;

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
    /// Which of them are pipes, by the names that `/proc/PID/fd` has for those; empty when none is.
    pub(crate) fn pipes(&self) -> Vec<String> {
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let own = [input.as_fd(), output.as_fd(), error.as_fd()];
        let given = [self.input, self.output, self.error];
        let mut names = Vec::new();
        for (index, (given, own)) in given.into_iter().zip(own).enumerate() {
            let found = fstat(given.unwrap_or(own));
            if let Ok(pipe) = found
                && pipe.st_mode & libc::S_IFMT == libc::S_IFIFO
            {
                names.resize(index, String::new());
                names.push(format!("pipe:[{}]", pipe.st_ino));
            }
        }
        names
    }

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

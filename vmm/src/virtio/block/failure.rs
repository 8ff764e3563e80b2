//! What the host could not do, told where it can be mended: the guest learns only of an I/O error.

use super::Medium;
use std::io;
use thiserror::Error;

/// What a disk's medium was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Discard, or write zeros.
    Zero,
    /// Write what is not on the storage yet.
    Flush,
}

/// One failure of the host's.
#[derive(Debug, Error)]
#[error(
    "cannot {} the disk {disk} (sector {sector}): {source}; the guest got an I/O error; {}",
    operation.verb(),
    remedy(source)
)]
pub struct DiskFailure {
    /// The medium's name.
    pub disk: String,
    /// What was tried.
    pub operation: DiskOperation,
    /// Where, in units of 512 bytes; of a flush, whatever the guest's driver says.
    pub sector: u64,
    /// The system call's error; `UnexpectedEof` when the file was made shorter.
    pub source: io::Error,
}

impl DiskOperation {
    fn verb(self) -> &'static str {
        match self {
            DiskOperation::Read => "read",
            DiskOperation::Write => "write to",
            DiskOperation::Zero => "zero a part of",
            DiskOperation::Flush => "flush what was written to",
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match (error.raw_os_error(), error.kind()) {
        (Some(libc::ENOSPC | libc::EDQUOT), _) => {
            "make room where the file is, and have the guest try again"
        }
        (_, io::ErrorKind::UnexpectedEof) => {
            "somebody made the file shorter; end the machine, and give it a copy that is whole"
        }
        (Some(libc::EIO), _) => {
            "what was not flushed before is lost; look for the storage's error in the host's `dmesg`, and give a new machine a copy"
        }
        (Some(libc::EFBIG), _) => "raise the limit on the size of files (`ulimit -f`)",
        _ => "mend that on the host, and have the guest try again",
    }
}

/// Who is told.
type Tell = dyn Fn(&DiskFailure) + Send;

/// Which failures were told already: the same one may come with each request.
#[derive(Default)]
pub(super) struct Failures {
    tell: Option<Box<Tell>>,
    told: Vec<(DiskOperation, Option<i32>, io::ErrorKind)>,
}

impl Failures {
    pub fn told_to(tell: impl Fn(&DiskFailure) + Send + 'static) -> Failures {
        Failures {
            tell: Some(Box::new(tell)),
            told: Vec::new(),
        }
    }

    /// Tells of a failure, unless one of its kind was told.
    pub fn add(
        &mut self,
        medium: &dyn Medium,
        operation: DiskOperation,
        sector: u64,
        source: io::Error,
    ) {
        let kind = (operation, source.raw_os_error(), source.kind());
        let Some(tell) = self.tell.as_ref().filter(|_| !self.told.contains(&kind)) else {
            return;
        };
        self.told.push(kind);
        tell(&DiskFailure {
            disk: medium.name(),
            operation,
            sector,
            source,
        });
    }
}

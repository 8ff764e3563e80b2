//! What the host wants done: the records of the specification, sorted.

use crate::Failure;
use crate::sys::Errno;
use alloc::vec::Vec;
use core::ffi::CStr;
use ringside_abi::session::spec;

/// One command and the world that it wants; everything points into the specification's text.
pub struct Task<'a> {
    pub modules: Vec<&'a CStr>,
    pub channel: &'a CStr,
    pub image: Option<&'a CStr>,
    pub hostname: Option<&'a CStr>,
    pub address: Option<&'a CStr>,
    pub gateway: Option<&'a CStr>,
    pub directory: &'a CStr,
    pub program: &'a CStr,
    pub arguments: Vec<&'a CStr>,
    pub environment: Vec<&'a CStr>,
    /// Rows and columns.
    pub terminal: Option<(u16, u16)>,
}

impl<'a> Task<'a> {
    /// Reads a specification: tag, text, NUL.
    pub fn read(file: &'a [u8]) -> Result<Task<'a>, Failure> {
        let mut task = Task {
            modules: Vec::new(),
            channel: c"/dev/hvc0",
            image: None,
            hostname: None,
            address: None,
            gateway: None,
            directory: c"/",
            program: c"",
            arguments: Vec::new(),
            environment: Vec::new(),
            terminal: None,
        };
        for record in file.split_inclusive(|&byte| byte == 0) {
            let bad = || Failure::new("use the record", record, Errno::INVALID);
            let (&tag, text) = record.split_first().ok_or_else(bad)?;
            let text = CStr::from_bytes_with_nul(text).map_err(|_| bad())?;
            match tag {
                spec::MODULE => task.modules.push(text),
                spec::CHANNEL => task.channel = text,
                spec::IMAGE => task.image = Some(text),
                spec::HOSTNAME => task.hostname = Some(text),
                spec::ADDRESS => task.address = Some(text),
                spec::GATEWAY => task.gateway = Some(text),
                spec::DIRECTORY => task.directory = text,
                spec::PROGRAM => task.program = text,
                spec::ARGUMENT => task.arguments.push(text),
                spec::VARIABLE => task.environment.push(text),
                spec::TERMINAL => task.terminal = Some(size(text).ok_or_else(bad)?),
                _ => return Err(bad()),
            }
        }
        Ok(task)
    }
}

/// `24 80`
fn size(text: &CStr) -> Option<(u16, u16)> {
    let (rows, columns) = text.to_str().ok()?.split_once(' ')?;
    Some((rows.parse().ok()?, columns.parse().ok()?))
}

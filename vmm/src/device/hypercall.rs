//! The hypercall port: *paravirtualization*, the guest that knows and asks.
//!
//! The guest writes the address of a [`Request`]; everything in the request is the guest's choice,
//! so every address, length and number is checked before it is used.

use super::Device;
use super::SharedOutput;
use crate::memory::{Gpa, GuestMemory, MemoryError};
use crate::sys::{code, stream};
use crate::trap::{Reply, Stop, Width};
use ringside_abi::hypercall::{Number, RING_SLOTS, Request, Ring, errno};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::offset_of;
use std::sync::{Arc, Mutex};

/// Where a guest's standard streams lead.
pub struct Streams {
    /// What [`Number::Read`] reads.
    pub input: Box<dyn Read + Send>,
    /// What [`Number::Write`] and the serial port write to.
    pub output: Box<dyn Write + Send>,
}

impl Streams {
    /// This process's own, unbuffered.
    pub fn inherit() -> Streams {
        Streams {
            input: Box::new(Input),
            output: Box::new(Output),
        }
    }

    /// No input, and output into a buffer that the returned handle shares.
    pub fn captured() -> (Streams, Arc<Mutex<Vec<u8>>>) {
        let (output, buffer) = SharedOutput::captured();
        (
            Streams {
                input: Box::new(io::empty()),
                output: Box::new(output),
            },
            buffer,
        )
    }
}

// Descriptors 0 and 1 without the standard library's buffers and locks: the guest's writes are buffered
// already, and a read that a signal interrupts must come back.

struct Input;

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        // Not before the guest's first instruction: it takes as long as a third of the set-up.
        code::forget_set_up();
        stream::read_stdin(bytes)
    }
}

struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stream::write_stdout(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The device behind the hypercall port.
pub struct Hypercalls {
    memory: GuestMemory,
    input: Box<dyn Read + Send>,
    output: SharedOutput,
}

const _: () = assert!(size_of::<Request>() == size_of::<[u64; 6]>(), "six words");

/// The most that one request moves: a longer one is served in part, as `man 2 write` may do.
const CHUNK: u64 = 64 << 10;

impl Hypercalls {
    /// Serves the guest that has `memory`.
    pub fn new(
        memory: GuestMemory,
        input: Box<dyn Read + Send>,
        output: SharedOutput,
    ) -> Hypercalls {
        Hypercalls {
            memory,
            input,
            output,
        }
    }

    /// Serves the request at `address`.
    fn call(&mut self, address: u64) -> Reply {
        let bad = Reply::Stop(Stop::BadRequest { address });
        if !address.is_multiple_of(align_of::<Request>() as u64) {
            return bad;
        }
        let Ok([number, a, b, c, d, _]) = self.memory.read_value::<[u64; 6]>(Gpa(address)) else {
            return bad;
        };
        let result = match Number::from_raw(number) {
            Some(Number::Null) => Ok(0),
            Some(Number::Clock) => Ok(stream::monotonic_ns()),
            Some(Number::Write) => self.write_out(a, b),
            Some(Number::Read) => self.read_in(a, b),
            Some(Number::Fault) => {
                return Reply::Stop(Stop::GuestFault {
                    vector: a as u8,
                    error_code: b,
                    rip: c,
                    cr2: d,
                });
            }
            Some(Number::Release) => self.release(a, b),
            Some(Number::Balloon) => Ok(self.memory.balloon().report(a)),
            Some(Number::Ring) => self.ring(a),
            None => Err(errno::ENOSYS),
        };
        let result = result.map_or_else(|error| -error, |value| value as i64);
        match self
            .memory
            .write_value(Gpa(address + offset_of!(Request, result) as u64), result)
        {
            Ok(()) => Reply::Resume,
            Err(_) => bad,
        }
    }

    /// A buffer for the range, if all of it is memory.
    fn buffer(&self, address: u64, length: u64) -> Result<Vec<u8>, i64> {
        match self.memory.contains(Gpa(address), length) {
            true => Ok(vec![0; length.min(CHUNK) as usize]),
            false => Err(errno::EFAULT),
        }
    }

    fn write_out(&mut self, address: u64, length: u64) -> Result<u64, i64> {
        let mut bytes = self.buffer(address, length)?;
        self.memory
            .read(Gpa(address), &mut bytes)
            .map_err(|_| errno::EFAULT)?;
        match self.output.write(&bytes) {
            Ok(count) => Ok(count as u64),
            Err(error) => Err(error_number(&error)),
        }
    }

    fn read_in(&mut self, address: u64, length: u64) -> Result<u64, i64> {
        let mut bytes = self.buffer(address, length)?;
        let count = self
            .input
            .read(&mut bytes)
            .map_err(|error| error_number(&error))?;
        self.memory
            .write(Gpa(address), &bytes[..count])
            .map_err(|_| errno::EFAULT)?;
        Ok(count as u64)
    }

    fn ring(&mut self, address: u64) -> Result<u64, i64> {
        let (first, pieces) = ring_pieces(&self.memory, address)?;
        let mut served = 0;
        let result = pieces.iter().try_for_each(|&[address, length]| {
            if length > CHUNK {
                return Err(errno::EINVAL);
            }
            let mut bytes = self.buffer(address, length)?;
            self.memory
                .read(Gpa(address), &mut bytes)
                .map_err(|_| errno::EFAULT)?;
            self.output
                .write_all(&bytes)
                .map_err(|error| error_number(&error))?;
            served += 1;
            Ok(())
        });
        let at = Gpa(address + offset_of!(Ring, served) as u64);
        self.memory
            .write_value(at, first.wrapping_add(served))
            .map_err(|_| errno::EFAULT)?;
        result.map(|()| served)
    }

    fn release(&mut self, address: u64, length: u64) -> Result<u64, i64> {
        match self.memory.release(Gpa(address), length) {
            Ok(()) => Ok(length),
            Err(MemoryError::Outside { .. }) => Err(errno::EFAULT),
            Err(_) => Err(errno::EINVAL),
        }
    }
}

/// What is filled and not served in the ring at `address`: the number of the first piece, and where
/// each lies.
///
/// # Errors
/// `EFAULT` for a ring that is not all in memory, `EINVAL` for counters that cannot be.
pub(crate) fn ring_pieces(memory: &GuestMemory, address: u64) -> Result<(u64, Vec<[u64; 2]>), i64> {
    if !memory.contains(Gpa(address), size_of::<Ring>() as u64) {
        return Err(errno::EFAULT);
    }
    let word = |offset: usize| {
        let at = Gpa(address + offset as u64);
        memory.read_value::<u64>(at).map_err(|_| errno::EFAULT)
    };
    let (filled, served) = (
        word(offset_of!(Ring, filled))?,
        word(offset_of!(Ring, served))?,
    );
    // Both count up for ever: their difference holds also when one wrapped.
    let count = filled.wrapping_sub(served);
    if count > RING_SLOTS as u64 {
        return Err(errno::EINVAL);
    }
    let pieces = (0..count).map(|index| {
        let slot = (served.wrapping_add(index) % RING_SLOTS as u64) as usize;
        let at = offset_of!(Ring, slots) + slot * size_of::<[u64; 2]>();
        Ok([word(at)?, word(at + 8)?])
    });
    Ok((served, pieces.collect::<Result<_, i64>>()?))
}

fn error_number(error: &io::Error) -> i64 {
    match error.kind() {
        ErrorKind::Interrupted => errno::EINTR,
        ErrorKind::InvalidInput => errno::EINVAL,
        _ => errno::EIO,
    }
}

impl Device for Hypercalls {
    fn read(&mut self, _: u64, width: Width) -> Reply {
        Reply::Value(width.mask())
    }

    fn write(&mut self, offset: u64, width: Width, value: u64) -> Reply {
        match (offset, width) {
            (0, Width::Double) => self.call(value),
            // Half an address is no address.
            _ => Reply::Stop(Stop::BadRequest { address: value }),
        }
    }
}

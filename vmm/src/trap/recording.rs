//! A guest's exits in a file, and their replay without KVM.
//!
//! Dispatch has no KVM in it, so exits that were recorded once can be put before it again: on
//! another machine, under a debugger, after a change. A recording is lines of JSON: a
//! [header](Header), then a [record](Record) for each access, with what the devices read from guest
//! memory and from standard input meanwhile. A replay must decide the same about each and write the
//! same output.

use super::{Exit, Observer, Reply, Stop, Width, dispatch};
use crate::device::ring_pieces;
use crate::device::{Buses, Streams};
use crate::memory::{Gpa, GuestMemory, MemoryError};
use kvm_bindings::kvm_regs;
use ringside_abi::hypercall::{Number, Request, Ring};
use ringside_abi::port;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// The first line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always [`FORMAT`].
    pub format: String,
    /// Which program it is of.
    pub program: String,
    /// Guest-physical memory, bytes.
    pub memory_bytes: u64,
}

/// Names the format and its version.
pub const FORMAT: &str = "ringside trap log 1";

/// One access, and what is needed to dispatch it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The exit.
    pub exit: Exit,
    /// What guest memory held where devices read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Patch>,
    /// What standard input gave, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub input: String,
    /// What dispatch decided.
    pub reply: Reply,
}

/// Bytes at a guest-physical address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// Guest-physical.
    pub address: u64,
    /// The bytes, in hexadecimal digits.
    pub bytes: String,
}

/// Writes a guest's exits as they happen.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    out: W,
    memory: Vec<Patch>,
    failed: Option<io::Error>,
}

/// The most bytes of one hypercall that devices read at once.
const PAYLOAD_MAX: u64 = 64 << 10;

impl<W: Write> Recorder<W> {
    /// Begins a recording of a program with so much memory.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(mut out: W, program: &str, memory_bytes: u64) -> io::Result<Recorder<W>> {
        let header = Header {
            format: FORMAT.to_owned(),
            program: program.to_owned(),
            memory_bytes,
        };
        serde_json::to_writer(&mut out, &header)?;
        out.write_all(b"\n")?;
        Ok(Recorder {
            out,
            memory: Vec::new(),
            failed: None,
        })
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// The first error that the writer had; the recording ends there.
    pub fn finish(mut self) -> io::Result<()> {
        match self.failed {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    /// Notes what is in guest memory, if it is there.
    fn note(&mut self, memory: &GuestMemory, address: u64, bytes: u64) {
        let mut held = vec![0; bytes as usize];
        if memory.read(Gpa(address), &mut held).is_ok() {
            let bytes = to_hex(&held);
            self.memory.push(Patch { address, bytes });
        }
    }
}

/// The request that an exit makes, if it is a hypercall with a request in memory.
fn request(exit: Exit, memory: &GuestMemory) -> Option<(u64, [u64; 6])> {
    match exit {
        Exit::IoOut {
            port: port::HYPERCALL,
            width: Width::Double,
            value,
        } => Some((value.into(), memory.read_value(Gpa(value.into())).ok()?)),
        _ => None,
    }
}

impl<W: Write> Observer for Recorder<W> {
    const WANTS_REGISTERS: bool = false;

    fn exited(&mut self, exit: Exit, _: &kvm_regs, memory: &GuestMemory) {
        self.memory.clear();
        let Some((address, [number, from, length, ..])) = request(exit, memory) else {
            return;
        };
        self.note(memory, address, size_of::<Request>() as u64);
        if Number::from_raw(number) == Some(Number::Write) {
            self.note(memory, from, length.min(PAYLOAD_MAX));
        }
        if Number::from_raw(number) == Some(Number::Ring)
            && let Ok((_, pieces)) = ring_pieces(memory, from)
        {
            self.note(memory, from, size_of::<Ring>() as u64);
            for [address, length] in pieces {
                self.note(memory, address, length.min(PAYLOAD_MAX));
            }
        }
    }

    fn handled(&mut self, exit: Exit, reply: Reply, memory: &GuestMemory) {
        let mut input = Vec::new();
        if let Some((_, [number, to, .., result])) = request(exit, memory)
            && Number::from_raw(number) == Some(Number::Read)
            && let Ok(count) = usize::try_from(result as i64)
        {
            input.resize(count.min(PAYLOAD_MAX as usize), 0);
            if memory.read(Gpa(to), &mut input).is_err() {
                input.clear();
            }
        }
        let record = Record {
            exit,
            memory: std::mem::take(&mut self.memory),
            input: to_hex(&input),
            reply,
        };
        if self.failed.is_none() {
            let written = serde_json::to_writer(&mut self.out, &record).map_err(io::Error::from);
            let written = written.and_then(|()| self.out.write_all(b"\n"));
            self.failed = written.err();
        }
    }
}

/// Why a recording cannot be replayed, or was not repeated.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("cannot read the recording: {0}")]
    Unreadable(#[from] io::Error),
    /// A line that is no record.
    #[error("line {line} of the recording is no record: {source}; record the guest again")]
    Malformed {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another format.
    #[error("the recording is in the format `{format}`, and this program reads `{FORMAT}`")]
    Format {
        /// What it says of itself.
        format: String,
    },
    /// Of another program.
    #[error(
        "the recording is of `{recorded}`, not of `{wanted}`; name that program, or another recording"
    )]
    Program {
        /// What it says.
        recorded: String,
        /// What was asked for.
        wanted: String,
    },
    /// No header at all.
    #[error("the recording is empty")]
    Empty,
    /// Guest memory of the size that the header says, or a patch outside it.
    #[error("line {line} of the recording: {source}")]
    Memory {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: MemoryError,
    },
    /// Digits that are none.
    #[error("line {line} of the recording has bytes that are not pairs of hexadecimal digits")]
    Hex {
        /// From 1.
        line: usize,
    },
    /// Dispatch decided otherwise than it did.
    #[error(
        "line {line} of the recording: {exit} was answered by {recorded:?}, and is now by {replayed:?}"
    )]
    Diverged {
        /// From 1.
        line: usize,
        /// The exit.
        exit: Exit,
        /// What dispatch decided then.
        recorded: Box<Reply>,
        /// What it decides now.
        replayed: Box<Reply>,
    },
}

/// A replay that went as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How many accesses there were.
    pub accesses: u64,
    /// What the guest wrote.
    pub output: Vec<u8>,
    /// How it ended, if the recording goes so far.
    pub stop: Option<Stop>,
}

/// Standard input that is filled as the replay goes on.
struct Fed(Arc<Mutex<Vec<u8>>>);

impl Read for Fed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut input = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = input.len().min(into.len());
        into[..count].copy_from_slice(&input[..count]);
        input.drain(..count);
        Ok(count)
    }
}

/// Puts the recorded exits of `program` before dispatch again.
///
/// # Errors
/// A recording that cannot be read (it is not trusted in any way), or the first answer that differs.
pub fn replay(recording: impl BufRead, program: &str) -> Result<Replayed, ReplayError> {
    let mut lines = recording.lines().enumerate();
    let (_, header) = lines.next().ok_or(ReplayError::Empty)?;
    let malformed = |line: usize| move |source| ReplayError::Malformed { line, source };
    let header: Header = serde_json::from_str(&header?).map_err(malformed(1))?;
    if header.format != FORMAT {
        let format = header.format;
        return Err(ReplayError::Format { format });
    }
    if header.program != program {
        return Err(ReplayError::Program {
            recorded: header.program,
            wanted: program.to_owned(),
        });
    }
    let in_memory = |line: usize| move |source| ReplayError::Memory { line, source };
    let memory = GuestMemory::new(header.memory_bytes).map_err(in_memory(1))?;
    let (mut streams, output) = Streams::captured();
    let input = Arc::new(Mutex::new(Vec::new()));
    streams.input = Box::new(Fed(input.clone()));
    let buses = Buses::bare(&memory, streams);

    let mut replayed = Replayed {
        accesses: 0,
        output: Vec::new(),
        stop: None,
    };
    for (index, text) in lines {
        let line = index + 1;
        let record: Record = serde_json::from_str(&text?).map_err(malformed(line))?;
        for patch in &record.memory {
            let bytes = from_hex(&patch.bytes).ok_or(ReplayError::Hex { line })?;
            let written = memory.write(Gpa(patch.address), &bytes);
            written.map_err(in_memory(line))?;
        }
        let fed = from_hex(&record.input).ok_or(ReplayError::Hex { line })?;
        *input.lock().unwrap_or_else(PoisonError::into_inner) = fed;
        let reply = dispatch(record.exit, &buses);
        if reply != record.reply {
            return Err(ReplayError::Diverged {
                line,
                exit: record.exit,
                recorded: Box::new(record.reply),
                replayed: Box::new(reply),
            });
        }
        replayed.accesses += 1;
        if let Reply::Stop(stop) = reply {
            replayed.stop = Some(stop);
        }
    }
    drop(buses);
    replayed.output = std::mem::take(&mut *output.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(replayed)
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digits = |pair| std::str::from_utf8(pair).ok();
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(digits(pair)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests;

//! One connection: a stream socket of the host's on the one side, packets on the other.
//!
//! *Credit* keeps either side from sending what the other has no room for: each says how much room
//! it has in all, and how much it has passed on. What was sent and not passed on is what fills it.
//!
//! ```text
//!   guest ── packets ──▶ pending (room: 256 KiB) ── write ──▶ host's socket
//!   guest ◀─ packets, as far as the guest's room goes ◀─ read ── host's socket
//! ```

use super::packet::{Header, NO_RECEIVE, NO_SEND};
use crate::sys::vectored;
use crate::virtio::Buffers;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::num::Wrapping;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// How much of the guest's is kept while the host's socket is full.
pub const ROOM: u32 = 256 << 10;

/// The two ports that tell connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// On the host's side.
    pub host_port: u32,
    /// On the guest's.
    pub guest_port: u32,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Whether the guest granted it, or asked for it.
    pub open: bool,
    /// Whether the device has it on its list of those that have something for the guest.
    pub listed: bool,
    guest_room: u32,
    guest_forwarded: Wrapping<u32>,
    sent: Wrapping<u32>,
    received: Wrapping<u32>,
    forwarded: Wrapping<u32>,
    announced: Wrapping<u32>,
    pending: VecDeque<u8>,
    /// The directions that the guest ended: [`NO_RECEIVE`], [`NO_SEND`].
    ended: u32,
    /// The host's socket has no more, and the guest was told.
    host_ended: bool,
    /// The host's program was told that the guest sends no more.
    shut: bool,
}

/// What came of reading for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes.
    Bytes(usize),
    /// None now.
    Nothing,
    /// There will be none.
    End,
}

impl Connection {
    /// A connection over a socket that does not block.
    pub fn new(stream: UnixStream) -> Connection {
        Connection {
            stream,
            open: false,
            listed: false,
            guest_room: 0,
            guest_forwarded: Wrapping(0),
            sent: Wrapping(0),
            received: Wrapping(0),
            forwarded: Wrapping(0),
            announced: Wrapping(0),
            pending: VecDeque::new(),
            ended: 0,
            host_ended: false,
            shut: false,
        }
    }

    /// Notes the credit that every packet of the guest's carries.
    pub fn note(&mut self, header: &Header) {
        self.guest_room = header.room;
        self.guest_forwarded = Wrapping(header.forwarded);
    }

    /// How many bytes the guest has room for.
    pub fn credit(&self) -> usize {
        let on_the_way = (self.sent - self.guest_forwarded).0;
        self.guest_room.saturating_sub(on_the_way) as usize
    }

    /// Whether there may be something to read for the guest.
    pub fn wants_to_send(&self) -> bool {
        self.open && !self.host_ended && self.ended & NO_RECEIVE == 0 && self.credit() > 0
    }

    /// Fills the credit fields of a packet to the guest.
    pub fn announce(&mut self, header: &mut Header) {
        self.announced = self.forwarded;
        (header.room, header.forwarded) = (ROOM, self.forwarded.0);
    }

    /// Whether the guest should hear that there is room again.
    pub fn owes_credit(&self) -> bool {
        self.open && (self.forwarded - self.announced).0 >= ROOM / 4
    }

    /// Reads from the host's socket for the guest, within its credit.
    ///
    /// # Errors
    /// The socket's.
    pub fn take(&mut self, into: &mut Buffers<'_>) -> io::Result<Taken> {
        let room = into.bytes().min(self.credit());
        let mut into = into.take(room).unwrap_or_default();
        match vectored::read(self.stream.as_fd(), into.slices()) {
            Ok(0) => {
                self.host_ended = true;
                Ok(Taken::End)
            }
            Ok(count) => {
                self.sent += Wrapping(count as u32);
                Ok(Taken::Bytes(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Taken::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Passes the guest's bytes on, or keeps them.
    ///
    /// # Errors
    /// The socket's; `InvalidData` when the guest sends more than it has credit for, or after it
    /// said that it would not.
    pub fn give(&mut self, from: &mut Buffers<'_>) -> io::Result<()> {
        self.received += Wrapping(from.bytes() as u32);
        let kept = (self.received - self.forwarded).0;
        if kept > ROOM || from.bytes() > ROOM as usize || self.ended & NO_SEND != 0 || !self.open {
            return Err(ErrorKind::InvalidData.into());
        }
        while self.pending.is_empty() && from.bytes() > 0 {
            match vectored::write(self.stream.as_fd(), from.slices()) {
                Ok(count) => {
                    self.forwarded += Wrapping(count as u32);
                    let _ = from.take(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut rest = vec![0; from.bytes()];
        from.read(&mut rest);
        self.pending.extend(rest);
        Ok(())
    }

    /// Passes on what was kept.
    ///
    /// # Errors
    /// The socket's.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.stream.write(self.pending.make_contiguous()) {
                Ok(count) => {
                    self.pending.drain(..count);
                    self.forwarded += Wrapping(count as u32);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.ended & NO_SEND != 0 && !self.shut {
            // Once: it is an event of its own. Fails when the other side is gone and need not know.
            self.shut = true;
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// The guest ends directions.
    pub fn end(&mut self, directions: u32) {
        let before = self.ended;
        self.ended |= directions & (NO_RECEIVE | NO_SEND);
        if self.ended & !before & NO_RECEIVE != 0 {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
    }

    /// Whether nothing is left to do for it.
    pub fn is_over(&self) -> bool {
        let silent = self.host_ended || self.ended & NO_RECEIVE != 0;
        silent && self.ended & NO_SEND != 0 && self.pending.is_empty()
    }

    /// Answers the host's program that asked for it.
    ///
    /// # Errors
    /// The socket's.
    pub fn grant(&mut self, host_port: u32) -> io::Result<()> {
        self.open = true;
        self.stream
            .write_all(format!("OK {host_port}\n").as_bytes())
    }
}

//! A packet's header (virtio 1.2, 5.10.6).

use crate::virtio::Buffers;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 44;

/// Streams, the only type of socket there is here.
pub const STREAM: u16 = 1;

/// "I will receive no more", in a shutdown's flags.
pub const NO_RECEIVE: u32 = 1;
/// "I will send no more".
pub const NO_SEND: u32 = 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    /// Asks for a connection.
    Request = 1,
    /// Grants it.
    Response = 2,
    /// Refuses it, or ends it at once; nothing is answered.
    Reset = 3,
    /// Ends one direction, or both.
    Shutdown = 4,
    /// Carries bytes.
    Data = 5,
    /// Says how much room there is.
    Credit = 6,
    /// Asks how much.
    CreditRequest = 7,
}

impl Operation {
    fn from_raw(raw: u16) -> Option<Operation> {
        use Operation::*;
        [
            Request,
            Response,
            Reset,
            Shutdown,
            Data,
            Credit,
            CreditRequest,
        ]
        .into_iter()
        .find(|&operation| operation as u16 == raw)
    }
}

/// A header. *Source* is who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which machine sends it,
    pub source_cid: u64,
    /// and which is to get it.
    pub destination_cid: u64,
    /// From which port,
    pub source_port: u32,
    /// to which.
    pub destination_port: u32,
    /// Bytes behind the header.
    pub bytes: u32,
    /// The type of socket.
    pub kind: u16,
    /// What for; `None` is nothing that we know.
    pub operation: Option<Operation>,
    /// Of a shutdown.
    pub flags: u32,
    /// How much room the sender has for what it has not passed on,
    pub room: u32,
    /// and how much it has passed on since the connection began.
    pub forwarded: u32,
}

impl Header {
    /// Reads one; `None` if there are not as many bytes.
    pub fn read(from: &mut Buffers<'_>) -> Option<Header> {
        from.read_array().map(Header::from_bytes)
    }

    /// From what lies in memory.
    pub fn from_bytes(raw: [u8; HEADER_BYTES]) -> Header {
        let mut at = 0;
        let mut next = |bytes: usize| {
            let mut value = [0; 8];
            value[..bytes].copy_from_slice(&raw[at..at + bytes]);
            at += bytes;
            u64::from_le_bytes(value)
        };
        Header {
            source_cid: next(8),
            destination_cid: next(8),
            source_port: next(4) as u32,
            destination_port: next(4) as u32,
            bytes: next(4) as u32,
            kind: next(2) as u16,
            operation: Operation::from_raw(next(2) as u16),
            flags: next(4) as u32,
            room: next(4) as u32,
            forwarded: next(4) as u32,
        }
    }

    /// As it lies in memory.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        let operation = self.operation.map_or(0, |operation| operation as u16);
        let fields = [
            &self.source_cid.to_le_bytes()[..],
            &self.destination_cid.to_le_bytes(),
            &self.source_port.to_le_bytes(),
            &self.destination_port.to_le_bytes(),
            &self.bytes.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &operation.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.room.to_le_bytes(),
            &self.forwarded.to_le_bytes(),
        ];
        raw.copy_from_slice(&fields.concat());
        raw
    }
}

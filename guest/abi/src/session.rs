//! What the init of a Linux guest and its VMM say to each other, over any stream of bytes between
//! the two (a virtio console, vsock, a serial port).
//!
//! ```text
//!   0      1      2             4
//!   ┌──────┬──────┬─────────────┬───────────────────┐
//!   │ kind │  0   │ length (LE) │ length bytes …    │      one frame
//!   └──────┴──────┴─────────────┴───────────────────┘
//!
//!   guest                                   host
//!   Ready ────────────────────────────────▶          user space is there
//!   Room n ───────────────────────────────▶          so many bytes more of standard input fit
//!          ◀─────────────────────────────── Input, InputEnd, Signal, Resize
//!   Output, Error ────────────────────────▶
//!   Exited n | Killed n | Failed text ────▶          the last word
//!          ◀─────────────────────────────── Goodbye  it was heard: the guest may reset
//! ```
//!
//! The host sends no more input than the guest has made room for, so that a signal never waits
//! behind input that nobody reads.

/// Bytes before a frame's payload.
pub const HEADER: usize = 4;
/// A payload's bytes at most.
pub const PAYLOAD: usize = 16 << 10;

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Guest: user space runs.
    Ready = 1,
    /// Guest: what the command wrote to standard output.
    Output = 2,
    /// Guest: what the command wrote to standard error.
    Error = 3,
    /// Guest: so many bytes (u32) more of input are welcome.
    Room = 4,
    /// Guest: the command ended with this status (u32).
    Exited = 5,
    /// Guest: this signal (u32) ended the command.
    Killed = 6,
    /// Guest: the command could not be started: its status (u32; 126, 127 or 125), then why, as text.
    Failed = 7,
    /// Host: standard input.
    Input = 16,
    /// Host: standard input ends here.
    InputEnd = 17,
    /// Host: a signal (u32) for the command.
    Signal = 18,
    /// Host: the terminal's size: rows and columns (u16 each).
    Resize = 19,
    /// Host: the last word was heard.
    Goodbye = 20,
}

impl Kind {
    /// The kind of that number, if there is one.
    pub fn from_raw(raw: u8) -> Option<Kind> {
        const ALL: [Kind; 12] = [
            Kind::Ready,
            Kind::Output,
            Kind::Error,
            Kind::Room,
            Kind::Exited,
            Kind::Killed,
            Kind::Failed,
            Kind::Input,
            Kind::InputEnd,
            Kind::Signal,
            Kind::Resize,
            Kind::Goodbye,
        ];
        ALL.into_iter().find(|&kind| kind as u8 == raw)
    }

    /// The header of a frame of that kind; `length` is at most [`PAYLOAD`].
    pub fn header(self, length: u16) -> [u8; HEADER] {
        let [low, high] = length.to_le_bytes();
        [self as u8, 0, low, high]
    }
}

/// A frame at the start of `bytes`: its kind, its payload and its whole length; `Ok(None)` as long as
/// there is only a part of it.
///
/// # Errors
/// [`NotAFrame`]: what is there cannot become a frame.
#[expect(clippy::type_complexity, reason = "a frame and where it ends")]
pub fn first(bytes: &[u8]) -> Result<Option<(Kind, &[u8], usize)>, NotAFrame> {
    let Some((&[raw, zero, low, high], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_le_bytes([low, high]));
    match Kind::from_raw(raw) {
        Some(kind) if zero == 0 && length <= PAYLOAD => Ok(rest
            .get(..length)
            .map(|payload| (kind, payload, HEADER + length))),
        _ => Err(NotAFrame),
    }
}

/// The other side does not speak this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAFrame;

/// A payload's number.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_le_bytes)
}

/// What the guest's init is told in the file [`SPEC`](spec::SPEC) of its initramfs: records, each a tag, a text
/// and a NUL.
pub mod spec {
    /// Where the file is.
    pub const SPEC: &str = "/ringside/spec";
    /// A kernel module's file in the initramfs; they are loaded in this order.
    pub const MODULE: u8 = b'm';
    /// The stream to the host: `vsock:PORT`, or a device such as `/dev/hvc0`.
    pub const CHANNEL: u8 = b'c';
    /// The block device with the read-only root, an EROFS.
    pub const IMAGE: u8 = b'i';
    /// The guest's name.
    pub const HOSTNAME: u8 = b'h';
    /// An address of the first network device: `10.0.0.2/24`.
    pub const ADDRESS: u8 = b'n';
    /// The address of its gateway.
    pub const GATEWAY: u8 = b'g';
    /// The working directory.
    pub const DIRECTORY: u8 = b'd';
    /// The program's file.
    pub const PROGRAM: u8 = b'p';
    /// An argument, the first being the program's name.
    pub const ARGUMENT: u8 = b'a';
    /// A variable of the environment, with its value.
    pub const VARIABLE: u8 = b'e';
    /// The command gets a terminal of so many rows and columns: `24 80`.
    pub const TERMINAL: u8 = b't';

    /// The records of a file, in order.
    pub fn records(file: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
        file.split(|&byte| byte == 0)
            .filter_map(|record| record.split_first())
            .map(|(&tag, text)| (tag, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_once_all_of_it_is_there() {
        let mut bytes = [0; HEADER + 3];
        bytes[..HEADER].copy_from_slice(&Kind::Output.header(3));
        bytes[HEADER..].copy_from_slice(b"abc");
        for part in 0..bytes.len() {
            assert_eq!(first(&bytes[..part]), Ok(None));
        }
        assert_eq!(first(&bytes), Ok(Some((Kind::Output, &b"abc"[..], 7))));
    }

    #[test]
    fn nonsense_is_no_frame() {
        assert_eq!(first(&[0, 0, 0, 0]), Err(NotAFrame));
        assert_eq!(first(&[Kind::Output as u8, 1, 0, 0]), Err(NotAFrame));
        assert_eq!(first(&[Kind::Output as u8, 0, 1, 0x40]), Err(NotAFrame));
    }

    #[test]
    fn records_are_tags_and_texts() {
        let records = spec::records(b"a/bin/true\0e\0\0dx\0");
        let all = [(b'a', &b"/bin/true"[..]), (b'e', b""), (b'd', b"x")];
        assert!(records.eq(all));
    }
}

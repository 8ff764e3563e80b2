//! The kernel's network configuration, spoken to in messages (`man 7 rtnetlink`): what moving an interface
//! into a container takes, and no more.
//!
//! ```text
//! length u32 │ type u16 │ flags u16 │ sequence u32 │ port u32 ║ body ║ length u16 │ type u16 │ value … ║ …
//! ╰─────────────────────── header ─────────────────────────╯           ╰────── attributes, by 4 ─────╯
//! ```

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const HEADER_BYTES: usize = 16;
/// A message of the kernel's is no larger.
const MOST_BYTES: usize = 1 << 16;

/// A message of the kernel's without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `RTM_…`.
    pub kind: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// A conversation about the network namespace in which it was begun.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Begins one in the caller's network namespace.
    ///
    /// # Errors
    /// `EMFILE` when the process has too many descriptors.
    pub fn open() -> Result<Self, Errno> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// All messages that the kernel has for a question.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&mut self, kind: u16, body: &[u8]) -> Result<Vec<Message>, Errno> {
        self.ask(kind, libc::NLM_F_DUMP as u16, body)
    }

    /// Has the kernel change something.
    ///
    /// # Errors
    /// The kernel's.
    pub fn change(&mut self, kind: u16, flags: i32, body: &[u8]) -> Result<(), Errno> {
        self.ask(kind, (flags | libc::NLM_F_ACK) as u16, body)
            .map(drop)
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Message>, Errno> {
        self.sequence += 1;
        let flags = flags | libc::NLM_F_REQUEST as u16;
        let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
        message.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut heard = Vec::new();
        let mut buffer = vec![0; MOST_BYTES];
        loop {
            let count = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if split(&buffer[..count], self.sequence, &mut heard)? {
                return Ok(heard);
            }
        }
    }
}

/// Takes the messages with number `sequence` apart; whether the last one was among them.
fn split(mut bytes: &[u8], sequence: u32, heard: &mut Vec<Message>) -> Result<bool, Errno> {
    while let Some(length) = number(bytes, 0) {
        let length = length as usize;
        let message = bytes.get(..length).filter(|it| it.len() >= HEADER_BYTES);
        let message = message.ok_or(Errno::EBADMSG)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        if number(message, 8) != Some(sequence) {
            continue;
        }
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        let body = &message[HEADER_BYTES..];
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => {
                let errno = number(body, 0).ok_or(Errno::EBADMSG)? as i32;
                return match errno {
                    0 => Ok(true),
                    errno => Err(Errno::from_raw(-errno)),
                };
            }
            _ => heard.push(Message {
                kind,
                body: body.to_vec(),
            }),
        }
    }
    Ok(false)
}

/// The number at a place, in the machine's own order.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Adds an attribute to a body.
pub fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(aligned(body.len()), 0);
}

/// The attributes that follow a body's first `skipped` bytes, up to the first that is none.
pub fn attributes(body: &[u8], skipped: usize) -> Vec<(u16, &[u8])> {
    let mut rest = body.get(aligned(skipped)..).unwrap_or_default();
    let mut all = Vec::new();
    while let [a, b, c, d, ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = rest.get(4..length) else {
            break;
        };
        all.push((u16::from_ne_bytes([*c, *d]), value));
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    all
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let mut body = vec![0; 8];
        attribute(&mut body, 3, b"eth0\0");
        attribute(&mut body, 28, &7u32.to_ne_bytes());
        assert_eq!(body.len() % 4, 0);
        assert_eq!(
            attributes(&body, 8),
            [(3, &b"eth0\0"[..]), (28, &7u32.to_ne_bytes()[..])]
        );
    }

    #[test]
    fn the_loopback_interface_is_there() {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.list(libc::RTM_GETLINK, &[0; 16]).unwrap();
        let is_loopback =
            |it: &Message| attributes(&it.body, 16).contains(&(libc::IFLA_IFNAME, &b"lo\0"[..]));
        assert!(links.iter().any(is_loopback));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_apart_or_refused(bytes: Vec<u8>, skipped in 0usize..40) {
            let _ = split(&bytes, 1, &mut Vec::new());
            let _ = attributes(&bytes, skipped);
        }
    }
}

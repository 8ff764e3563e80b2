//! The stream of frames between init and the host.

use crate::Failure;
use crate::sys::{self, Errno, Events, Fd, Poll};
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;
use ringside_abi::session::{self, HEADER, Kind, PAYLOAD};

/// How long the host gets to say that it has heard the last word.
const PATIENCE_MS: i32 = 5_000;
/// The context id of the host (`man 7 vsock`).
const HOST: u32 = 2;

/// An open stream, with what was read and is no whole frame yet.
pub struct Channel {
    fd: Fd,
    buffer: Vec<u8>,
    used: usize,
    outgoing: Vec<u8>,
}

impl Channel {
    /// Opens `vsock:PORT` or a device.
    pub fn open(name: &CStr) -> Result<Channel, Failure> {
        let failed = |errno| Failure::new("open the channel", name.to_bytes(), errno);
        let port = name
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("vsock:"));
        let fd = match port {
            Some(port) => {
                let port = port.parse().map_err(|_| failed(Errno::INVALID))?;
                sys::connect_vsock(HOST, port).map_err(failed)?
            }
            None => {
                let fd = sys::open_device(name).map_err(failed)?;
                sys::make_raw(fd); // a device that is no terminal is raw already
                fd
            }
        };
        Ok(Channel {
            fd,
            buffer: vec![0; HEADER + PAYLOAD],
            used: 0,
            outgoing: Vec::with_capacity(HEADER + PAYLOAD),
        })
    }

    /// What to wait on.
    pub fn fd(&self) -> Fd {
        self.fd
    }

    /// Sends one frame; waits until it is with the host.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Failure> {
        let payload = &payload[..payload.len().min(PAYLOAD)];
        self.outgoing.clear();
        self.outgoing
            .extend_from_slice(&kind.header(payload.len() as u16));
        self.outgoing.extend_from_slice(payload);
        sys::write_all(self.fd, &self.outgoing)
            .map_err(|errno| Failure::new("write to", b"the channel", errno))
    }

    /// Reads what there is, and gives each whole frame to `heard`.
    pub fn receive(&mut self, mut heard: impl FnMut(Kind, &[u8])) -> Result<(), Failure> {
        let failed = |errno| Failure::new("read from", b"the channel", errno);
        let count = sys::read(self.fd, &mut self.buffer[self.used..]).map_err(failed)?;
        if count == 0 {
            return Err(failed(Errno::NO_PEER));
        }
        self.used += count;
        let mut start = 0;
        loop {
            match session::first(&self.buffer[start..self.used]) {
                Ok(Some((kind, payload, length))) => {
                    heard(kind, payload);
                    start += length;
                }
                Ok(None) => break,
                Err(session::NotAFrame) => return Err(failed(Errno::PROTOCOL)),
            }
        }
        self.buffer.copy_within(start..self.used, 0);
        self.used -= start;
        Ok(())
    }

    /// Waits until the host has heard the last word, for a while.
    pub fn wait_for_goodbye(&mut self) {
        let mut heard = false;
        while !heard {
            let mut poll = [Poll::new(self.fd, Events::IN)];
            match sys::poll(&mut poll, PATIENCE_MS) {
                Ok(1..) => {}
                _ => return,
            }
            let frames = self.receive(|kind, _| heard |= kind == Kind::Goodbye);
            if frames.is_err() {
                return;
            }
        }
    }
}

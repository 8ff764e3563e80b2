//! Sockets between host and guest (virtio 1.2, 5.10), without a network: on the host's side they are
//! Unix sockets, so that any program can use them and file permissions say who may.
//!
//! ```text
//!   host → guest   connect PATH, write "CONNECT 5000\n", read "OK 1073741824\n", then the stream
//!   guest → host   connect(cid 2, port 5000) is a connection to the Unix socket PATH_5000
//! ```
//!
//! (The convention is Firecracker's: programs that know it find it here.)

mod connection;
mod packet;

#[cfg(test)]
mod tests;

use super::{Chain, Context, Event, Kind, Violation, VirtioDevice};
use connection::{Connection, Key, Taken};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use packet::{HEADER_BYTES, Header, Operation, STREAM};
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use thiserror::Error;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// The host's number among machines.
pub const HOST_CID: u64 = 2;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const QUEUE_LENGTH: u16 = 256;

/// Answers that wait for the guest to take them. Until it does, it is not listened to.
const ANSWERS_MAX: usize = QUEUE_LENGTH as usize;
/// Connections, with those that are asked for.
const CONNECTIONS_MAX: usize = 1024;
/// Where the host's ports begin: above those that programs listen at.
const FIRST_PORT: u32 = 1 << 30;
/// The longest greeting: "CONNECT 4294967295\n".
const GREETING_MAX: usize = 19;

/// What keeps a machine from having sockets.
#[derive(Debug, Error)]
pub enum VsockError {
    /// A machine's number that is another's.
    #[error("a guest cannot have the vsock number {cid}; give it one from 3 to 4294967294")]
    Cid {
        /// The number.
        cid: u64,
    },
    /// The socket that programs of the host's connect to.
    #[error("cannot listen at {}: {source}", path.display())]
    Listen {
        /// Its path.
        path: PathBuf,
        /// The system call's error; `AddrInUse` while the file exists.
        source: io::Error,
    },
}

/// The device.
#[derive(Debug)]
pub struct Vsock {
    cid: u64,
    path: PathBuf,
    listener: UnixListener,
    epoll: Epoll,
    /// What has which number in `epoll`.
    peers: HashMap<u64, Peer>,
    next_peer: u64,
    connections: HashMap<Key, Connection>,
    next_port: u32,
    /// Connections with something to read for the guest.
    ready: VecDeque<Key>,
    /// Packets without data for the guest.
    answers: VecDeque<Header>,
}

#[derive(Debug)]
enum Peer {
    /// A program that has not said yet to which port it wants.
    Greeting(UnixStream, Vec<u8>),
    Connection(Key),
}

/// The listener's number in `epoll`.
const LISTENER: u64 = 0;

impl Vsock {
    /// Sockets for the guest number `cid`, at `path` and `path_PORT`. The file goes when the device
    /// does.
    ///
    /// # Errors
    /// [`VsockError`].
    pub fn new(cid: u64, path: &Path) -> Result<Vsock, VsockError> {
        if !(3..u64::from(u32::MAX)).contains(&cid) {
            return Err(VsockError::Cid { cid });
        }
        let failed = |source| VsockError::Listen {
            path: path.to_owned(),
            source,
        };
        let listener = UnixListener::bind(path).map_err(failed)?;
        let listen = || {
            listener.set_nonblocking(true)?;
            let epoll = Epoll::new()?;
            let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, LISTENER);
            epoll.ctl(ControlOperation::Add, listener.as_raw_fd(), event)?;
            Ok(epoll)
        };
        Ok(Vsock {
            cid,
            path: path.to_owned(),
            epoll: listen().map_err(failed)?,
            listener,
            peers: HashMap::new(),
            next_peer: LISTENER + 1,
            connections: HashMap::new(),
            next_port: FIRST_PORT,
            ready: VecDeque::new(),
            answers: VecDeque::new(),
        })
    }

    /// Watches a socket; by which number it is known.
    fn watch(&mut self, stream: &UnixStream) -> io::Result<u64> {
        stream.set_nonblocking(true)?;
        let number = self.next_peer;
        self.next_peer += 1;
        let how = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        self.epoll.ctl(
            ControlOperation::Add,
            stream.as_raw_fd(),
            EpollEvent::new(how, number),
        )?;
        Ok(number)
    }

    fn answer(&mut self, key: Key, operation: Operation) {
        let mut header = self.header(key, operation);
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.announce(&mut header);
        }
        self.answers.push_back(header);
    }

    fn header(&self, key: Key, operation: Operation) -> Header {
        Header {
            source_cid: HOST_CID,
            destination_cid: self.cid,
            source_port: key.host_port,
            destination_port: key.guest_port,
            bytes: 0,
            kind: STREAM,
            operation: Some(operation),
            flags: 0,
            room: 0,
            forwarded: 0,
        }
    }

    fn remove(&mut self, key: Key) {
        self.connections.remove(&key);
        self.peers
            .retain(|_, peer| !matches!(peer, Peer::Connection(other) if *other == key));
    }

    fn reset_connection(&mut self, key: Key) {
        self.remove(key);
        self.answer(key, Operation::Reset);
    }

    /// After anything happened to a connection: what is due.
    fn settle(&mut self, key: Key, result: io::Result<()>) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        if result.is_err() || connection.is_over() {
            return self.reset_connection(key);
        }
        if connection.wants_to_send() && !connection.listed {
            connection.listed = true;
            self.ready.push_back(key);
        }
        if connection.owes_credit() {
            self.answer(key, Operation::Credit);
        }
    }

    /// What the host's sockets have to say.
    fn hear(&mut self) {
        let mut events = [EpollEvent::default(); 32];
        loop {
            // Who was accepted in one round may have greeted by the next.
            let count = self.epoll.wait(0, &mut events).unwrap_or(0);
            if count == 0 {
                return;
            }
            for event in &events[..count] {
                match self.peers.get(&event.data()) {
                    None if event.data() == LISTENER => self.accept(),
                    None => {}
                    Some(Peer::Greeting(..)) => self.greet(event.data()),
                    Some(&Peer::Connection(key)) => {
                        if let Some(connection) = self.connections.get_mut(&key) {
                            let flushed = connection.flush();
                            self.settle(key, flushed);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // Who is not watched is hung up on.
            if self.peers.len() < CONNECTIONS_MAX
                && let Ok(number) = self.watch(&stream)
            {
                self.peers
                    .insert(number, Peer::Greeting(stream, Vec::new()));
            }
        }
    }

    /// Reads a greeting, byte by byte: what is behind its end is the guest's.
    fn greet(&mut self, number: u64) {
        let Some(Peer::Greeting(stream, line)) = self.peers.get_mut(&number) else {
            return;
        };
        let mut byte = [0];
        while line.last() != Some(&b'\n') && line.len() < GREETING_MAX {
            match stream.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        let port = std::str::from_utf8(line).ok().and_then(|line| {
            let port = line.strip_prefix("CONNECT ")?.strip_suffix('\n')?;
            port.parse().ok()
        });
        let Some(Peer::Greeting(stream, _)) = self.peers.remove(&number) else {
            return;
        };
        let Some(guest_port) = port else {
            return;
        };
        let key = self.new_key(guest_port);
        self.peers.insert(number, Peer::Connection(key));
        self.connections.insert(key, Connection::new(stream));
        self.answer(key, Operation::Request);
    }

    /// A port of the host's that no connection to this port of the guest's has.
    fn new_key(&mut self, guest_port: u32) -> Key {
        loop {
            let host_port = self.next_port;
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
            let key = Key {
                host_port,
                guest_port,
            };
            if !self.connections.contains_key(&key) {
                return key;
            }
        }
    }

    /// The guest sends a packet.
    fn packet(&mut self, mut chain: Chain<'_>) -> Result<(), Violation> {
        let wrong = |what| Violation::Request {
            queue: TRANSMIT,
            what,
        };
        let header = Header::read(&mut chain.readable).ok_or(wrong("a packet without a header"))?;
        let data = chain.readable.take(header.bytes as usize);
        let mut data = data.ok_or(wrong("a packet that is longer than its buffers"))?;
        let key = Key {
            host_port: header.destination_port,
            guest_port: header.source_port,
        };
        let ours = header.source_cid == self.cid && header.destination_cid == HOST_CID;
        if !ours || header.kind != STREAM {
            if header.operation != Some(Operation::Reset) {
                self.answer(key, Operation::Reset);
            }
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(&key) else {
            match header.operation {
                Some(Operation::Request) => self.connect(key, &header),
                Some(Operation::Reset) => {}
                _ => self.answer(key, Operation::Reset),
            }
            return Ok(());
        };
        connection.note(&header);
        let result = match header.operation {
            Some(Operation::Response) if !connection.open => connection.grant(key.host_port),
            Some(Operation::Data) => connection.give(&mut data),
            Some(Operation::Shutdown) => {
                connection.end(header.flags);
                connection.flush()
            }
            Some(Operation::Credit) => Ok(()),
            Some(Operation::CreditRequest) => {
                self.answer(key, Operation::Credit);
                Ok(())
            }
            Some(Operation::Reset) => {
                self.remove(key);
                Ok(())
            }
            // A second request or response, or nothing that there is.
            _ => Err(ErrorKind::InvalidData.into()),
        };
        self.settle(key, result);
        Ok(())
    }

    /// The guest asks for a connection.
    fn connect(&mut self, key: Key, header: &Header) {
        let mut path = self.path.clone().into_os_string();
        path.push(format!("_{}", key.host_port));
        let stream = match self.peers.len() < CONNECTIONS_MAX {
            true => connect_now(Path::new(&path)),
            false => Err(ErrorKind::QuotaExceeded.into()),
        };
        let watched = stream.and_then(|stream| Ok((self.watch(&stream)?, stream)));
        match watched {
            Ok((number, stream)) => {
                self.peers.insert(number, Peer::Connection(key));
                let mut connection = Connection::new(stream);
                connection.open = true;
                connection.note(header);
                self.connections.insert(key, connection);
                self.answer(key, Operation::Response);
                self.settle(key, Ok(()));
            }
            Err(_) => self.answer(key, Operation::Reset),
        }
    }

    /// Sends the guest what there is for it, as far as it has buffers.
    fn deliver(&mut self, context: &mut Context<'_>) -> Result<(), Violation> {
        let mut delivered = 0;
        while !(self.answers.is_empty() && self.ready.is_empty()) {
            let Some(mut chain) = context.pop(RECEIVE)? else {
                if context.notifications(RECEIVE, true)? {
                    continue;
                }
                break;
            };
            let small = Violation::Request {
                queue: RECEIVE,
                what: "a buffer that no packet's header fits into",
            };
            let mut room = chain.writable.take(HEADER_BYTES).ok_or(small)?;
            match self.next_packet(&mut chain) {
                Some(header) => {
                    room.write(&header.to_bytes());
                    let written = HEADER_BYTES + header.bytes as usize;
                    context.push(RECEIVE, chain.head, written)?;
                    delivered += 1;
                }
                None => context.put_back(RECEIVE),
            }
            if delivered == QUEUE_LENGTH {
                context.kick(RECEIVE);
                break;
            }
        }
        match delivered {
            0 => Ok(()),
            _ => context.notify(RECEIVE),
        }
    }

    /// The next packet for the guest, whose data lies in the chain's buffers already.
    fn next_packet(&mut self, chain: &mut Chain<'_>) -> Option<Header> {
        if let Some(header) = self.answers.pop_front() {
            return Some(header);
        }
        while let Some(key) = self.ready.pop_front() {
            let mut header = self.header(key, Operation::Data);
            let Some(connection) = self.connections.get_mut(&key) else {
                continue;
            };
            connection.listed = false;
            if !connection.wants_to_send() {
                continue;
            }
            match connection.take(&mut chain.writable) {
                Ok(Taken::Nothing) => continue,
                Ok(Taken::Bytes(bytes)) => header.bytes = bytes as u32,
                Ok(Taken::End) => {
                    header.operation = Some(Operation::Shutdown);
                    header.flags = packet::NO_SEND;
                }
                Err(_) => {
                    self.remove(key);
                    header.operation = Some(Operation::Reset);
                    return Some(header);
                }
            }
            connection.announce(&mut header);
            self.settle(key, Ok(()));
            return Some(header);
        }
        None
    }
}

/// Connects at once or not at all.
fn connect_now(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

impl VirtioDevice for Vsock {
    fn kind(&self) -> Kind {
        Kind {
            id: VIRTIO_ID_VSOCK,
            name: "vsock",
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        // The third is for events, of which there is one: that the machine moved.
        &[QUEUE_LENGTH, QUEUE_LENGTH, 16]
    }

    fn config(&self) -> Vec<u8> {
        self.cid.to_le_bytes().to_vec()
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.epoll.as_raw_fd()]
    }

    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation> {
        if let Event::Source(_) = event {
            self.hear();
        }
        self.deliver(context)?;
        let mut held = false;
        context.drain(TRANSMIT, |chain| {
            held = self.answers.len() >= ANSWERS_MAX;
            if held {
                return Ok(None);
            }
            self.packet(chain)?;
            Ok(Some(0))
        })?;
        self.deliver(context)?;
        // If the guest has no room for answers, it will tell when it has.
        if held && self.answers.len() < ANSWERS_MAX {
            context.kick(TRANSMIT);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.connections.clear();
        self.peers
            .retain(|_, peer| matches!(peer, Peer::Greeting(..)));
        self.ready.clear();
        self.answers.clear();
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        // Somebody else may have taken it away.
        let _ = fs::remove_file(&self.path);
    }
}

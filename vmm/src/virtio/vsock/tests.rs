//! Host programs on one side, a guest that is a test on the other.

use super::connection::ROOM;
use super::packet::{NO_RECEIVE, NO_SEND};
use super::*;
use crate::memory::Gpa;
use crate::virtio::driver::Driver;
use std::io::Write;
use std::os::unix::net::UnixListener;
use tempfile::TempDir;

const CID: u64 = 7;

struct Guest {
    driver: Driver,
    folder: TempDir,
    buffers: VecDeque<u64>,
    room: u32,
    forwarded: u32,
}

const BUFFER: usize = 4096;

impl Guest {
    fn new() -> Guest {
        let folder = tempfile::tempdir().unwrap();
        let device = Vsock::new(CID, &folder.path().join("v")).unwrap();
        let driver = Driver::running(device, 0);
        Guest {
            driver,
            folder,
            buffers: VecDeque::new(),
            room: 64 << 10,
            forwarded: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn header(&self, operation: Operation, host_port: u32, guest_port: u32) -> Header {
        Header {
            source_cid: CID,
            destination_cid: HOST_CID,
            source_port: guest_port,
            destination_port: host_port,
            bytes: 0,
            kind: STREAM,
            operation: Some(operation),
            flags: 0,
            room: self.room,
            forwarded: self.forwarded,
        }
    }

    fn send(&mut self, mut header: Header, data: &[u8]) {
        header.bytes = data.len() as u32;
        let raw = header.to_bytes();
        let parts: &[&[u8]] = if data.is_empty() {
            &[&raw]
        } else {
            &[&raw, data]
        };
        self.driver.put(TRANSMIT, parts, &[]);
        self.driver.notify(TRANSMIT);
        self.driver.used(TRANSMIT).expect("taken");
    }

    fn say(&mut self, operation: Operation, ports: (u32, u32), data: &[u8]) {
        self.send(self.header(operation, ports.0, ports.1), data);
    }

    /// Gives the device a buffer, and waits for a packet in it if there is one.
    fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        if self.buffers.is_empty() {
            let places = self.driver.put(RECEIVE, &[], &[BUFFER]);
            self.buffers.extend(places);
        }
        self.driver.transport.serve(Event::Source(0));
        self.driver.notify(RECEIVE);
        let (_, written) = self.driver.used(RECEIVE)?;
        let at = self.buffers.pop_front()?;
        let mut raw = vec![0; written as usize];
        self.driver.memory.read(Gpa(at), &mut raw).unwrap();
        let data = raw.split_off(HEADER_BYTES);
        let header = Header::from_bytes(raw.try_into().unwrap());
        assert_eq!((header.source_cid, header.destination_cid), (HOST_CID, CID));
        assert_eq!(header.bytes as usize, data.len());
        Some((header, data))
    }

    fn expect(&mut self, operation: Operation) -> (Header, Vec<u8>) {
        let (header, data) = self.receive().expect("a packet");
        assert_eq!(header.operation, Some(operation));
        (header, data)
    }

    /// A connection that a program of the host's asked for: its stream and the ports.
    fn asked_by_host(&mut self, guest_port: u32) -> (UnixStream, (u32, u32)) {
        let mut stream = UnixStream::connect(self.path("v")).unwrap();
        writeln!(stream, "CONNECT {guest_port}").unwrap();
        let (header, _) = self.expect(Operation::Request);
        assert_eq!(header.destination_port, guest_port);
        let ports = (header.source_port, guest_port);
        self.say(Operation::Response, ports, &[]);
        let mut line = vec![0; format!("OK {}\n", ports.0).len()];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(line, format!("OK {}\n", ports.0).into_bytes());
        stream.set_nonblocking(true).unwrap();
        (stream, ports)
    }

    /// One that the guest asked for.
    fn asked_by_guest(&mut self, host_port: u32) -> (UnixStream, (u32, u32)) {
        let listener = UnixListener::bind(self.path(&format!("v_{host_port}"))).unwrap();
        let ports = (host_port, 1024);
        self.say(Operation::Request, ports, &[]);
        self.expect(Operation::Response);
        (listener.accept().unwrap().0, ports)
    }
}

fn read_available(stream: &mut UnixStream, limit: usize) -> Vec<u8> {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = vec![0; limit];
    let mut got = 0;
    while got < limit {
        match stream.read(&mut bytes[got..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => got += count,
        }
    }
    bytes.truncate(got);
    bytes
}

#[test]
fn a_program_of_the_hosts_connects() {
    let mut guest = Guest::new();
    let (mut stream, ports) = guest.asked_by_host(5000);
    stream.write_all(b"to the guest").unwrap();
    let (header, data) = guest.expect(Operation::Data);
    assert_eq!((header.source_port, header.destination_port), ports);
    assert_eq!(data, b"to the guest");
    guest.say(Operation::Data, ports, b"to the host");
    assert_eq!(read_available(&mut stream, 100), b"to the host");
    assert_eq!(guest.receive(), None);
}

#[test]
fn a_greeting_may_come_in_pieces_and_with_data_behind_it() {
    let mut guest = Guest::new();
    let mut stream = UnixStream::connect(guest.path("v")).unwrap();
    stream.write_all(b"CONN").unwrap();
    assert_eq!(guest.receive(), None);
    stream.write_all(b"ECT 9\nearly").unwrap();
    let (header, _) = guest.expect(Operation::Request);
    guest.say(Operation::Response, (header.source_port, 9), &[]);
    assert_eq!(guest.expect(Operation::Data).1, b"early");
}

#[test]
fn who_greets_otherwise_is_hung_up_on() {
    let mut guest = Guest::new();
    for greeting in [
        "HELLO\n",
        "CONNECT x\n",
        "CONNECT 4294967296\n",
        "CONNECT 1          \n",
    ] {
        let mut stream = UnixStream::connect(guest.path("v")).unwrap();
        stream.write_all(greeting.as_bytes()).unwrap();
        assert_eq!(guest.receive(), None);
        stream.set_nonblocking(true).unwrap();
        // An end, or the news that what it sent was not read.
        let ended = stream.read(&mut [0]);
        let reset = |error: io::Error| error.kind() == ErrorKind::ConnectionReset;
        assert!(ended.map_or_else(reset, |count| count == 0), "{greeting}");
    }
}

#[test]
fn the_guest_refuses_a_program() {
    let mut guest = Guest::new();
    let mut stream = UnixStream::connect(guest.path("v")).unwrap();
    stream.write_all(b"CONNECT 5\n").unwrap();
    let (header, _) = guest.expect(Operation::Request);
    guest.say(Operation::Reset, (header.source_port, 5), &[]);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_guest_connects_to_a_program() {
    let mut guest = Guest::new();
    let (mut stream, ports) = guest.asked_by_guest(80);
    guest.say(Operation::Data, ports, b"GET");
    assert_eq!(read_available(&mut stream, 10), b"GET");
    stream.write_all(b"200").unwrap();
    assert_eq!(guest.expect(Operation::Data).1, b"200");
    // Nobody listens at that one.
    guest.say(Operation::Request, (81, 1024), &[]);
    guest.expect(Operation::Reset);
}

#[test]
fn each_side_ends_its_own_direction() {
    let mut guest = Guest::new();
    let (mut stream, ports) = guest.asked_by_guest(80);
    let mut end = guest.header(Operation::Shutdown, ports.0, ports.1);
    end.flags = NO_SEND;
    guest.send(end, &[]);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the guest's end");
    stream.write_all(b"answer").unwrap();
    assert_eq!(guest.expect(Operation::Data).1, b"answer");
    drop(stream);
    let (header, _) = guest.expect(Operation::Shutdown);
    assert_eq!(header.flags, NO_SEND);
    guest.expect(Operation::Reset);
    assert_eq!(guest.receive(), None);
    let (stream, ports) = guest.asked_by_guest(81);
    end = guest.header(Operation::Shutdown, ports.0, ports.1);
    end.flags = NO_SEND | NO_RECEIVE;
    guest.send(end, &[]);
    guest.expect(Operation::Reset);
    drop(stream);
    assert_eq!(guest.receive(), None);
}

#[test]
fn nobody_sends_more_than_there_is_room_for() {
    let mut guest = Guest::new();
    guest.room = 5000;
    let (mut stream, ports) = guest.asked_by_guest(80);
    stream.write_all(&[1; 9000]).unwrap();
    assert_eq!(guest.expect(Operation::Data).1.len(), BUFFER - HEADER_BYTES);
    assert_eq!(
        guest.expect(Operation::Data).1.len(),
        5000 - BUFFER + HEADER_BYTES
    );
    assert_eq!(guest.receive(), None, "the guest is full");
    guest.forwarded = 5000;
    guest.say(Operation::Credit, ports, &[]);
    assert_eq!(guest.expect(Operation::Data).1.len(), 4000);
}

#[test]
fn what_the_host_does_not_read_is_kept_and_then_passed_on() {
    let mut guest = Guest::new();
    let (mut stream, ports) = guest.asked_by_guest(80);
    guest.say(Operation::CreditRequest, ports, &[]);
    let (header, _) = guest.expect(Operation::Credit);
    assert_eq!((header.room, header.forwarded), (ROOM, 0));
    let (mut sent, mut forwarded) = (0, 0);
    let piece = vec![7; 60 << 10];
    let mut got = 0;
    // As much as there is credit for, then the host reads, and so on.
    while sent < 1 << 20 {
        while ROOM as usize - (sent - forwarded) >= piece.len() {
            guest.say(Operation::Data, ports, &piece);
            sent += piece.len();
            while let Some((header, _)) = guest.receive() {
                assert_eq!(header.operation, Some(Operation::Credit));
                forwarded = header.forwarded as usize;
            }
        }
        let bytes = read_available(&mut stream, 1 << 20);
        assert!(bytes.iter().all(|&byte| byte == 7));
        got += bytes.len();
        while let Some((header, _)) = guest.receive() {
            forwarded = header.forwarded as usize;
        }
    }
    loop {
        let bytes = read_available(&mut stream, 1 << 20);
        guest.receive();
        got += bytes.len();
        if bytes.is_empty() {
            break;
        }
    }
    assert_eq!(got, sent);
}

#[test]
fn a_guest_that_sends_beyond_its_credit_loses_the_connection() {
    let mut guest = Guest::new();
    let (stream, ports) = guest.asked_by_guest(80);
    let piece = vec![7; 60 << 10];
    let mut reset = false;
    for _ in 0..40 {
        guest.say(Operation::Data, ports, &piece);
        while let Some((header, _)) = guest.receive() {
            reset |= header.operation == Some(Operation::Reset);
        }
    }
    assert!(reset);
    assert_eq!(guest.driver.judged(), None);
    drop(stream);
}

#[test]
fn packets_that_make_no_sense_are_reset() {
    let mut guest = Guest::new();
    guest.say(Operation::Data, (1, 2), b"to nobody");
    guest.expect(Operation::Reset);
    guest.say(Operation::Reset, (1, 2), &[]);
    assert_eq!(guest.receive(), None, "a reset is not answered");
    let mut other = guest.header(Operation::Request, 1, 2);
    other.source_cid = 99;
    guest.send(other, &[]);
    guest.expect(Operation::Reset);
    other = guest.header(Operation::Request, 1, 2);
    other.kind = 2;
    guest.send(other, &[]);
    guest.expect(Operation::Reset);
    let (_stream, ports) = guest.asked_by_guest(80);
    guest.say(Operation::Request, ports, &[]);
    guest.expect(Operation::Reset);
}

#[test]
fn a_guest_that_takes_no_answers_is_not_listened_to() {
    let mut guest = Guest::new();
    for _ in 0..ANSWERS_MAX {
        guest.say(Operation::Data, (1, 2), b"x");
    }
    let header = guest.header(Operation::Data, 1, 2).to_bytes();
    guest.driver.put(TRANSMIT, &[&header], &[]);
    guest.driver.notify(TRANSMIT);
    assert_eq!(guest.driver.used(TRANSMIT), None);
    let mut resets = 0;
    while guest.receive().is_some() {
        resets += 1;
    }
    assert_eq!(resets, ANSWERS_MAX + 1);
    assert!(guest.driver.used(TRANSMIT).is_some());
}

#[test]
fn packets_that_are_none_cost_the_device() {
    for bytes in [43, 44] {
        let mut guest = Guest::new();
        let mut header = guest.header(Operation::Data, 1, 2);
        header.bytes = u32::MAX;
        guest
            .driver
            .put(TRANSMIT, &[&header.to_bytes()[..bytes]], &[]);
        guest.driver.notify(TRANSMIT);
        assert!(matches!(
            guest.driver.judged(),
            Some(Violation::Request {
                queue: TRANSMIT,
                ..
            })
        ));
    }
    let mut guest = Guest::new();
    guest.say(Operation::Data, (1, 2), b"x");
    guest.driver.put(RECEIVE, &[], &[43]);
    guest.driver.notify(RECEIVE);
    assert!(matches!(
        guest.driver.judged(),
        Some(Violation::Request { queue: RECEIVE, .. })
    ));
}

#[test]
fn a_reset_hangs_up_and_the_file_goes_with_the_device() {
    let mut guest = Guest::new();
    let (mut stream, _) = guest.asked_by_guest(80);
    guest.driver.write(0x70, 0);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let path = guest.path("v");
    assert!(path.exists());
    drop(guest.driver);
    assert!(!path.exists());
}

#[test]
fn numbers_and_paths_that_are_taken_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    for cid in [0, 2, u64::from(u32::MAX), u64::MAX] {
        assert!(matches!(
            Vsock::new(cid, &path),
            Err(VsockError::Cid { .. })
        ));
    }
    let _one = Vsock::new(3, &path).unwrap();
    assert!(matches!(
        Vsock::new(3, &path),
        Err(VsockError::Listen { .. })
    ));
}

//! Sockets and network interfaces (`man 7 netdevice`, `man 7 vsock`).

use super::call::{Errno, call};
use super::io::{Fd, close};

const AF_INET: u16 = 2;
const AF_VSOCK: u16 = 40;
const STREAM: usize = 1;
const DATAGRAM: usize = 2;
const CLOEXEC: usize = 0o2_000_000;

fn socket(family: u16, kind: usize) -> Result<Fd, Errno> {
    // SAFETY: socket(41) takes numbers.
    unsafe { call(41, [usize::from(family), kind | CLOEXEC, 0]) }.map(Fd::from_raw)
}

/// A socket to speak about interfaces.
pub fn inet_socket() -> Result<Fd, Errno> {
    socket(AF_INET, DATAGRAM)
}

/// `struct sockaddr_vm`.
#[repr(C)]
struct VsockAddress {
    family: u16,
    reserved: u16,
    port: u32,
    context: u32,
    flags: [u8; 4],
}

/// A connection to a port of the context (2 is the host).
pub fn connect_vsock(context: u32, port: u32) -> Result<Fd, Errno> {
    let fd = socket(AF_VSOCK, STREAM)?;
    let address = VsockAddress {
        family: AF_VSOCK,
        reserved: 0,
        port,
        context,
        flags: [0; 4],
    };
    let size = size_of::<VsockAddress>();
    // SAFETY: connect(42) reads the address.
    match unsafe { call(42, [fd.raw(), &raw const address as usize, size]) } {
        Ok(_) => Ok(fd),
        Err(errno) => {
            close(fd);
            Err(errno)
        }
    }
}

/// `struct ifreq`: a name and, here, a socket address or flags.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: [u8; 24],
}

const SIOCGIFFLAGS: usize = 0x8913;
const SIOCSIFFLAGS: usize = 0x8914;
const SIOCSIFADDR: usize = 0x8916;
const SIOCSIFNETMASK: usize = 0x891c;
const SIOCADDRT: usize = 0x890b;
/// Up and running.
const IFF_UP: u16 = 1;

impl Request {
    fn new(name: &[u8]) -> Request {
        let mut request = Request {
            name: [0; 16],
            value: [0; 24],
        };
        let length = name.len().min(15);
        request.name[..length].copy_from_slice(&name[..length]);
        request
    }

    fn send(&mut self, socket: Fd, number: usize) -> Result<(), Errno> {
        // SAFETY: ioctl(16): these requests read and write a `struct ifreq`.
        unsafe { call(16, [socket.raw(), number, &raw mut *self as usize]) }.map(drop)
    }
}

pub fn interface_up(socket: Fd, name: &[u8]) -> Result<(), Errno> {
    let mut request = Request::new(name);
    request.send(socket, SIOCGIFFLAGS)?;
    let flags = u16::from_le_bytes([request.value[0], request.value[1]]) | IFF_UP;
    request.value[..2].copy_from_slice(&flags.to_le_bytes());
    request.send(socket, SIOCSIFFLAGS)
}

/// `struct sockaddr_in`: family, port, address.
fn inet(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    bytes[4..8].copy_from_slice(&address);
    bytes
}

pub fn interface_address(
    socket: Fd,
    name: &[u8],
    address: [u8; 4],
    mask: [u8; 4],
) -> Result<(), Errno> {
    for (number, value) in [(SIOCSIFADDR, address), (SIOCSIFNETMASK, mask)] {
        let mut request = Request::new(name);
        request.value[..16].copy_from_slice(&inet(value));
        request.send(socket, number)?;
    }
    Ok(())
}

/// `struct rtentry`, of which a default route needs the addresses and the flags.
#[repr(C)]
struct Route {
    pad: u64,
    destination: [u8; 16],
    gateway: [u8; 16],
    mask: [u8; 16],
    flags: u16,
    rest: [u64; 8],
}

pub fn default_route(socket: Fd, gateway: [u8; 4]) -> Result<(), Errno> {
    let (up, through_gateway) = (1, 2);
    let route = Route {
        pad: 0,
        destination: inet([0; 4]),
        gateway: inet(gateway),
        mask: inet([0; 4]),
        flags: up | through_gateway,
        rest: [0; 8],
    };
    // SAFETY: SIOCADDRT reads a `struct rtentry`, which is no longer than this.
    unsafe { call(16, [socket.raw(), SIOCADDRT, &raw const route as usize]) }.map(drop)
}

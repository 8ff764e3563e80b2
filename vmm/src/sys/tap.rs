//! A network interface whose other end is a file (`Documentation/networking/tuntap.rst`): what the
//! host sends to it is read from the file, and what is written to the file arrives at the host.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Where interfaces come from.
const DEVICE: &str = "/dev/net/tun";

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;

/// What the reader of a tap can do itself, so that the host need not (`linux/if_tun.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Take frames whose checksum is not filled in yet.
    pub checksum: bool,
    /// Take TCP over IPv4 in pieces of up to 64 KiB.
    pub tcp4: bool,
    /// The same over IPv6.
    pub tcp6: bool,
}

/// Opens the tap `name` of the calling thread's network namespace. Each frame has a
/// `virtio_net_hdr_v1` of 12 bytes before it. Reads do not block.
///
/// # Errors
/// `ENODEV` if there is no such interface: the kernel would make one that no other end knows. The system
/// calls': `ENOENT` without the module `tun`, `EPERM` without `CAP_NET_ADMIN`, `EBUSY` for a tap that
/// somebody has open, `EINVAL` for a name of more than 15 bytes or of another kind of interface.
pub fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DEVICE)?;
    let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let bytes = name.as_bytes_with_nul();
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if bytes.len() > request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the name ends in a NUL.
    if unsafe { libc::if_nametoindex(name.as_ptr()) } == 0 {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    let header_bytes: libc::c_int = 12;
    // SAFETY: the descriptor is open; both arguments are locals of the types that the calls want.
    let done = unsafe {
        libc::ioctl(file.as_raw_fd(), TUNSETIFF, &mut request) == 0
            && libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &header_bytes) == 0
    };
    match done {
        true => Ok(file),
        false => Err(io::Error::last_os_error()),
    }
}

/// Says what the reader can do.
///
/// # Errors
/// The system call's: `EINVAL` for what this kernel does not know.
pub fn set_offload(tap: &File, offload: Offload) -> io::Result<()> {
    let bits = [offload.checksum, offload.tcp4, offload.tcp6];
    let flags = (0..).zip(bits).fold(0, |flags: libc::c_ulong, (bit, on)| {
        flags | libc::c_ulong::from(on) << bit
    });
    // SAFETY: the descriptor is open; the argument is a number.
    match unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETOFFLOAD, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

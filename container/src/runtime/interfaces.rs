//! Interfaces of the host's that a container gets (`config-linux.md`, "Network Devices"): one is in a
//! single network namespace at a time, so it is moved.
//!
//! What it is goes along, its addresses do not: the kernel takes them away on the move, and so does it
//! with its being up.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::netlink::{Message, Netlink, attribute, attributes, number};

/// `struct ifinfomsg`: family, type, index, flags, and which of the flags change.
const LINK_BYTES: usize = 16;
/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, index.
const ADDRESS_BYTES: usize = 8;
/// Flags of an address that are its owner's wish, and not what the kernel found out about it.
const WISHED: u32 = libc::IFA_F_PERMANENT
    | libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE
    | libc::IFA_F_MCAUTOJOIN;

/// An interface that was moved, and what it was before.
#[derive(Debug)]
pub struct Moved {
    /// Where it is; the namespace lives as long as this is open.
    theirs: File,
    /// Its number there.
    index: u32,
    name: String,
    addresses: Vec<Vec<u8>>,
    is_up: bool,
}

/// Moves the caller's interface `name` into the network namespace of process `pid`, where its name is
/// `inside`, or with `%d` in that the first which is free; brings its lasting addresses along and the
/// interface up.
///
/// # Errors
/// `ENODEV` when there is none of that name, `EEXIST` when the new one is taken, `EINVAL` for a kind that
/// cannot be moved, `EPERM` without `CAP_NET_ADMIN` over both namespaces.
pub fn move_into(pid: i32, name: &str, inside: &str) -> Result<Moved, Errno> {
    let theirs = open(format!("/proc/{pid}/ns/net"))?;
    let (mut here, mut there) = (Netlink::open()?, open_in(&theirs)?);
    let links = here.list(libc::RTM_GETLINK, &link(0, 0))?;
    let (index, is_up) = named(&links, name).ok_or(Errno::ENODEV)?;
    let addresses = here.list(libc::RTM_GETADDR, &[0; ADDRESS_BYTES])?;
    let before = there.list(libc::RTM_GETLINK, &link(0, 0))?;

    // The kernel would move it first, and then fail to rename it.
    if named(&before, inside).is_some() {
        return Err(Errno::EEXIST);
    }
    send(&mut here, index, &theirs, inside)?;

    // Its number may be another's in there, and its name the kernel's choice.
    let after = there.list(libc::RTM_GETLINK, &link(0, 0))?;
    let was_there = |it: &&Message| before.iter().any(|old| index_of(old) == index_of(it));
    let arrived = after.iter().find(|it| !was_there(it));
    let moved = Moved {
        index: arrived.and_then(index_of).ok_or(Errno::ENODEV)?,
        theirs,
        name: name.to_owned(),
        addresses: addresses
            .iter()
            .filter_map(|it| lasting(it, index))
            .collect(),
        is_up,
    };
    match settle(&mut there, moved.index, &moved.addresses, true) {
        Ok(()) => Ok(moved),
        Err(errno) => {
            // What refused is what is told.
            let _ = moved.bring_back();
            Err(errno)
        }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {} (`linux.netDevices`)", self.name)
    }
}

impl Moved {
    /// Moves it back to the caller's, as it was: with a namespace that ends, the kernel ends what is no
    /// hardware.
    ///
    /// # Errors
    /// The kernel's, as of [`move_into`].
    pub fn bring_back(&self) -> Result<(), Errno> {
        let ours = open("/proc/self/ns/net")?;
        let (mut here, mut there) = (Netlink::open()?, open_in(&self.theirs)?);
        send(&mut there, self.index, &ours, &self.name)?;
        let links = here.list(libc::RTM_GETLINK, &link(0, 0))?;
        let (index, _) = named(&links, &self.name).ok_or(Errno::ENODEV)?;
        settle(&mut here, index, &self.addresses, self.is_up)
    }
}

fn open(path: impl AsRef<Path>) -> Result<File, Errno> {
    File::open(path).map_err(|error| super::executor::errno_of(&error))
}

/// Sends interface `index` of `from` to another namespace, where it is called `name`.
fn send(from: &mut Netlink, index: u32, to: &File, name: &str) -> Result<(), Errno> {
    let mut request = link(index, 0);
    let descriptor = to.as_raw_fd() as u32;
    attribute(
        &mut request,
        libc::IFLA_NET_NS_FD,
        &descriptor.to_ne_bytes(),
    );
    attribute(
        &mut request,
        libc::IFLA_IFNAME,
        &[name.as_bytes(), b"\0"].concat(),
    );
    from.change(libc::RTM_NEWLINK, 0, &request)
}

/// Gives interface `index` what the kernel took away on the move.
fn settle(
    there: &mut Netlink,
    index: u32,
    addresses: &[Vec<u8>],
    is_up: bool,
) -> Result<(), Errno> {
    for address in addresses {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        there.change(libc::RTM_NEWADDR, flags, &at(index, address))?;
    }
    match is_up {
        true => there.change(libc::RTM_NEWLINK, 0, &link(index, libc::IFF_UP as u32)),
        false => Ok(()),
    }
}

/// A conversation in another network namespace: a socket stays where it was made, so a thread makes it
/// there, and nobody has to come back.
fn open_in(namespace: &File) -> Result<Netlink, Errno> {
    let made = thread::scope(|scope| {
        let there = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Netlink::open()
        });
        there.join()
    });
    made.unwrap_or(Err(Errno::ECHILD))
}

/// The body of a message about an interface; `set` are flags to set.
fn link(index: u32, set: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for part in [index, set, set] {
        body.extend(part.to_ne_bytes());
    }
    body
}

fn index_of(link: &Message) -> Option<u32> {
    number(&link.body, 4)
}

/// The number of the interface of that name, and whether it is up.
fn named(links: &[Message], name: &str) -> Option<(u32, bool)> {
    let name = [name.as_bytes(), b"\0"].concat();
    let is_it = |it: &&Message| {
        attributes(&it.body, LINK_BYTES).contains(&(libc::IFLA_IFNAME, name.as_slice()))
    };
    let link = links.iter().find(is_it)?;
    let is_up = number(&link.body, 8)? & libc::IFF_UP as u32 != 0;
    Some((index_of(link)?, is_up))
}

/// An address that its owner has given to interface `index` for good, and that means something to others:
/// as a message that gives it again, but for the interface's number.
fn lasting(address: &Message, index: u32) -> Option<Vec<u8>> {
    let [family, prefix, flags, scope, ..] = *address.body.as_slice() else {
        return None;
    };
    let is_permanent = u32::from(flags) & libc::IFA_F_PERMANENT != 0;
    if number(&address.body, 4)? != index || !is_permanent || scope != libc::RT_SCOPE_UNIVERSE {
        return None;
    }
    let kept = flags & WISHED as u8;
    let mut body = vec![family, prefix, kept, scope, 0, 0, 0, 0];
    for (kind, value) in attributes(&address.body, ADDRESS_BYTES) {
        match kind {
            libc::IFA_ADDRESS | libc::IFA_LOCAL | libc::IFA_BROADCAST => {
                attribute(&mut body, kind, value);
            }
            libc::IFA_FLAGS => {
                let flags = number(value, 0)? & WISHED;
                attribute(&mut body, kind, &flags.to_ne_bytes());
            }
            _ => {}
        }
    }
    Some(body)
}

fn at(index: u32, address: &[u8]) -> Vec<u8> {
    let mut request = address.to_vec();
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(scope: u8, flags: u8) -> Message {
        let mut body = vec![libc::AF_INET as u8, 24, flags, scope, 7, 0, 0, 0];
        attribute(&mut body, libc::IFA_LOCAL, &[10, 0, 0, 1]);
        attribute(&mut body, libc::IFA_LABEL, b"eth0\0");
        Message {
            kind: libc::RTM_NEWADDR,
            body,
        }
    }

    #[test]
    fn only_lasting_addresses_of_the_interface_itself_go_along() {
        let permanent = libc::IFA_F_PERMANENT as u8;
        let index = u32::from_ne_bytes([7, 0, 0, 0]);
        let it = lasting(&address(0, permanent), index).unwrap();
        // The label has the old name.
        assert_eq!(
            attributes(&it, ADDRESS_BYTES),
            [(libc::IFA_LOCAL, &[10, 0, 0, 1][..])]
        );
        assert_eq!(at(5, &it)[4..8], 5u32.to_ne_bytes());
        assert_eq!(lasting(&address(0, permanent), index + 1), None);
        assert_eq!(lasting(&address(0, 0), index), None);
        let link_local = 253;
        assert_eq!(lasting(&address(link_local, permanent), index), None);
    }
}

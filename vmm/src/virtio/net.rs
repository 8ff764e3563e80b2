//! A network card (virtio 1.2, 5.1): frames between the guest's queues and a tap of the host's.
//!
//! Both ends speak `struct virtio_net_hdr`: it lets the guest leave checksums, and the cutting of
//! large TCP segments, to whoever must really do it. Between two machines of one host nobody must.

use super::{Chain, Context, Event, Kind, Violation, VirtioDevice};
use crate::sys::tap::{self, Offload};
use crate::sys::vectored;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use thiserror::Error;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::*;
use vm_memory::VolatileSlice;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const QUEUE_LENGTH: u16 = 256;

/// `struct virtio_net_hdr_v1`.
const HEADER_BYTES: usize = 12;
/// Where in it `num_buffers` is (5.1.6.4).
const BUFFERS_AT: usize = 10;
/// A frame of Ethernet, with its header.
const FRAME_SMALL: usize = HEADER_BYTES + 14 + 1500;
/// The largest segment that TCP leaves to a card, with its header.
const FRAME_MAX: usize = HEADER_BYTES + 14 + (64 << 10);

/// What is offered at any end: an address, and frames that may lie in several buffers.
const ALWAYS: u64 = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// No card.
#[derive(Debug, Error)]
#[error(
    "cannot open the tap {name}: {source}; {}", match source.raw_os_error() {
        Some(libc::ENOENT) => "load its module (`modprobe tun`)".to_owned(),
        Some(libc::ENODEV) => format!("make it: `ip tuntap add {name} mode tap`, then `ip link set {name} up`"),
        Some(libc::EPERM) => "run as root, or have root make it for you (`ip tuntap add`)".to_owned(),
        Some(libc::EBUSY) => "another machine has it: give this one a tap of its own".to_owned(),
        _ => "a name has up to 15 bytes and is no other interface's".to_owned(),
    }
)]
pub struct NetError {
    name: String,
    source: io::Error,
}

/// The device.
#[derive(Debug)]
pub struct Net {
    file: File,
    mac: [u8; 6],
    /// Whether the file is a tap, that knows about checksums and segments.
    is_tap: bool,
    /// Whether the tap was told what this driver can do.
    told: bool,
}

impl Net {
    /// A card with the address `mac`, at the tap `name` of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn tap(name: &str, mac: [u8; 6]) -> Result<Net, NetError> {
        let file = tap::open(name).map_err(|source| NetError {
            name: name.to_owned(),
            source,
        })?;
        Ok(Net {
            file,
            mac,
            is_tap: true,
            told: false,
        })
    }

    /// A card at anything that gives and takes whole frames without blocking, each with its header:
    /// a socket of datagrams, say.
    pub fn over(frames: OwnedFd, mac: [u8; 6]) -> Net {
        Net {
            file: File::from(frames),
            mac,
            is_tap: false,
            told: false,
        }
    }

    /// Gives the guest the frames that came, as far as it has buffers.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<(), Violation> {
        let mut room = Room::default();
        let mut received = 0;
        while received < QUEUE_LENGTH {
            if !room.gather(context)? {
                // Asks to hear of more buffers, and looks once more.
                if context.notifications(RECEIVE, true)? {
                    continue;
                }
                break;
            }
            match vectored::read(self.file.as_fd(), &room.slices()) {
                Ok(count) if count >= HEADER_BYTES => room.fill(context, count)?,
                // No frame, or none any more: as of a cable that was pulled.
                _ => break,
            }
            received += 1;
        }
        room.put_back(context);
        if received == QUEUE_LENGTH {
            context.kick(RECEIVE);
        }
        match received {
            0 => Ok(()),
            _ => context.notify(RECEIVE),
        }
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Result<(), Violation> {
        context.drain(TRANSMIT, |mut chain| {
            if chain.readable.bytes() < HEADER_BYTES {
                return Err(Violation::Request {
                    queue: TRANSMIT,
                    what: "a frame without a header",
                });
            }
            // Networks lose frames: one that is too large, or that the host does not take.
            if chain.readable.bytes() <= FRAME_MAX {
                let _ = vectored::write(self.file.as_fd(), chain.readable.slices());
            }
            Ok(Some(0))
        })
    }
}

/// Buffers for the next frame, taken from the queue.
///
/// Without mergeable buffers a frame gets one, which the driver makes large enough for any: 64 KiB where
/// segments of TCP come whole. With them (5.1.6.4) it gets as many as it takes, so that the driver can
/// offer small ones, and a frame of 60 bytes costs it a small one.
#[derive(Default)]
struct Room<'m> {
    chains: VecDeque<Chain<'m>>,
    bytes: usize,
}

impl<'m> Room<'m> {
    /// Takes what the largest frame may need; false if the driver must offer more first.
    fn gather(&mut self, context: &mut Context<'m>) -> Result<bool, Violation> {
        let large = context.has(VIRTIO_NET_F_GUEST_TSO4) || context.has(VIRTIO_NET_F_GUEST_TSO6);
        let wanted = match (context.has(VIRTIO_NET_F_MRG_RXBUF), large) {
            (false, _) => HEADER_BYTES,
            (true, false) => FRAME_SMALL,
            (true, true) => FRAME_MAX,
        };
        while self.bytes < wanted {
            let Some(chain) = context.pop(RECEIVE)? else {
                // A driver whose whole queue is too short for the largest frame gets others.
                return Ok(self.chains.len() >= context.length(RECEIVE) && !self.chains.is_empty());
            };
            if chain.writable.bytes() < HEADER_BYTES {
                return Err(Violation::Request {
                    queue: RECEIVE,
                    what: "a buffer that no frame's header fits into",
                });
            }
            self.bytes += chain.writable.bytes();
            self.chains.push_back(chain);
        }
        Ok(true)
    }

    fn slices(&mut self) -> Vec<VolatileSlice<'m>> {
        let chains = self.chains.iter_mut();
        chains
            .flat_map(|chain| chain.writable.slices().iter().copied())
            .collect()
    }

    /// Gives a frame of `count` bytes to the driver, in the buffers that it lies in.
    fn fill(&mut self, context: &mut Context<'m>, mut count: usize) -> Result<(), Violation> {
        let mut left = count;
        let takes = |chain: &&Chain<'_>| {
            let begins = left > 0;
            left = left.saturating_sub(chain.writable.bytes());
            begins
        };
        let buffers = self.chains.iter().take_while(takes).count();
        for index in 0..buffers {
            let Some(mut chain) = self.chains.pop_front() else {
                break;
            };
            let written = chain.writable.bytes().min(count);
            (self.bytes, count) = (self.bytes - chain.writable.bytes(), count - written);
            if index == 0 {
                let _ = chain.writable.take(BUFFERS_AT);
                chain.writable.write(&(buffers as u16).to_le_bytes());
            }
            context.push(RECEIVE, chain.head, written)?;
        }
        Ok(())
    }

    fn put_back(self, context: &mut Context<'m>) {
        for _ in self.chains {
            context.put_back(RECEIVE);
        }
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> Kind {
        Kind {
            id: VIRTIO_ID_NET,
            name: "net",
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_LENGTH, QUEUE_LENGTH]
    }

    fn features(&self) -> u64 {
        let offload: &[u32] = match self.is_tap {
            true => &[
                VIRTIO_NET_F_CSUM,
                VIRTIO_NET_F_GUEST_CSUM,
                VIRTIO_NET_F_HOST_TSO4,
                VIRTIO_NET_F_HOST_TSO6,
                VIRTIO_NET_F_GUEST_TSO4,
                VIRTIO_NET_F_GUEST_TSO6,
            ],
            false => &[],
        };
        let bits = offload.iter().map(|bit| 1 << bit);
        bits.fold(ALWAYS, |all, bit: u64| all | bit)
    }

    /// `struct virtio_net_config` (5.1.4): the address, and that the link is up.
    fn config(&self) -> Vec<u8> {
        [&self.mac[..], &[1, 0]].concat()
    }

    fn sources(&self) -> Vec<RawFd> {
        vec![self.file.as_raw_fd()]
    }

    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation> {
        if self.is_tap && !self.told {
            self.told = true;
            let offload = Offload {
                checksum: context.has(VIRTIO_NET_F_GUEST_CSUM),
                tcp4: context.has(VIRTIO_NET_F_GUEST_TSO4),
                tcp6: context.has(VIRTIO_NET_F_GUEST_TSO6),
            };
            // A tap that cannot does the work itself.
            let _ = tap::set_offload(&self.file, offload);
        }
        match event {
            Event::Queue(TRANSMIT) => self.transmit(context),
            Event::Queue(_) | Event::Source(_) => self.receive(context),
        }
    }

    fn reset(&mut self) {
        self.told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Gpa;
    use crate::virtio::driver::{Driver, LENGTH, WRITE};
    use std::os::unix::net::UnixDatagram;

    fn card() -> (Driver, UnixDatagram) {
        card_without(0)
    }

    fn card_without(without: u64) -> (Driver, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let net = Net::over(ours.into(), [2, 0, 0, 0, 0, 1]);
        (Driver::running(net, without), theirs)
    }

    #[test]
    fn frames_go_out_whole_with_their_headers() {
        let (mut driver, host) = card();
        driver.request(TRANSMIT, &[&[0; 12], b"destination", b" and rest"], &[]);
        let mut frame = [0; 100];
        let count = host.recv(&mut frame).unwrap();
        assert_eq!(&frame[12..count], b"destination and rest");
        driver.request(TRANSMIT, &[&vec![0; FRAME_MAX + 1]], &[]);
        assert!(host.recv(&mut frame).is_err(), "too large to be a frame");
    }

    #[test]
    fn frames_wait_until_the_guest_has_buffers() {
        let (mut driver, host) = card_without(1 << VIRTIO_NET_F_MRG_RXBUF);
        for name in [b"one", b"two"] {
            host.send(&[&[0xff; 12][..], name].concat()).unwrap();
        }
        driver.transport.serve(Event::Source(0));
        for name in [b"one", b"two"] {
            let places = driver.put(RECEIVE, &[], &[12, 2000]);
            driver.notify(RECEIVE);
            assert_eq!(driver.used(RECEIVE), Some((0, 15)));
            let mut frame = [0; 3];
            driver.memory.read(Gpa(places[1]), &mut frame).unwrap();
            assert_eq!(&frame, name);
            let buffers: u16 = driver.memory.read_value(Gpa(places[0] + 10)).unwrap();
            assert_eq!(buffers, 1);
        }
        driver.put(RECEIVE, &[], &[2000]);
        driver.notify(RECEIVE);
        assert_eq!(driver.used(RECEIVE), None);
        host.send(&[0; 20]).unwrap();
        driver.transport.serve(Event::Source(0));
        assert_eq!(driver.used(RECEIVE), Some((0, 20)));
    }

    #[test]
    fn a_frame_takes_as_many_buffers_as_it_needs_and_the_others_stay() {
        let (mut driver, host) = card();
        let offer = |driver: &mut Driver, index: u16, bytes: u32| {
            let at = driver.allocate(bytes as usize);
            driver.descriptor(RECEIVE, index, at, bytes, WRITE, 0);
            driver.offer(RECEIVE, index);
            at
        };
        // Too little for the largest frame, however small this one is.
        let places: Vec<u64> = (0..2).map(|index| offer(&mut driver, index, 600)).collect();
        host.send(&[7; 1000]).unwrap();
        driver.transport.serve(Event::Source(0));
        assert_eq!(driver.used(RECEIVE), None);
        for index in 2..5 {
            offer(&mut driver, index, 600);
        }
        driver.notify(RECEIVE);
        assert_eq!(driver.used(RECEIVE), Some((0, 600)));
        assert_eq!(driver.used(RECEIVE), Some((1, 400)));
        assert_eq!(driver.used(RECEIVE), None);
        let buffers: u16 = driver.memory.read_value(Gpa(places[0] + 10)).unwrap();
        let mut last = [0; 400];
        driver.memory.read(Gpa(places[1]), &mut last).unwrap();
        assert_eq!((buffers, last), (2, [7; 400]));
        // The three others are there for the next one.
        host.send(&[8; 12]).unwrap();
        driver.transport.serve(Event::Source(0));
        assert_eq!(driver.used(RECEIVE), Some((2, 12)));
    }

    #[test]
    fn a_queue_that_is_too_short_for_the_largest_frame_gets_smaller_ones() {
        let (mut driver, host) = card();
        for index in 0..LENGTH {
            let at = driver.allocate(64);
            driver.descriptor(RECEIVE, index, at, 64, WRITE, 0);
            driver.offer(RECEIVE, index);
        }
        host.send(&[9; 100]).unwrap();
        driver.notify(RECEIVE);
        let used = [
            driver.used(RECEIVE),
            driver.used(RECEIVE),
            driver.used(RECEIVE),
        ];
        assert_eq!(used, [Some((0, 64)), Some((1, 36)), None]);
    }

    #[test]
    fn a_host_that_went_away_is_a_network_that_is_silent() {
        let (mut driver, host) = card();
        drop(host);
        driver.request(TRANSMIT, &[&[0; 40]], &[]);
        driver.put(RECEIVE, &[], &[2000]);
        driver.notify(RECEIVE);
        assert_eq!((driver.used(RECEIVE), driver.judged()), (None, None));
    }

    #[test]
    fn frames_without_room_for_a_header_cost_the_device() {
        let (mut driver, _host) = card();
        driver.put(TRANSMIT, &[&[0; 11]], &[]);
        driver.notify(TRANSMIT);
        assert!(driver.judged().is_some());
        let (mut driver, _host) = card();
        driver.put(RECEIVE, &[], &[11]);
        driver.notify(RECEIVE);
        assert!(driver.judged().is_some());
    }
}

//! An entropy source (virtio 1.2, 5.4): the host's randomness, without the guest's waiting for its
//! own to gather.

use super::{Context, Event, Kind, Violation, VirtioDevice};
use crate::sys::file;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

const QUEUE: usize = 0;

/// The most that one request gets; less than it asks for is allowed (5.4.6).
const REQUEST_MAX: usize = 4096;

/// The device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rng;

impl VirtioDevice for Rng {
    fn kind(&self) -> Kind {
        Kind {
            id: VIRTIO_ID_RNG,
            name: "rng",
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64]
    }

    fn serve(&mut self, event: Event, context: &mut Context<'_>) -> Result<(), Violation> {
        let Event::Queue(QUEUE) = event else {
            return Ok(());
        };
        context.drain(QUEUE, |mut chain| {
            let mut bytes = [0; REQUEST_MAX];
            let count = chain.writable.bytes().min(REQUEST_MAX);
            match file::random(&mut bytes[..count]) {
                Ok(()) => Ok(Some(chain.writable.write(&bytes[..count]))),
                // A driver that gets nothing asks again.
                Err(_) => Ok(Some(0)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::driver::Driver;

    #[test]
    fn every_request_gets_other_bytes() {
        let mut driver = Driver::running(Rng, 0);
        let (written, first) = driver.request(QUEUE, &[], &[16, 16]);
        assert_eq!(written, 32);
        let (_, second) = driver.request(QUEUE, &[], &[16, 16]);
        assert_ne!(first[0], second[0]);
        assert_ne!(first[0], first[1]);
        let (written, _) = driver.request(QUEUE, &[], &[100_000]);
        assert_eq!(written as usize, REQUEST_MAX);
        assert_eq!(driver.judged(), None);
    }
}

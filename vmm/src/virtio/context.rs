//! What a device works with while it serves.

use super::line::Line;
use super::{Chain, Violation};
use crate::memory::GuestMemory;
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

/// Memory, queues and the interrupt line, lent to a device.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) memory: &'a GuestMemory,
    pub(super) queues: &'a mut [Queue],
    pub(super) line: &'a Line,
    pub(super) features: u64,
    pub(super) kicks: &'a [EventFd],
}

impl<'a> Context<'a> {
    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &'a GuestMemory {
        self.memory
    }

    /// Whether the driver took this feature.
    #[must_use]
    pub fn has(&self, feature: u32) -> bool {
        self.features & 1 << feature != 0
    }

    /// The next request of a queue; `None` if there is none, or if the queue is off.
    ///
    /// # Errors
    /// What is wrong with it or its ring.
    pub fn pop(&mut self, queue: usize) -> Result<Option<Chain<'a>>, Violation> {
        let memory = self.memory;
        let Some(ring) = self.queues.get_mut(queue).filter(|ring| ring.ready()) else {
            return Ok(None);
        };
        let size = ring.size();
        // The rings are in memory (the transport looked), so that the index is all that can be wrong.
        let mut available = ring
            .iter(memory.inner())
            .map_err(|_| Violation::Wrapped { queue })?;
        let Some(descriptors) = available.next() else {
            return Ok(None);
        };
        let head = descriptors.head_index();
        let chain = Chain::parse(memory, descriptors, size);
        chain.map(Some).map_err(|broken| Violation::Chain {
            queue,
            head,
            broken,
        })
    }

    /// How long a queue is, in requests.
    #[must_use]
    pub fn length(&self, queue: usize) -> usize {
        self.queues.get(queue).map_or(0, |ring| ring.size().into())
    }

    /// Puts the request that was popped last back.
    pub fn put_back(&mut self, queue: usize) {
        if let Some(ring) = self.queues.get_mut(queue) {
            ring.go_to_previous_position();
        }
    }

    /// Gives a request back to the driver, with so many bytes written to it; [`notify`](Self::notify)
    /// tells it.
    ///
    /// # Errors
    /// A head that no chain had.
    pub fn push(&mut self, queue: usize, head: u16, written: usize) -> Result<(), Violation> {
        let Some(ring) = self.queues.get_mut(queue) else {
            return Ok(());
        };
        // A chain is at most 4 GiB less a byte long.
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        ring.add_used(self.memory.inner(), head, written)
            .map_err(|error| ring_error(queue, error))
    }

    /// Tells the driver about what was pushed, if it wants to know.
    ///
    /// # Errors
    /// A ring that is not in memory.
    pub fn notify(&mut self, queue: usize) -> Result<(), Violation> {
        let Some(ring) = self.queues.get_mut(queue) else {
            return Ok(());
        };
        let wanted = ring.needs_notification(self.memory.inner());
        if wanted.map_err(|error| ring_error(queue, error))? {
            self.line.used();
        }
        Ok(())
    }

    /// Serves every request of a queue: `serve` says how many bytes it wrote, or `None` if this and
    /// what is behind it must wait, for which the device itself comes back. A driver that fills the
    /// queue as fast as it is served does not keep the device from anything else: after one queue's
    /// length it is another's turn.
    ///
    /// # Errors
    /// The first rule that the driver broke.
    pub fn drain(
        &mut self,
        queue: usize,
        mut serve: impl FnMut(Chain<'a>) -> Result<Option<usize>, Violation>,
    ) -> Result<(), Violation> {
        let length = match self.queues.get(queue) {
            Some(ring) if ring.ready() => ring.size(),
            _ => return Ok(()),
        };
        let mut served = 0;
        self.notifications(queue, false)?;
        'serve: loop {
            while let Some(chain) = self.pop(queue)? {
                let head = chain.head;
                let Some(written) = serve(chain)? else {
                    self.put_back(queue);
                    break 'serve;
                };
                self.push(queue, head, written)?;
                served += 1;
                if served == length {
                    self.kick(queue);
                    break 'serve;
                }
            }
            if !self.notifications(queue, true)? {
                break;
            }
        }
        match served {
            0 => Ok(()),
            _ => self.notify(queue),
        }
    }

    /// Has the device called again for a queue, as if the driver had told of a new request.
    pub fn kick(&self, queue: usize) {
        if let Some(kick) = self.kicks.get(queue) {
            // Fails only when it holds 2^64 - 2 kicks.
            let _ = kick.write(1);
        }
    }

    /// Asks the driver to tell of new requests, or not to; whether there are some already.
    ///
    /// # Errors
    /// A ring that is not in memory.
    pub fn notifications(&mut self, queue: usize, wanted: bool) -> Result<bool, Violation> {
        let Some(ring) = self.queues.get_mut(queue).filter(|ring| ring.ready()) else {
            return Ok(false);
        };
        let memory = self.memory.inner();
        match wanted {
            true => ring.enable_notification(memory),
            false => ring.disable_notification(memory).map(|()| false),
        }
        .map_err(|error| ring_error(queue, error))
    }

    /// Tells the driver that the device's configuration changed.
    pub fn configuration_changed(&mut self) {
        self.line.changed();
    }
}

fn ring_error(queue: usize, error: Error) -> Violation {
    let part = match error {
        Error::InvalidDescriptorIndex => "used element",
        _ => "rings",
    };
    Violation::Ring {
        queue,
        part,
        address: 0,
    }
}

//! The command, and its streams until it ends.

use crate::channel::Channel;
use crate::sys::{self, Errno, Events, Fd, Pid, Poll};
use crate::task::Task;
use crate::{Ending, Failure};
use alloc::vec;
use alloc::vec::Vec;
use ringside_abi::session::{self, Kind, PAYLOAD};

/// Bytes of input that wait here at most, and so what the host may send ahead.
const ROOM: usize = 16 << 10;

/// Init's ends of the command's streams. On a terminal all three are one.
struct Streams {
    input: Option<Fd>,
    output: Option<Fd>,
    error: Option<Fd>,
    /// The terminal's, if there is one.
    terminal: Option<Fd>,
}

/// Starts the command and carries its streams until it has ended.
pub fn run(task: &Task<'_>, channel: &mut Channel) -> Result<Ending, Failure> {
    let children = sys::child_signals()
        .map_err(|errno| Failure::new("watch for", b"ended children", errno))?;
    let (child, streams) = spawn(task)?;
    let mut relay = Relay {
        channel,
        child,
        streams,
        pending: Vec::with_capacity(ROOM),
        ends: false,
        buffer: vec![0; PAYLOAD],
    };
    relay
        .channel
        .send(Kind::Room, &(ROOM as u32).to_le_bytes())?;
    loop {
        if let Some(ending) = relay.turn(children)? {
            relay.drain()?;
            return Ok(ending);
        }
    }
}

fn spawn(task: &Task<'_>) -> Result<(Pid, Streams), Failure> {
    let failed = |errno| Failure::new("make", b"the command's streams", errno);
    let (theirs, streams) = if let Some(size) = task.terminal {
        let (ours, theirs) = sys::terminal(size).map_err(failed)?;
        let streams = Streams {
            input: Some(ours),
            output: Some(ours),
            error: None,
            terminal: Some(ours),
        };
        ([theirs; 3], streams)
    } else {
        let input = sys::pipe().map_err(failed)?;
        let output = sys::pipe().map_err(failed)?;
        let error = sys::pipe().map_err(failed)?;
        let streams = Streams {
            input: Some(input.1),
            output: Some(output.0),
            error: Some(error.0),
            terminal: None,
        };
        ([input.0, output.1, error.1], streams)
    };
    let started = crate::start::start(task, theirs);
    for fd in theirs {
        sys::close(fd); // on a terminal the same three times: the second and third do nothing
    }
    for fd in [streams.input, streams.output, streams.error]
        .into_iter()
        .flatten()
    {
        sys::set_nonblocking(fd).map_err(failed)?;
    }
    Ok((started?, streams))
}

struct Relay<'a> {
    channel: &'a mut Channel,
    child: Pid,
    streams: Streams,
    /// Input that the command has not taken yet.
    pending: Vec<u8>,
    /// The input ends after that.
    ends: bool,
    buffer: Vec<u8>,
}

impl Relay<'_> {
    /// Waits for something to happen and deals with it; gives the command's end when it has come.
    fn turn(&mut self, children: Fd) -> Result<Option<Ending>, Failure> {
        let input = self.streams.input.filter(|_| !self.pending.is_empty());
        let mut polls = [
            Poll::new(self.channel.fd(), Events::IN),
            Poll::new(children, Events::IN),
            Poll::optional(self.streams.output, Events::IN),
            Poll::optional(self.streams.error, Events::IN),
            Poll::optional(input, Events::OUT),
        ];
        match sys::poll(&mut polls, -1) {
            Ok(_) | Err(Errno::INTERRUPTED) => {}
            Err(errno) => return Err(Failure::new("wait for", b"the streams", errno)),
        }
        if polls[2].ready() {
            self.output()?;
        }
        if polls[3].ready() {
            self.error()?;
        }
        if polls[0].ready() {
            self.hear()?;
        }
        if polls[4].ready() || !self.pending.is_empty() || self.ends {
            self.feed()?;
        }
        if polls[1].ready() {
            sys::read(children, &mut self.buffer).ok();
            return Ok(self.reap());
        }
        Ok(None)
    }

    fn output(&mut self) -> Result<(), Failure> {
        let fd = self.streams.output;
        self.streams.output = self.carry(fd, Kind::Output)?;
        Ok(())
    }

    fn error(&mut self) -> Result<(), Failure> {
        let fd = self.streams.error;
        self.streams.error = self.carry(fd, Kind::Error)?;
        Ok(())
    }

    /// Carries what one stream has; gives the stream back while it is open.
    fn carry(&mut self, fd: Option<Fd>, kind: Kind) -> Result<Option<Fd>, Failure> {
        let Some(fd) = fd else { return Ok(None) };
        match sys::read(fd, &mut self.buffer) {
            Ok(0) => Ok(None),
            Ok(count) => {
                self.channel.send(kind, &self.buffer[..count])?;
                Ok(Some(fd))
            }
            Err(Errno::AGAIN | Errno::INTERRUPTED) => Ok(Some(fd)),
            // A terminal says so when its last user is gone.
            Err(_) => Ok(None),
        }
    }

    /// The host's frames.
    fn hear(&mut self) -> Result<(), Failure> {
        let Relay {
            channel,
            child,
            streams,
            pending,
            ends,
            ..
        } = self;
        channel.receive(|kind, payload| match kind {
            Kind::Input if pending.len() + payload.len() <= ROOM => {
                pending.extend_from_slice(payload);
            }
            Kind::InputEnd => *ends = true,
            Kind::Signal => {
                if let Some(signal) = session::number(payload) {
                    sys::kill(*child, signal);
                }
            }
            Kind::Resize => {
                if let (Some(terminal), &[a, b, c, d]) = (streams.terminal, payload) {
                    let size = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                    sys::resize(terminal, size);
                }
            }
            _ => {}
        })
    }

    /// Gives the command as much input as it takes, and the host as much room.
    fn feed(&mut self) -> Result<(), Failure> {
        let Some(input) = self.streams.input else {
            // Nobody reads: the host need not wait for room.
            return self.taken(self.pending.len());
        };
        while !self.pending.is_empty() {
            match sys::write(input, &self.pending) {
                Ok(count) => self.taken(count)?,
                Err(Errno::AGAIN | Errno::INTERRUPTED) => return Ok(()),
                Err(_) => {
                    self.close_input();
                    return self.taken(self.pending.len());
                }
            }
        }
        if self.ends {
            self.ends = false;
            match self.streams.terminal {
                // Ctrl-D: a terminal cannot be closed for reading only.
                Some(terminal) => sys::write(terminal, &[4]).map(drop).unwrap_or(()),
                None => self.close_input(),
            }
        }
        Ok(())
    }

    fn close_input(&mut self) {
        if self.streams.terminal.is_none()
            && let Some(input) = self.streams.input.take()
        {
            sys::close(input);
        }
    }

    fn taken(&mut self, count: usize) -> Result<(), Failure> {
        if count == 0 {
            return Ok(());
        }
        self.pending.drain(..count);
        self.channel.send(Kind::Room, &(count as u32).to_le_bytes())
    }

    /// Takes every ended process; orphans come to process 1 too.
    fn reap(&self) -> Option<Ending> {
        let mut ending = None;
        while let Some((pid, status)) = sys::ended_child() {
            if pid == self.child {
                ending = Some(match status & 0x7f {
                    0 => Ending::Exited(status >> 8 & 0xff),
                    signal => Ending::Killed(signal),
                });
            }
        }
        ending
    }

    /// What the command wrote before it ended. A process that it left behind may hold the streams
    /// open; it is not waited for.
    fn drain(&mut self) -> Result<(), Failure> {
        loop {
            let mut polls = [
                Poll::optional(self.streams.output, Events::IN),
                Poll::optional(self.streams.error, Events::IN),
            ];
            match sys::poll(&mut polls, 0) {
                Ok(1..) => {}
                _ => return Ok(()),
            }
            if polls[0].ready() {
                self.output()?;
            }
            if polls[1].ready() {
                self.error()?;
            }
        }
    }
}

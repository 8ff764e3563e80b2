//! The host's end of the stream between a guest's init and its VMM
//! ([`ringside_abi::session`] draws it).
//!
//! What the guest sends is not trusted: a frame that is none ends the session.

use ringside_abi::session::{self, HEADER, Kind, PAYLOAD};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How a command in a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Killed(u8),
    /// It was not started.
    Failed {
        /// The status for it: 126, 127 or 125.
        status: u8,
        /// Why.
        message: String,
    },
    /// The guest said what no init of ours says.
    Nonsense,
}

impl Ending {
    /// The status that stands for it, 128 + n after signal n.
    pub fn code(&self) -> u8 {
        match *self {
            Ending::Exited(status) | Ending::Failed { status, .. } => status,
            Ending::Killed(signal) => signal.saturating_add(128),
            Ending::Nonsense => 125,
        }
    }
}

/// What is known of a session so far.
#[derive(Debug, Default)]
struct State {
    ready: Option<Instant>,
    room: usize,
    ending: Option<Ending>,
    /// The guest is gone, whatever it said.
    over: bool,
}

/// The session, for those who send and wait.
#[derive(Clone, Debug, Default)]
pub struct Session(Arc<(Mutex<State>, Condvar)>);

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.0.1.notify_all();
    }

    /// When the guest's user space reported.
    pub fn ready(&self) -> Option<Instant> {
        self.state().ready
    }

    /// How the command ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.state().ending.clone()
    }

    /// Ends it by a signal if the guest's user space has not reported yet; whether it has not.
    pub fn end_unless_ready(&self, signal: u8) -> bool {
        let mut state = self.state();
        let early = state.ready.is_none() && state.ending.is_none();
        if early {
            state.ending = Some(Ending::Killed(signal));
            self.0.1.notify_all();
        }
        early
    }

    /// Ends every wait.
    pub fn close(&self) {
        self.change(|state| state.over = true);
    }

    /// Waits until the command has ended, or the guest is gone.
    pub fn wait(&self) -> Option<Ending> {
        let waiting = |state: &mut State| state.ending.is_none() && !state.over;
        let state = self.0.1.wait_while(self.state(), waiting);
        state.unwrap_or_else(PoisonError::into_inner).ending.clone()
    }

    /// Waits until the guest takes input; `None` when it never will.
    pub fn room(&self) -> Option<usize> {
        let waiting = |state: &mut State| state.room == 0 && state.ending.is_none() && !state.over;
        let state = self.0.1.wait_while(self.state(), waiting);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        (state.room > 0 && state.ending.is_none() && !state.over).then_some(state.room)
    }

    /// Counts input that is about to be sent.
    pub fn sent(&self, bytes: usize) {
        self.state().room -= bytes;
    }
}

/// What the guest sends, as a stream of bytes that is written here.
pub struct Listener<O, E> {
    session: Session,
    output: O,
    error: E,
    buffer: Vec<u8>,
    /// Called once the last word is heard.
    ended: Box<dyn FnMut() + Send>,
}

impl<O: Write, E: Write> Listener<O, E> {
    /// Writes the command's streams to `output` and `error`.
    pub fn new(
        session: &Session,
        output: O,
        error: E,
        ended: impl FnMut() + Send + 'static,
    ) -> Self {
        Listener {
            session: session.clone(),
            output,
            error,
            buffer: Vec::with_capacity(HEADER + PAYLOAD),
            ended: Box::new(ended),
        }
    }

    fn hear(&mut self, kind: Kind, payload: &[u8]) {
        let byte = |payload: &[u8]| session::number(payload).map(|number| number as u8);
        let ending = match kind {
            Kind::Ready => {
                self.session
                    .change(|state| state.ready = Some(Instant::now()));
                return;
            }
            // A reader that has gone away is the command's affair as long as it writes: it is told by
            // nothing, as a process behind `ssh` is not either.
            Kind::Output => {
                let _ = self
                    .output
                    .write_all(payload)
                    .and_then(|()| self.output.flush());
                return;
            }
            Kind::Error => {
                let _ = self
                    .error
                    .write_all(payload)
                    .and_then(|()| self.error.flush());
                return;
            }
            Kind::Room => match session::number(payload) {
                Some(bytes) => {
                    self.session
                        .change(|state| state.room = state.room.saturating_add(bytes as usize));
                    return;
                }
                None => Ending::Nonsense,
            },
            Kind::Exited => byte(payload).map_or(Ending::Nonsense, Ending::Exited),
            Kind::Killed => byte(payload).map_or(Ending::Nonsense, Ending::Killed),
            Kind::Failed => match payload.split_first_chunk::<4>() {
                Some((status, text)) => Ending::Failed {
                    status: status[0],
                    message: printable(text),
                },
                None => Ending::Nonsense,
            },
            Kind::Input | Kind::InputEnd | Kind::Signal | Kind::Resize | Kind::Goodbye => {
                Ending::Nonsense
            }
        };
        self.end(ending);
    }

    fn end(&mut self, ending: Ending) {
        // The first last word counts.
        if self.session.ending().is_none() {
            self.session.change(|state| state.ending = Some(ending));
            (self.ended)();
        }
    }
}

impl<O: Write, E: Write> Write for Listener<O, E> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        while self.session.ending().is_none() {
            match session::first(rest) {
                Ok(Some((kind, payload, length))) => {
                    self.hear(kind, payload);
                    rest = &rest[length..];
                }
                Ok(None) => break,
                Err(session::NotAFrame) => self.end(Ending::Nonsense),
            }
        }
        if self.session.ending().is_none() {
            self.buffer = rest.to_vec();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One line as it may be shown on a terminal.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A frame for the guest.
pub fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(PAYLOAD)];
    let mut frame = kind.header(payload.len() as u16).to_vec();
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn said(frames: &[Vec<u8>], pieces: usize) -> (Session, Vec<u8>, Vec<u8>, u32) {
        let session = Session::default();
        let (mut output, mut error) = (Vec::new(), Vec::new());
        let ends = Arc::new(AtomicU32::new(0));
        let counter = ends.clone();
        let ended = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let mut listener = Listener::new(&session, &mut output, &mut error, ended);
        for piece in frames.concat().chunks(pieces) {
            listener.write_all(piece).unwrap();
        }
        drop(listener);
        (session, output, error, ends.load(Ordering::Relaxed))
    }

    #[test]
    fn streams_and_status_arrive_however_they_are_cut() {
        let frames = [
            frame(Kind::Ready, &[]),
            frame(Kind::Room, &100_u32.to_le_bytes()),
            frame(Kind::Output, b"out"),
            frame(Kind::Error, b"err"),
            frame(Kind::Output, b"put"),
            frame(Kind::Exited, &3_u32.to_le_bytes()),
        ];
        for pieces in [1, 3, 1000] {
            let (session, output, error, ends) = said(&frames, pieces);
            assert_eq!(
                (&output[..], &error[..], ends),
                (&b"output"[..], &b"err"[..], 1)
            );
            assert!(session.ready().is_some());
            assert_eq!(session.wait(), Some(Ending::Exited(3)));
            assert_eq!(session.room(), None, "nobody reads any more");
        }
    }

    #[test]
    fn nonsense_ends_the_session() {
        for frames in [
            vec![vec![0xff; 4]],
            vec![frame(Kind::Exited, b"1")],
            vec![frame(Kind::Input, b"x")],
            vec![frame(Kind::Room, b"")],
            vec![frame(Kind::Failed, b"123")],
        ] {
            let (session, .., ends) = said(&frames, 1);
            assert_eq!((session.ending(), ends), (Some(Ending::Nonsense), 1));
        }
    }

    #[test]
    fn the_first_last_word_counts() {
        let frames = [
            frame(Kind::Killed, &9_u32.to_le_bytes()),
            frame(Kind::Exited, &0_u32.to_le_bytes()),
            frame(Kind::Output, b"more"),
        ];
        let (session, output, _, ends) = said(&frames, 1000);
        assert_eq!((session.ending().unwrap().code(), ends), (137, 1));
        assert!(output.is_empty());
    }

    #[test]
    fn a_command_that_did_not_start_says_why() {
        let mut payload = 127_u32.to_le_bytes().to_vec();
        payload.extend_from_slice(b"cannot run /x: \x1b[31mno such file or directory\n");
        let (session, ..) = said(&[frame(Kind::Failed, &payload)], 5);
        let ending = session.ending().unwrap();
        assert_eq!(ending.code(), 127);
        let Ending::Failed { message, .. } = ending else {
            panic!("{ending:?}")
        };
        assert_eq!(message, "cannot run /x: [31mno such file or directory");
    }

    #[test]
    fn input_waits_for_room() {
        let session = Session::default();
        session.change(|state| state.room = 10);
        assert_eq!(session.room(), Some(10));
        session.sent(10);
        session.close();
        assert_eq!(session.room(), None);
        assert_eq!(session.wait(), None);
    }
}

//! Descriptors for others: the listener of a system-call filter, for whoever decides about the calls
//! (`config-linux.md`, "The Container Process State"), and that of a process.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use super::Error;
use super::bundle::seccomp::NOTIFY_NAME;
use crate::spec::{SeccompRule, Spec};
use crate::sys;

/// The version of the message's own shape, which is that of the specification's example and the one that
/// agents written for crun insist on. The container's is in its state.
const MESSAGE_VERSION: &str = "0.2.0";

/// Fetches descriptor `number` of `process` and sends it with the container's state to the listener.
///
/// # Errors
/// When the listener cannot be reached, and some call is to be decided by it.
pub fn pass_on(
    spec: &Spec,
    process: BorrowedFd<'_>,
    number: i32,
    pid: i32,
    state: &[u8],
) -> Result<(), Error> {
    let Some(seccomp) = &spec.linux.seccomp else {
        return Ok(());
    };
    let filter = sys::descriptor_of(process, number).map_err(Error::system("pidfd_getfd"))?;
    let message = json!({
        "ociVersion": MESSAGE_VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": seccomp.listener_metadata,
        "state": serde_json::from_slice::<Value>(state).unwrap_or_default(),
    })
    .to_string();
    let path: &Path = seccomp.listener_path.as_ref();
    let asks = |rule: &SeccompRule| rule.action == NOTIFY_NAME;
    let is_asked = seccomp.syscalls.iter().any(asks);
    let patience = if is_asked { PATIENCE } else { Duration::ZERO };
    match send(path, patience, message.as_bytes(), filter.as_fd()) {
        // Nobody is missed whom nothing asks, as with runc.
        Err(Error::File { .. }) if !is_asked => Ok(()),
        Err(Error::File { path, source }) => Err(Error::NoAgent { path, source }),
        other => other,
    }
}

/// How long whoever is to receive a descriptor may take to be there: callers start it beside us.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Connects to a socket, which somebody may be about to make in a directory that is there.
///
/// # Errors
/// When nobody listens there, not even `patience` later.
pub fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + patience;
    loop {
        let error = match UnixStream::connect(path) {
            Err(error) => error,
            connected => return connected,
        };
        let is_awaited = match error.kind() {
            io::ErrorKind::NotFound => path
                .parent()
                .is_some_and(|it| it.as_os_str().is_empty() || it.is_dir()),
            io::ErrorKind::ConnectionRefused => true,
            _ => false,
        };
        if !is_awaited || Instant::now() >= deadline {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a message with a descriptor to whoever listens at `path`, or does so before `patience` is over.
///
/// # Errors
/// [`Error::File`] when nobody does.
pub fn send(
    path: &Path,
    patience: Duration,
    message: &[u8],
    descriptor: BorrowedFd<'_>,
) -> Result<(), Error> {
    let socket = connect(path, patience).map_err(|source| Error::File {
        path: path.into(),
        source,
    })?;
    let descriptors = [descriptor.as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(message)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
    .map_err(Error::system("sendmsg"))
}

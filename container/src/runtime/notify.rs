//! Descriptors for others: the listener of a system-call filter, for whoever decides about the calls
//! (`config-linux.md`, "The Container Process State"), and that of a process.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

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
    let is_asked = |rule: &SeccompRule| rule.action == NOTIFY_NAME;
    match send(path, message.as_bytes(), filter.as_fd()) {
        // Nobody is missed whom nothing asks, as with runc.
        Err(Error::File { .. }) if !seccomp.syscalls.iter().any(is_asked) => Ok(()),
        Err(Error::File { path, source }) => Err(Error::NoAgent { path, source }),
        other => other,
    }
}

/// Sends a message with a descriptor to whoever listens at `path`.
///
/// # Errors
/// [`Error::File`] when nobody does.
pub fn send(path: &Path, message: &[u8], descriptor: BorrowedFd<'_>) -> Result<(), Error> {
    let socket = UnixStream::connect(path).map_err(|source| Error::File {
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

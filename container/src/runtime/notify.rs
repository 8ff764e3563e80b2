//! Passing the listener of a system-call filter on to whoever decides about the calls
//! (`config-linux.md`, "The Container Process State").

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use super::Error;
use crate::spec::Spec;
use crate::sys;

/// Fetches descriptor `number` of `process` and sends it with the container's state to the listener.
///
/// # Errors
/// When the listener cannot be reached.
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
    let socket = UnixStream::connect(&seccomp.listener_path).map_err(|source| Error::File {
        path: seccomp.listener_path.clone().into(),
        source,
    })?;
    let message = json!({
        "ociVersion": spec.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": seccomp.listener_metadata,
        "state": serde_json::from_slice::<Value>(state).unwrap_or_default(),
    })
    .to_string();
    let descriptors = [filter.as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(message.as_bytes())],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
    .map_err(Error::system("sendmsg"))
}

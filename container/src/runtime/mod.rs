//! Containers that live on between commands: the life cycle of the OCI runtime specification
//! (`runtime.md`), as `runc` has it.

pub mod bundle;
pub mod checkpoint;
mod copy_up;
pub mod create;
mod defaults;
pub mod delete;
mod detached;
mod error;
pub mod events;
pub mod exec;
mod executor;
pub mod foreground;
pub mod hooks;
pub mod host_bundle;
mod id_maps;
pub mod init;
pub mod inspect;
mod interfaces;
mod join;
pub mod kill;
mod members;
mod netlink;
mod notify;
mod own_binary;
mod passwd;
mod plan;
mod rlimit;
pub mod root;
pub mod start;
pub mod state;
pub mod status;
mod time;

pub use defaults::{default_spec, features};
pub use error::Error;
pub use own_binary::protect as protect_own_binary;
pub use passwd::user_name;
pub use rlimit::rlimit_number;
pub use time::now;

use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Where containers are remembered unless told otherwise. Root of a user namespace, as podman makes one for an
/// ordinary user, is that user still, unless it goes by root's name, as in a container for whole systems.
pub fn default_root() -> PathBuf {
    let is_root = nix::unistd::geteuid().is_root()
        && (crate::host::is_first_user_namespace()
            || std::env::var_os("USER").is_some_and(|it| it == "root"));
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if !is_root => PathBuf::from(directory).join("ringside-oci"),
        _ => "/run/ringside-oci".into(),
    }
}

/// Takes a descriptor that has just been received and belongs to nobody else.
pub fn own_descriptor(fd: RawFd) -> OwnedFd {
    crate::sys::own(fd)
}

/// A terminal that nobody would have; in runc's words.
const NO_SOCKET: &str = "cannot allocate tty if runc will detach without setting console socket";
/// The opposite.
const NO_TERMINAL: &str = "cannot use console socket if runc will not detach or allocate tty";

/// Connects to the socket that a terminal is to be sent to.
fn connect_console(path: &Path) -> Result<OwnedFd, Error> {
    let socket = notify::connect(path, notify::PATIENCE).map(OwnedFd::from);
    socket.map_err(|source| Error::At {
        what: "connect to where its terminal goes (`--console-socket`)".into(),
        path: path.into(),
        source,
    })
}

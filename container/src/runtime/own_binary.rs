//! The runtime's own file cannot be overwritten by a container: see `sys/own_binary.rs` for the attack.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{AccessFlags, faccessat};

use super::Error;
use crate::sys::{self, View};

/// The view of our file that who enters a container runs from.
static VIEW: Mutex<Option<View>> = Mutex::new(None);

/// Moves this process onto the view, if there is one. A child does that for itself, before it goes near a
/// container: it has not used much of the program yet, and what is mapped anew has to be read in anew.
pub(super) fn enter_view() -> Result<(), Errno> {
    let mut view = VIEW.lock().unwrap_or_else(PoisonError::into_inner);
    view.as_mut().map_or(Ok(()), View::enter)
}

/// Lets go of the view, once there is a child that has a copy of its descriptors. Whoever closes the last one
/// waits until every processor has passed the kernel (RCU), which takes its time; and the child has to wait
/// anyway.
pub(super) fn let_go() {
    VIEW.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Sees to it that what enters a container runs from a file that nobody can write to. Called before anything of
/// a container's is there, by a program with one thread.
///
/// # Errors
/// When it does not, and cannot.
pub fn protect() -> Result<(), Error> {
    // Nor look at what it becomes in a container, from its birth on. (In a user namespace the kernel would
    // take our own files of /proc away from us as well.)
    if crate::host::is_first_user_namespace() && nix::unistd::geteuid().is_root() {
        nix::sys::prctl::set_dumpable(false).map_err(Error::system("prctl"))?;
    }
    // Whoever may not write to it here may not do so inside: a container has no more rights.
    if faccessat(AT_FDCWD, sys::OWN, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_err() {
        return Ok(());
    }
    if let Ok(view) = View::new() {
        *VIEW.lock().unwrap_or_else(PoisonError::into_inner) = Some(view);
        return Ok(());
    }
    let own = File::open("/proc/self/exe").map_err(errno);
    let own = own.map_err(Error::system("open"))?;
    // This is the copy: it was executed below.
    if fcntl(&own, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & SEALS.bits() == SEALS.bits()) {
        return Ok(());
    }
    run_from_copy(own).map_err(Error::system("execveat"))
}

/// Nothing about a file with these changes any more.
const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Without the rights to a mount of its own: executes a copy in memory that is sealed.
fn run_from_copy(mut own: File) -> Result<(), Errno> {
    let name = c"ringside-oci";
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    // Before Linux 6.3 there was no flag, and every such file could be executed.
    let memory = memfd_create(name, flags | executable).or_else(|_| memfd_create(name, flags))?;
    let mut memory = File::from(memory);
    std::io::copy(&mut own, &mut memory).map_err(errno)?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SEALS))?;
    // What is open for writing cannot be executed.
    let sealed = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).map_err(errno)?;
    drop(memory);
    let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let arguments: Vec<CString> = std::env::args_os().map(|it| text(it.as_bytes())).collect();
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect();
    Err(sys::execute_file(sealed.as_fd(), &arguments, &environment))
}

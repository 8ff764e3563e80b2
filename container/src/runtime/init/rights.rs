//! What the program will be as a process: its user, processors, directory, and what the kernel keeps in files.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid};

use super::Init;
use crate::runtime::root;
use crate::sys;

/// Writes a parameter of the kernel's, and makes sure that it is the kernel who reads it.
pub(super) fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    if path.to_bytes().starts_with(b"/proc/") && !root::is_proc(file.as_fd())? {
        return Err(Errno::EXDEV);
    }
    nix::unistd::write(&file, bytes).map(drop)
}

/// The processors of a list, or all that there are: the kernel leaves out those that the cgroup lacks.
pub(super) fn set_affinity(processors: Option<&[usize]>) -> Result<(), Errno> {
    let mut set = nix::sched::CpuSet::new();
    match processors {
        Some(list) => list.iter().try_for_each(|it| set.set(*it))?,
        None => (0..nix::sched::CpuSet::count()).try_for_each(|it| set.set(it))?,
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
}

pub(super) fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<(), Errno> {
    prctl::set_keepcaps(true)?;
    if let Some(groups) = groups {
        let list: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
        match setgroups(&list) {
            // A user namespace in which `setgroups` is denied has no more groups to lose.
            Err(Errno::EPERM) if list.is_empty() => {}
            other => other?,
        }
    }
    let (gid, uid) = (Gid::from_raw(gid), Uid::from_raw(uid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    prctl::set_keepcaps(false)?;
    // Another user's process has an empty effective set; what follows needs it.
    if !uid.is_root() {
        sys::restore_effective()?;
    }
    Ok(())
}

impl Init<'_> {
    /// Root of a user namespace may be kept out of what is its user's, who goes there later then.
    pub(super) fn change_directory(
        &mut self,
        path: &CStr,
        may_be_barred: bool,
    ) -> Result<(), Errno> {
        match change_directory(path) {
            Err(Errno::EACCES) if may_be_barred => {
                self.is_barred = true;
                Ok(())
            }
            other => other,
        }
    }
}

/// Goes there, and makes sure that "there" is in the root: a directory of the host's that some
/// descriptor still leads to has no path (`man 2 getcwd`).
fn change_directory(path: &CStr) -> Result<(), Errno> {
    chdir(path)?;
    match nix::unistd::getcwd() {
        Ok(here) if here.as_os_str().as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Errno::EXDEV),
    }
}

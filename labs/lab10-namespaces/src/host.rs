//! The real kernel behind [`System`]. Given; worth reading once your steps work.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{chdir, chroot, execve, pivot_root, sethostname};

use crate::given::{Command, Ended, Errno, Namespace, Pid, Step, System};
use crate::sys;

/// Makes the system calls.
#[derive(Debug, Default)]
pub struct Host;

impl System for Host {
    fn clone(
        &mut self,
        namespaces: &[Namespace],
        child: &mut dyn FnMut(&mut dyn System) -> i32,
    ) -> Result<Pid, Errno> {
        let flag = |namespace: &Namespace| match namespace {
            Namespace::Mount => CloneFlags::CLONE_NEWNS,
            Namespace::Pid => CloneFlags::CLONE_NEWPID,
            Namespace::Uts => CloneFlags::CLONE_NEWUTS,
            Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
            Namespace::User => CloneFlags::CLONE_NEWUSER,
        };
        sys::clone(namespaces.iter().map(flag).collect(), || child(&mut Host))
    }

    fn perform(&mut self, step: &Step) -> Result<(), Errno> {
        const NONE: Option<&str> = None;
        match step {
            Step::WriteFile { path, text } => write_file(path, text),
            Step::MakePrivate => {
                let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(NONE, "/", NONE, flags, NONE)
            }
            Step::Bind { from, to } => {
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                mount(Some(from), to, NONE, flags, NONE)
            }
            Step::ReadOnly { target } => {
                // A user namespace may not drop flags that the host has set: keep them all.
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
                mount(NONE, target, NONE, flags | flags_of(target)?, NONE)
            }
            Step::MountProc { target } => {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some("proc"), target, Some("proc"), flags, NONE)
            }
            Step::SetHostname(name) => sethostname(name),
            Step::ChangeDirectory(path) => chdir(path),
            Step::Chroot { path } => chroot(path),
            Step::PivotRoot { new_root, put_old } => pivot_root(new_root, put_old),
            Step::Detach { target } => umount2(target, MntFlags::MNT_DETACH),
        }
    }

    fn close_from(&mut self, first: u32) -> Result<(), Errno> {
        sys::close_from(first)
    }

    fn execve(&mut self, command: &Command) -> Errno {
        let strings = |texts: &[String]| -> Result<Vec<CString>, Errno> {
            let string = |text: &String| CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL);
            texts.iter().map(string).collect()
        };
        let become_it = || -> Result<Infallible, Errno> {
            let program = command.program.as_os_str().as_bytes();
            let program = CString::new(program).map_err(|_| Errno::EINVAL)?;
            let arguments = strings(&command.arguments)?;
            execve(&program, &arguments, &strings(&command.environment)?)
        };
        match become_it() {
            Ok(never) => match never {},
            Err(errno) => errno,
        }
    }

    fn wait(&mut self) -> Result<(Pid, Ended), Errno> {
        loop {
            match wait()? {
                WaitStatus::Exited(pid, status) => {
                    return Ok((pid.as_raw(), Ended::Exited(status)));
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    return Ok((pid.as_raw(), Ended::Killed(signal as i32)));
                }
                _ => {} // stopped or continued: still alive
            }
        }
    }

    fn report(&mut self, message: &str) {
        let _ = writeln!(io::stderr(), "container: {message}");
    }
}

/// Writes without creating, in one call: the kernel takes a whole map or none.
fn write_file(path: &Path, text: &str) -> Result<(), Errno> {
    let write = || {
        OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all(text.as_bytes())
    };
    write().map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

fn flags_of(target: &Path) -> Result<MsFlags, Errno> {
    let set = statvfs(target)?.flags();
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let kept = pairs.into_iter().filter(|(fs, _)| set.contains(*fs));
    Ok(kept.map(|(_, ms)| ms).collect())
}

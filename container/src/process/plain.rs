//! The calls of a plan that need nothing but the kernel: any process may make them, and a child between
//! `clone3` and `execve` as well, because nothing here allocates.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{mount, umount2};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, chdir, chown, mkdir, pivot_root, sethostname, symlinkat};

use crate::plan::call::Call;
use crate::sys;

/// Makes one call.
///
/// # Errors
/// The kernel's; `ENOSYS` for a call that is not the caller's: a plan that gives it to this process is
/// wrong, and says so.
pub fn call(call: &Call) -> Result<(), Errno> {
    match call {
        Call::DieWithRuntime => prctl::set_pdeathsig(Signal::SIGKILL),
        Call::NotDumpable => prctl::set_dumpable(false),
        Call::NewKeyring => match sys::new_session_keyring() {
            // A kernel without keyrings has no keys to leave behind.
            Err(Errno::ENOSYS) => Ok(()),
            other => other,
        },
        Call::Unshare { namespaces } => sys::unshare(namespaces.flags()),
        Call::Mount {
            source,
            target,
            kind,
            flags,
            data,
        } => mount(
            source.as_deref(),
            target.as_c_str(),
            kind.as_deref(),
            *flags,
            data.as_deref(),
        ),
        Call::Unmount { target, flags } => umount2(target.as_c_str(), *flags),
        Call::PivotRoot { new_root, put_old } => {
            pivot_root(new_root.as_c_str(), put_old.as_c_str())
        }
        Call::ChangeDirectory { path } => chdir(path.as_c_str()),
        Call::MakeDirectory { path, mode } => {
            mkdir(path.as_c_str(), Mode::from_bits_truncate(*mode))
        }
        Call::ChangeOwner {
            path,
            owner: (user, group),
        } => chown(
            path.as_c_str(),
            Some(Uid::from_raw(*user)),
            Some(Gid::from_raw(*group)),
        ),
        Call::MakeReadOnly { path } => sys::make_read_only(path),
        Call::MakeFile { path } => {
            let flags = OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            openat(
                AT_FDCWD,
                path.as_c_str(),
                flags,
                Mode::from_bits_truncate(0o666),
            )
            .map(drop)
        }
        Call::MakeDevice {
            path,
            device: (major, minor),
        } => {
            let device = makedev(u64::from(*major), u64::from(*minor));
            mknod(
                path.as_c_str(),
                SFlag::S_IFCHR,
                Mode::from_bits_truncate(0o666),
                device,
            )
        }
        Call::Link { target, path } => symlinkat(target.as_c_str(), AT_FDCWD, path.as_c_str()),
        Call::SetHostname { name } => sethostname(OsStr::from_bytes(name.to_bytes())),
        Call::LoopbackUp => sys::loopback_up(),
        Call::LimitCapabilities { keep } => {
            sys::drop_bounding(*keep)?;
            sys::set_capabilities(*keep)
        }
        Call::NoNewPrivileges => prctl::set_no_new_privs(),
        _ => Err(Errno::ENOSYS),
    }
}

//! Mounts that the runtime takes from the host's before init is born: those whose source root of the
//! container's user namespace may not reach, those that show other owners (idmapped mounts), and device
//! nodes, which that root may not make.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknodat};
use nix::unistd::{Gid, Uid, fchownat, pipe2, read};

use super::Error;
use crate::namespace::Namespace;
use crate::namespace::user::Mapping;
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::oci::{Detached, DeviceNode, MountIn, OciCall, Owners};
use crate::plan::step::Step;
use crate::start::reap;
use crate::sys::{self, Clone3};

/// Takes what the plan's mounts are to be attached from, in their order. None where init takes it, and
/// where the kernel lets us not and the mount can be made by its path.
///
/// # Errors
/// The mount that cannot be taken or mapped.
pub fn take(plan: &Plan) -> Result<Vec<Option<OwnedFd>>, Error> {
    let taken = all(plan).map(|it| match it.detached.is_of_root {
        true => Ok(None),
        false => one(&it),
    });
    taken.collect()
}

/// Gives `tree`, which init has taken for mount number `index`, its owners.
///
/// # Errors
/// The mount that cannot be mapped.
pub fn map(plan: &Plan, index: usize, tree: BorrowedFd<'_>) -> Result<(), Error> {
    let mut all = all(plan);
    let it = all.find(|it| it.detached.index == index);
    it.map_or(Ok(()), |it| it.map(tree))
}

/// A mount of the plan's that is attached from what was taken before.
struct Taken<'a> {
    step: &'a Step,
    /// The place of its call in the step.
    call: u16,
    mount: &'a MountIn,
    detached: &'a Detached,
}

fn all(plan: &Plan) -> impl Iterator<Item = Taken<'_>> {
    plan.steps.iter().flat_map(|step| {
        let calls = step.calls.iter().enumerate();
        calls.filter_map(move |(call, it)| match it {
            Call::Oci(OciCall::Mount(mount)) => Some(Taken {
                step,
                call: call as u16,
                mount,
                detached: mount.detached.as_ref()?,
            }),
            _ => None,
        })
    })
}

impl Taken<'_> {
    fn failed(&self, errno: Errno) -> Error {
        Error::Step(crate::Error::step(self.step, self.call, errno))
    }

    fn map(&self, tree: BorrowedFd<'_>) -> Result<(), Error> {
        let Some(owners) = &self.detached.owners else {
            return Ok(());
        };
        let users = user_namespace(owners)?;
        sys::map_tree(tree, users.as_fd(), self.detached.is_mapped_recursively)
            .map_err(|errno| self.failed(errno))
    }
}

fn one(it: &Taken<'_>) -> Result<Option<OwnedFd>, Error> {
    let tree = match (&it.detached.device, &it.mount.source) {
        (Some(device), _) => device_tree(device),
        (None, Some(source)) => sys::clone_tree(source, it.mount.is_recursive()),
        (None, None) => Err(Errno::EINVAL),
    };
    match (tree, &it.detached.owners) {
        (Err(Errno::EPERM | Errno::ENOSYS), None) => Ok(None),
        (tree, _) => {
            let tree = tree.map_err(|errno| it.failed(errno))?;
            it.map(tree.as_fd())?;
            Ok(Some(tree))
        }
    }
}

/// A node in a file system of its own, which goes with the last who uses it. Before Linux 6.15 nothing can be
/// taken of a file system that is mounted nowhere: a thread mounts it in a namespace of its own, which is gone
/// when the thread has ended.
fn device_tree(device: &DeviceNode) -> Result<OwnedFd, Errno> {
    let taken = thread::scope(|scope| {
        let elsewhere = scope.spawn(|| {
            sys::unshare(libc::CLONE_FS | libc::CLONE_NEWNS)?;
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
            let root = open(c"/", flags, Mode::empty())?;
            sys::set_propagation(root.as_fd(), MsFlags::MS_PRIVATE | MsFlags::MS_REC)?;
            let directory = sys::new_tmpfs()?;
            sys::attach_tree(directory.as_fd(), root.as_fd())?;
            make_node(&directory, device)?;
            sys::clone_tree_at(directory.as_fd(), NODE)
        });
        elsewhere.join()
    });
    taken.unwrap_or(Err(Errno::ECHILD))
}

/// The only name in a file system for one device.
const NODE: &CStr = c"device";

fn make_node(directory: &OwnedFd, device: &DeviceNode) -> Result<(), Errno> {
    let (kind, permissions) = (
        SFlag::from_bits_truncate(device.mode) & SFlag::S_IFMT,
        Mode::from_bits_truncate(device.mode & 0o7777),
    );
    let number = makedev(device.number.0.into(), device.number.1.into());
    mknodat(directory, NODE, kind, Mode::empty(), number)?;
    let (user, group) = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
    let on_node = AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(directory, NODE, Some(user), Some(group), on_node)?;
    // After the owner, whose change takes bits away, and whatever the umask is.
    fchmodat(directory, NODE, permissions, FchmodatFlags::FollowSymlink)
}

/// A user namespace that has these owners; nobody lives in it.
fn user_namespace(owners: &Owners) -> Result<OwnedFd, Error> {
    let opened = |path: &str| {
        open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| Error::File {
            path: path.into(),
            source: errno.into(),
        })
    };
    let (users, groups) = match owners {
        Owners::OfNamespace(path) => return opened(path),
        Owners::Mapped { users, groups } => (users, groups),
    };
    let (wait, end) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("pipe2"))?;
    let clone = Clone3 {
        namespaces: Namespace::User.flag(),
        ..Clone3::default()
    };
    let child = sys::clone3(&clone, || {
        // It has a copy of the other end, which would keep it waiting.
        let other = end.as_raw_fd() as u32;
        let _ = sys::close_range(other, other);
        i32::from(read(&wait, &mut [0]).is_err())
    })
    .map_err(Error::system("clone3"))?;
    let pid = child.pid.as_raw();
    let lines = |map: &[Mapping]| map.iter().map(|it| format!("{it}\n")).collect::<String>();
    let made = super::executor::write_proc(pid, "uid_map", &lines(users))
        .and_then(|()| super::executor::write_proc(pid, "gid_map", &lines(groups)))
        .and_then(|()| opened(&format!("/proc/{pid}/ns/user")));
    drop(end);
    let ended = reap(&child);
    let namespace = made?;
    ended?;
    Ok(namespace)
}

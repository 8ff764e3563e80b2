//! Mounts that the runtime takes from the host's before init is born: those whose source root of the
//! container's user namespace may not reach, those that show other owners (idmapped mounts), and device
//! nodes, which that root may not make.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknodat};
use nix::unistd::{Gid, Uid, fchownat, pipe2, read};

use super::Error;
use crate::namespace::Namespace;
use crate::namespace::user::Mapping;
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::oci::{Detached, DeviceNode, OciCall, Owners};
use crate::start::reap;
use crate::sys::{self, Clone3};

/// Takes what the plan's mounts are to be attached from, in their order. None where the kernel lets
/// us not and the mount can be made by its path.
///
/// # Errors
/// The mount that cannot be taken or mapped.
pub fn take(plan: &Plan) -> Result<Vec<Option<OwnedFd>>, Error> {
    let mut taken = Vec::new();
    for step in &plan.steps {
        for (index, call) in step.calls.iter().enumerate() {
            if let Call::Oci(OciCall::Mount(mount)) = call
                && let (Some(detached), Some(source)) = (&mount.detached, &mount.source)
            {
                let failed = |errno| Error::Step(crate::Error::step(step, index as u16, errno));
                taken.push(one(detached, source, mount.is_recursive(), failed)?);
            }
        }
    }
    Ok(taken)
}

fn one(
    detached: &Detached,
    source: &CString,
    is_recursive: bool,
    failed: impl Fn(Errno) -> Error,
) -> Result<Option<OwnedFd>, Error> {
    let tree = match &detached.device {
        Some(device) => device_tree(device),
        None => sys::clone_tree(source, is_recursive),
    };
    let tree = match (tree, &detached.owners) {
        (Err(Errno::EPERM | Errno::ENOSYS), None) => return Ok(None),
        (other, _) => other.map_err(&failed)?,
    };
    if let Some(owners) = &detached.owners {
        let users = user_namespace(owners)?;
        sys::map_tree(tree.as_fd(), users.as_fd(), detached.is_mapped_recursively)
            .map_err(failed)?;
    }
    Ok(Some(tree))
}

/// A node in a file system of its own, which goes with the last who uses it.
fn device_tree(device: &DeviceNode) -> Result<OwnedFd, Errno> {
    let directory = sys::new_tmpfs()?;
    let (kind, permissions) = (
        SFlag::from_bits_truncate(device.mode) & SFlag::S_IFMT,
        Mode::from_bits_truncate(device.mode & 0o7777),
    );
    let number = makedev(device.number.0.into(), device.number.1.into());
    let name = c"device";
    mknodat(&directory, name, kind, Mode::empty(), number)?;
    let (user, group) = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
    let on_node = AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(&directory, name, Some(user), Some(group), on_node)?;
    // After the owner, whose change takes bits away, and whatever the umask is.
    fchmodat(&directory, name, permissions, FchmodatFlags::FollowSymlink)?;
    sys::clone_tree_at(directory.as_fd(), name)
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

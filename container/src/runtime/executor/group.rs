//! The container's cgroup as a command makes it, and as it is removed when the container is gone.

use std::path::PathBuf;

use nix::errno::Errno;

use super::Runtime;
use crate::cgroup::{self, Group, Layout, Limits, systemd};
use crate::runtime::bundle::limits;
use crate::spec::Spec;

impl Runtime<'_> {
    /// An ordinary user who was given no cgroups and asks for none, neither by a path nor by a limit, gets
    /// a container that is in the caller's, as with runc.
    pub(super) fn can_go_without(&self, error: &cgroup::Error) -> bool {
        let asks = |spec: &Spec| {
            let limits = limits::limits(&spec.linux.resources);
            !spec.linux.cgroups_path.is_empty() || limits.is_ok_and(|it| it != Limits::default())
        };
        let is_denied = match error {
            // In version 2 no group was found that this user may make another in.
            cgroup::Error::InternalProcesses { .. } => !nix::unistd::geteuid().is_root(),
            error => matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)),
        };
        is_denied && !self.spec.is_none_or(asks)
    }
}

/// Removes the directories of a cgroup, and kills whoever is left in them.
pub(super) fn remove_groups(paths: &[PathBuf]) -> Result<(), cgroup::Error> {
    let left = cgroup::remove_empty(paths);
    if left.is_empty() {
        return Ok(());
    }
    let layout = Layout::detect()?;
    let group = Group::from_paths(&layout, left, layout.controllers())?;
    group.kill()?;
    group.remove()
}

/// Stops the scope of a container whose processes have ended, which systemd may not have seen yet.
pub(super) fn stop_scope(unit: Option<&str>) -> Result<(), cgroup::Error> {
    let Some(unit) = unit else { return Ok(()) };
    match systemd::Manager::connect(systemd::is_user()) {
        // With systemd its units are gone.
        Err(systemd::Error::NotReached { .. }) => Ok(()),
        manager => Ok(manager?.stop(unit)?),
    }
}

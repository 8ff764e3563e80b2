//! The container's cgroup as a command makes it, and as it is removed when the container is gone.

use std::path::PathBuf;

use nix::errno::Errno;

use super::Runtime;
use crate::cgroup::{
    self, Controller, Controllers, Group, Layout, Limits, Version, Wanted, systemd,
};
use crate::runtime::Error;
use crate::runtime::bundle::{self, limits};
use crate::spec::NamespaceKind;

impl Runtime<'_> {
    /// Makes the container's cgroup. An ordinary user who may not, and asks for none, neither by a path nor by a
    /// limit, gets a container that is in the caller's, as with runc.
    pub(super) fn create_group(
        &self,
        layout: &Layout,
        name: &str,
        controllers: Controllers,
    ) -> Result<Group, Error> {
        let limits = self.spec.map(|spec| limits::limits(&spec.linux.resources));
        let limits = limits.transpose()?.unwrap_or_default();
        let create = |all| {
            let needed = limits.controllers();
            let group = Group::create_vacant(layout, name, Wanted { all, needed })?;
            Ok(group.with_named(layout, name))
        };
        let source = match create(controllers) {
            Err(error) if is_denied(&error) => error,
            other => return Ok(other?),
        };
        let Some(spec) = self.spec else {
            return Err(source.into());
        };
        if spec.linux.cgroups_path.is_empty() && limits == Limits::default() {
            if !bundle::is_new(spec, NamespaceKind::Pid) {
                log::warn!(
                    "it has neither a cgroup nor a PID namespace of its own, so nobody can tell all of its processes. Such configuration is strongly discouraged; add `pid` to `linux.namespaces`"
                );
            }
            return Ok(Group::none());
        }
        if is_root_of_the_host() {
            return Err(source.into());
        }
        // Who was lent groups of version 1 may have none of version 2, and need none.
        let in_v1 = |it: &Controller| {
            let home = layout.home(*it);
            home.is_ok_and(|home| home.version == Version::V1)
        };
        let lent: Controllers = controllers.iter().filter(in_v1).collect();
        let needed = limits.controllers();
        if !lent.is_empty()
            && lent != controllers
            && needed.without(lent).is_empty()
            && let Ok(group) = create(lent)
        {
            return Ok(group);
        }
        Err(Error::NotLent { source })
    }
}

/// Root of another user namespace is some user of the host's.
fn is_root_of_the_host() -> bool {
    nix::unistd::geteuid().is_root() && crate::host::is_first_user_namespace()
}

/// Whether it is this user who may not make a group.
fn is_denied(error: &cgroup::Error) -> bool {
    match error {
        // In version 2 none was found that this user may make another in.
        cgroup::Error::InternalProcesses { .. } => !is_root_of_the_host(),
        error => matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)),
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

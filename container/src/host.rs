//! What a plan has to know of the host.

use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;

use crate::cgroup::{self, Layout};
use crate::mount::table;
use crate::mount::view::{Place, view};
use crate::sys;

/// The capabilities that putting a container together takes without a user namespace:
/// SETPCAP, NET_ADMIN, SYS_ADMIN, MKNOD.
const NEEDED_CAPABILITIES: u64 = 1 << 8 | 1 << 12 | 1 << 21 | 1 << 27;

/// The inode of the first user namespace (`PROC_USER_INIT_INO` of <linux/proc_ns.h>).
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Facts about the calling process and its host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Effective user number.
    pub user: u32,
    /// Effective group number.
    pub group: u32,
    /// Effective capabilities, a bit for each.
    pub capabilities: u64,
    /// Whether no user namespace is needed.
    pub is_privileged: bool,
    /// Which of its files a container is to see.
    pub places: Vec<Place>,
    /// Where its cgroups are; looked for only when a container is to be limited.
    pub cgroups: Option<Layout>,
}

/// The host could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No mount table.
    #[error(transparent)]
    Mounts(#[from] table::Error),
    /// No table of cgroups.
    #[error(transparent)]
    Cgroups(#[from] cgroup::Error),
    /// `capget` failed.
    #[error("cannot read the capabilities of this process: {0}")]
    Capabilities(#[source] Errno),
}

/// Whether capabilities count for the whole host: in another user namespace they do for what belongs to
/// that namespace only, and devices and foreign mounts do not.
pub(crate) fn is_first_user_namespace() -> bool {
    let namespace = std::fs::metadata("/proc/self/ns/user");
    namespace.map_or(true, |namespace| namespace.ino() == FIRST_USER_NAMESPACE)
}

impl Host {
    /// Looks at the host, at its cgroups only if they are `wanted`.
    ///
    /// # Errors
    /// When `/proc` is not what it should be.
    pub fn read(cgroups_wanted: bool) -> Result<Self, Error> {
        let user = nix::unistd::geteuid().as_raw();
        let capabilities = sys::effective_capabilities().map_err(Error::Capabilities)?;
        let is_privileged = user == 0
            && capabilities & NEEDED_CAPABILITIES == NEEDED_CAPABILITIES
            && is_first_user_namespace();
        Ok(Self {
            user,
            group: nix::unistd::getegid().as_raw(),
            capabilities,
            is_privileged,
            places: view(&table::read()?, is_privileged),
            cgroups: cgroups_wanted.then(Layout::detect).transpose()?,
        })
    }

    /// What root of a container starts with: everything in a user namespace of its own, the caller's
    /// otherwise.
    pub fn root_capabilities(&self) -> u64 {
        if self.is_privileged {
            self.capabilities
        } else {
            u64::MAX
        }
    }

    /// A privileged host with nothing but a root.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            user: 0,
            group: 0,
            capabilities: u64::MAX,
            is_privileged: true,
            places: Vec::new(),
            cgroups: None,
        }
    }
}

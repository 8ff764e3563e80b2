//! Kernel parameters (`config-linux.md`, "Sysctl").

use super::no_nul;
use crate::spec::{Error, NamespaceKind, Spec};

/// System V IPC's parameters: private to an IPC namespace, as is everything in `fs.mqueue`.
const IPC_SYSCTLS: [&str; 10] = [
    "kernel.auto_msgmni",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm_next_id",
];

impl Spec {
    /// Only parameters that belong to a namespace of the container's own.
    pub(super) fn sysctls(&self) -> Result<(), Error> {
        let own = |kind| self.namespace(kind).is_some();
        for (name, value) in &self.linux.sysctl {
            let field = format!("linux.sysctl.{name}");
            no_nul(&field, name)?;
            no_nul(&field, value)?;
            // The kernel's own names have slashes for dots, and dots inside an interface's name.
            let dotted = name.replace('/', ".");
            if name.split(['.', '/']).any(str::is_empty) {
                return Err(Error::field(field, value, "its name has an empty part"));
            }
            let (needed, why) = if IPC_SYSCTLS.contains(&dotted.as_str())
                || dotted.starts_with("fs.mqueue.")
            {
                (
                    NamespaceKind::Ipc,
                    "it would be the host's; add a namespace of type ipc",
                )
            } else if dotted.starts_with("net.") {
                (
                    NamespaceKind::Network,
                    "it would be the host's; add a namespace of type network",
                )
            } else if dotted == "kernel.domainname" {
                (
                    NamespaceKind::Uts,
                    "it would be the host's; add a namespace of type uts",
                )
            } else if dotted == "kernel.hostname" {
                return Err(Error::field(
                    field,
                    value,
                    "it is not to be set so; use `hostname`",
                ));
            } else {
                return Err(Error::field(
                    field,
                    value,
                    "it is not in a separate kernel namespace, so it would change the whole host; remove it",
                ));
            };
            if !own(needed) {
                return Err(Error::field(field, value, why));
            }
        }
        Ok(())
    }
}

//! What can be told about a configuration without looking at the host.

mod filesystem;
mod hooks;
mod linux;
mod namespaces;
mod network;
mod process;
mod seccomp;
mod sysctl;

use super::{Error, NamespaceKind, Seccomp, Spec};
use crate::config::HOSTNAME_MAX_BYTES;

/// The last minor version of the specification whose fields are known.
const NEWEST_MINOR: u64 = 3;

/// More than any container has: each processor of the largest machines has some paths that are masked.
const MOST_ENTRIES: usize = 10_000;

impl Spec {
    /// Checks everything that can be told without looking at the host.
    ///
    /// # Errors
    /// The first field that no host could do, by its path.
    pub fn validate(&self) -> Result<(), Error> {
        version(&self.oci_version)?;
        let root = self.root.as_ref().ok_or_else(|| Error::Missing {
            field: "root".into(),
            why: "name the directory of the root file system in `root.path`",
        })?;
        path("root.path", &root.path)?;
        if let Some(process) = &self.process {
            process.validate("process")?;
        }
        self.names()?;
        self.counts()?;
        for (index, mount) in self.mounts.iter().enumerate() {
            mount.validate(&format!("mounts[{index}]"))?;
        }
        hooks::hooks(&self.hooks)?;
        namespaces::namespaces(&self.linux)?;
        namespaces::users(&self.linux)?;
        linux::paths(&self.linux)?;
        self.sysctls()?;
        for (index, device) in self.linux.devices.iter().enumerate() {
            device.validate(&format!("linux.devices[{index}]"))?;
        }
        if self.linux.intel_rdt.is_some() {
            let why = "cache allocation is not supported; remove it";
            return Err(Error::field("linux.intelRdt", "an object", why));
        }
        if let Some(policy) = &self.linux.memory_policy {
            policy.kernel()?;
        }
        self.interfaces()?;
        self.linux
            .seccomp
            .as_ref()
            .map_or(Ok(()), Seccomp::validate)
    }

    /// Whether it has a namespace of `kind`, new or joined.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        self.namespace(kind).is_some()
    }

    /// Init tells by numbers of 16 bits which of its steps it is at.
    fn counts(&self) -> Result<(), Error> {
        let linux = &self.linux;
        for (field, count) in [
            ("mounts", self.mounts.len()),
            ("linux.devices", linux.devices.len()),
            ("linux.maskedPaths", linux.masked_paths.len()),
            ("linux.readonlyPaths", linux.readonly_paths.len()),
            ("linux.sysctl", linux.sysctl.len()),
        ] {
            if count > MOST_ENTRIES {
                let value = format!("{count} entries");
                return Err(Error::field(field, value, "give 10000 at most"));
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<(), Error> {
        for (field, name) in [
            ("hostname", &self.hostname),
            ("domainname", &self.domainname),
        ] {
            let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else {
                continue;
            };
            no_nul(field, name)?;
            if name.len() > HOSTNAME_MAX_BYTES {
                return Err(Error::field(field, name, "it has more than 64 bytes"));
            }
            if !self.has(NamespaceKind::Uts) {
                return Err(Error::field(
                    field,
                    name,
                    "it would be the host's; add a namespace of type uts",
                ));
            }
        }
        Ok(())
    }
}

fn version(text: &str) -> Result<(), Error> {
    let fail = |why| Err(Error::field("ociVersion", text, why));
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse::<u64>());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(1)), Some(Ok(minor)), Some(Ok(_))) if minor <= NEWEST_MINOR => Ok(()),
        (Some(Ok(_)), Some(Ok(_)), Some(Ok(_))) => fail("versions 1.0.0 to 1.3 are understood"),
        _ => fail("give a version such as 1.3.0"),
    }
}

fn no_nul(field: &str, value: &str) -> Result<(), Error> {
    if value.contains('\0') {
        return Err(Error::field(field, value, "it has a NUL byte; remove it"));
    }
    Ok(())
}

fn path(field: &str, value: &str) -> Result<(), Error> {
    if value.is_empty() {
        return Err(Error::Missing {
            field: field.into(),
            why: "give a path",
        });
    }
    no_nul(field, value)
}

fn absolute(field: &str, value: &str) -> Result<(), Error> {
    path(field, value)?;
    if !value.starts_with('/') {
        return Err(Error::field(field, value, "it must be an absolute path"));
    }
    Ok(())
}

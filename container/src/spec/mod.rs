//! The OCI runtime configuration, `config.json` of a bundle, as data (OCI runtime specification,
//! `config.md` and `config-linux.md`).
//!
//! The file is hostile: whoever made the bundle wrote it. [`Spec::parse`] takes any bytes and never
//! panics; [`Spec::validate`] refuses what no kernel could do. Every error names the field by its path
//! in the file, as `linux.namespaces[2].path`.
//!
//! As in every runtime, unknown fields are ignored and `null` is the same as an absent field.

mod error;
mod filesystem;
mod hooks;
mod linux;
mod memory_policy;
mod process;
mod resources;
mod seccomp;
mod validate;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

pub use error::Error;
pub(crate) use error::named;
pub use filesystem::{Mount, Root};
pub use hooks::{Hook, Hooks};
pub use linux::{
    Device, IdMapping, Linux, NamespaceKind, NamespaceSpec, NetDevice, Personality, TimeOffset,
};
pub use memory_policy::{MEMORY_FLAGS, MEMORY_MODES, MemoryPolicy};
pub use process::{
    Capabilities, ConsoleSize, CpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
    capability_names, capability_number,
};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};
pub use seccomp::{Seccomp, SeccompArgument, SeccompRule};

/// A configuration larger than this is refused unread: the largest ones in use have some 100 KiB.
pub const MAX_BYTES: u64 = 16 << 20;

/// A container, as its bundle describes it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The version of the specification that the file follows; 1.0.0 to 1.3 are understood.
    pub oci_version: String,
    /// What to run; a container without it can be created and not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Its root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Its host name; needs a UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Its NIS domain name; needs a UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// What is mounted in the root, in this order.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs to run at the turns of its life.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "Hooks::is_empty"
    )]
    pub hooks: Hooks,
    /// Notes of whoever made it; they go into its state.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(deserialize_with = "or_default")]
    pub linux: Linux,
}

impl Spec {
    /// Reads and validates the configuration in the file `path`.
    ///
    /// # Errors
    /// The file cannot be read, or [`parse`](Self::parse) and [`validate`](Self::validate) refuse it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let spec = Self::parse(&read(path)?)?;
        spec.validate()?;
        Ok(spec)
    }

    /// Parses a configuration.
    ///
    /// # Errors
    /// [`Error::Json`] with the field that is not what it should be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes)
    }

    /// The namespaces that it asks for, of `kind`.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&NamespaceSpec> {
        self.linux.namespaces.iter().find(|it| it.kind == kind)
    }

    /// Whether a `poststart` hook that fails ends the container: up to 1.2 it is told and no more, since 1.3
    /// it is an error (`runtime.md`, "Lifecycle").
    pub fn ends_with_poststart(&self) -> bool {
        self.follows_1_3()
    }

    /// Makes a `pids.limit` of 0 one of 1: up to 1.2 it says nothing, since 1.3 it is a limit, and 1 is the
    /// lowest that systemd has (`config-linux.md`, "PIDs").
    pub fn count_zero_pids(&mut self) {
        let follows = self.follows_1_3();
        if let Some(limit @ Some(0)) = self.linux.resources.pids.as_mut().map(|it| &mut it.limit)
            && follows
        {
            *limit = Some(1);
        }
    }

    fn follows_1_3(&self) -> bool {
        let minor = self.oci_version.split(['.', '-', '+']).nth(1);
        minor.is_some_and(|it| it.parse().is_ok_and(|minor: u64| minor >= 3))
    }
}

impl Process {
    /// Parses a process that `exec --process` gives.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes)
    }
}

impl Resources {
    /// Parses the limits that `update --resources` gives.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes)
    }
}

/// The bytes of a configuration's file, or of a part of one. Whoever wrote it may have put anything there: what
/// has no end is not read to it.
///
/// # Errors
/// The file cannot be read, or is larger than [`MAX_BYTES`].
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.into(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let size = file.metadata().map_or(0, |it| it.len());
    let mut bytes = Vec::with_capacity(size.min(MAX_BYTES) as usize + 1);
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    Ok(bytes)
}

/// Parses once without, and when that fails once more with an eye on the path: watching costs half as
/// much as parsing.
fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).or_else(|_| {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = serde_path_to_error::deserialize(&mut deserializer)?;
        deserializer.end().map_err(|source| Error::Json {
            field: ".".into(),
            source,
        })?;
        Ok(value)
    })
}

/// `null` is the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The numbers of a list such as `0-3,7`, each below 1024.
///
/// # Errors
/// The field `at`, with `why`, when it is no such list.
pub(crate) fn numbers(at: &str, list: &str, why: &'static str) -> Result<Vec<usize>, Error> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|it| *it < 1024);
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => all.extend(first..=last),
            _ => return Err(Error::field(at, list, why)),
        }
    }
    Ok(all)
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;

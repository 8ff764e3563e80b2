//! What can be told about a configuration without looking at the host.

use std::path::Path;

use super::{
    Device, Error, Hook, Hooks, IdMapping, Linux, Mount, NamespaceKind, Process, Seccomp, Spec,
};
use crate::config::HOSTNAME_MAX_BYTES;
use crate::runtime::bundle::process::processors;

/// The last minor version of the specification whose fields are known.
const NEWEST_MINOR: u64 = 3;

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
        for (index, mount) in self.mounts.iter().enumerate() {
            mount.validate(&format!("mounts[{index}]"))?;
        }
        hooks(&self.hooks)?;
        namespaces(&self.linux)?;
        users(&self.linux)?;
        paths(&self.linux)?;
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

    /// Names that the kernel takes, each once, for a network that is not the host's.
    fn interfaces(&self) -> Result<(), Error> {
        let mut taken = Vec::new();
        for (name, device) in &self.linux.net_devices {
            let at = format!("linux.netDevices.{name}");
            if !self.has(NamespaceKind::Network) {
                let why = "it would stay with the host; add a namespace of type network";
                return Err(Error::field(at, "an object", why));
            }
            let is_template = device.name.ends_with("%d");
            let fixed = device.name.strip_suffix("%d").unwrap_or(&device.name);
            interface(&at, name)?;
            if !device.name.is_empty() {
                let field = format!("{at}.name");
                // The number takes the place of the template's two characters, or one more.
                interface(
                    &field,
                    if is_template && fixed.is_empty() {
                        "x"
                    } else {
                        fixed
                    },
                )?;
            }
            let inside = if device.name.is_empty() {
                name
            } else {
                &device.name
            };
            if !is_template && taken.contains(&inside) {
                let why = "two interfaces would have this name; give another";
                return Err(Error::field(format!("{at}.name"), inside, why));
            }
            taken.push(inside);
        }
        Ok(())
    }

    /// Only parameters that belong to a namespace of the container's own.
    fn sysctls(&self) -> Result<(), Error> {
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

fn version(text: &str) -> Result<(), Error> {
    let fail = |why| Err(Error::field("ociVersion", text, why));
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse::<u64>());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(1)), Some(Ok(minor)), Some(Ok(_))) if minor <= NEWEST_MINOR => Ok(()),
        (Some(Ok(_)), Some(Ok(_)), Some(Ok(_))) => fail("versions 1.0.0 to 1.3 are understood"),
        _ => fail("give a version such as 1.2.0"),
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

/// A name as the kernel takes it for an interface (`dev_valid_name`).
fn interface(field: &str, name: &str) -> Result<(), Error> {
    let is_bad = |byte: u8| matches!(byte, b'/' | b':' | b'%' | 0) || byte.is_ascii_whitespace();
    if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.bytes().any(is_bad)
    {
        let why = "no interface has such a name: 1 to 15 bytes without blanks, `/`, `:` and `%`";
        return Err(Error::field(field, name, why));
    }
    Ok(())
}

fn absolute(field: &str, value: &str) -> Result<(), Error> {
    path(field, value)?;
    if !value.starts_with('/') {
        return Err(Error::field(field, value, "it must be an absolute path"));
    }
    Ok(())
}

impl Process {
    /// Checks a process; `at` is its path in the file.
    ///
    /// # Errors
    /// The first field that no host could do.
    pub fn validate(&self, at: &str) -> Result<(), Error> {
        let field = |name: &str| format!("{at}.{name}");
        absolute(&field("cwd"), &self.cwd)?;
        if self.args.is_empty() {
            return Err(Error::Missing {
                field: field("args"),
                why: "args must not be empty; name a program to run",
            });
        }
        for (name, list) in [("args", &self.args), ("env", &self.env)] {
            for (index, value) in list.iter().enumerate() {
                no_nul(&format!("{at}.{name}[{index}]"), value)?;
            }
        }
        let adjustment = self.oom_score_adj.unwrap_or(0);
        if !(-1000..=1000).contains(&adjustment) {
            return Err(Error::field(
                field("oomScoreAdj"),
                adjustment,
                "give -1000 to 1000",
            ));
        }
        for (index, limit) in self.rlimits.iter().enumerate() {
            let field = format!("{at}.rlimits[{index}]");
            if crate::runtime::rlimit_number(&limit.kind).is_none() {
                return Err(Error::field(
                    format!("{field}.type"),
                    &limit.kind,
                    "there is no such resource; see man 2 setrlimit",
                ));
            }
            if limit.soft > limit.hard {
                return Err(Error::field(
                    format!("{field}.soft"),
                    limit.soft,
                    "it is above the hard limit",
                ));
            }
            if self.rlimits[..index].iter().any(|it| it.kind == limit.kind) {
                return Err(Error::field(
                    format!("{field}.type"),
                    &limit.kind,
                    "it is given twice",
                ));
            }
        }
        let affinity = self.exec_cpu_affinity.as_ref();
        for (name, list) in affinity
            .iter()
            .flat_map(|it| [("initial", &it.initial), ("final", &it.last)])
        {
            if !list.is_empty() {
                processors(&field(&format!("execCPUAffinity.{name}")), list)?;
            }
        }
        if self.user.umask.is_some_and(|umask| umask > 0o777) {
            return Err(Error::field(
                field("user.umask"),
                self.user.umask.unwrap_or(0),
                "give 0 to 511 (0777)",
            ));
        }
        Ok(())
    }
}

impl Mount {
    fn validate(&self, at: &str) -> Result<(), Error> {
        path(&format!("{at}.destination"), &self.destination)?;
        no_nul(&format!("{at}.source"), &self.source)?;
        no_nul(&format!("{at}.type"), &self.kind)?;
        for (index, option) in self.options.iter().enumerate() {
            no_nul(&format!("{at}.options[{index}]"), option)?;
        }
        for (name, map) in [
            ("uidMappings", &self.uid_mappings),
            ("gidMappings", &self.gid_mappings),
        ] {
            mappings(&format!("{at}.{name}"), map)?;
        }
        if self.is_bind() && self.source.is_empty() {
            return Err(Error::Missing {
                field: format!("{at}.source"),
                why: "a bind mount needs something to bind",
            });
        }
        // `..` at the top is the top; the container's links are followed inside its root.
        if Path::new(&self.destination).components().count() == 1 && self.destination == "/" {
            return Err(Error::field(
                format!("{at}.destination"),
                &self.destination,
                "nothing is mounted over the root; name a directory in it",
            ));
        }
        Ok(())
    }
}

impl Device {
    fn validate(&self, at: &str) -> Result<(), Error> {
        absolute(&format!("{at}.path"), &self.path)?;
        match self.kind.as_str() {
            "c" | "u" | "b" => {
                for (name, number, most) in
                    [("major", self.major, 4095), ("minor", self.minor, 1048575)]
                {
                    if !(0..=most).contains(&number) {
                        return Err(Error::field(
                            format!("{at}.{name}"),
                            number,
                            "give a number that the kernel has: major to 4095, minor to 1048575",
                        ));
                    }
                }
                Ok(())
            }
            "p" => Ok(()),
            _ => Err(Error::field(
                format!("{at}.type"),
                &self.kind,
                "give c, u, b or p",
            )),
        }
    }
}

fn hooks(hooks: &Hooks) -> Result<(), Error> {
    for (kind, list) in hooks.kinds() {
        for (index, hook) in list.iter().enumerate() {
            let at = format!("hooks.{kind}[{index}]");
            let Hook {
                path,
                args,
                env,
                timeout,
            } = hook;
            absolute(&format!("{at}.path"), path)?;
            for (name, list) in [("args", args), ("env", env.as_ref().unwrap_or(&Vec::new()))] {
                for (index, value) in list.iter().enumerate() {
                    no_nul(&format!("{at}.{name}[{index}]"), value)?;
                }
            }
            if timeout.is_some_and(|seconds| seconds <= 0) {
                return Err(Error::field(
                    format!("{at}.timeout"),
                    timeout.unwrap_or(0),
                    "give a positive number of seconds",
                ));
            }
        }
    }
    Ok(())
}

fn namespaces(linux: &Linux) -> Result<(), Error> {
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let at = format!("linux.namespaces[{index}]");
        let name = format!("{:?}", namespace.kind).to_ascii_lowercase();
        if linux.namespaces[..index]
            .iter()
            .any(|it| it.kind == namespace.kind)
        {
            return Err(Error::field(
                format!("{at}.type"),
                name,
                "malformed spec file: duplicated ns; one of each kind",
            ));
        }
        if !namespace.path.is_empty() {
            absolute(&format!("{at}.path"), &namespace.path)?;
        }
    }
    Ok(())
}

fn users(linux: &Linux) -> Result<(), Error> {
    let user = linux
        .namespaces
        .iter()
        .find(|it| it.kind == NamespaceKind::User);
    for (name, map) in [
        ("uidMappings", &linux.uid_mappings),
        ("gidMappings", &linux.gid_mappings),
    ] {
        let field = format!("linux.{name}");
        match user {
            None if !map.is_empty() => {
                return Err(Error::field(
                    field,
                    format!("{} entries", map.len()),
                    "it needs a namespace of type user",
                ));
            }
            Some(user) if user.path.is_empty() && map.is_empty() => {
                return Err(Error::Missing {
                    field,
                    why: "a new user namespace needs to know who is who",
                });
            }
            _ => {}
        }
        mappings(&field, map)?;
    }
    let time = |it: &&super::NamespaceSpec| it.kind == NamespaceKind::Time && it.path.is_empty();
    for (clock, offset) in &linux.time_offsets {
        let field = format!("linux.timeOffsets.{clock}");
        if clock != "monotonic" && clock != "boottime" {
            return Err(Error::field(field, clock, "give monotonic or boottime"));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return Err(Error::field(
                format!("{field}.nanosecs"),
                offset.nanosecs,
                "give less than a second",
            ));
        }
        if !linux.namespaces.iter().any(|it| time(&it)) {
            return Err(Error::field(
                field,
                offset.secs,
                "it needs a new namespace of type time",
            ));
        }
    }
    Ok(())
}

/// One map of users or groups.
fn mappings(field: &str, map: &[IdMapping]) -> Result<(), Error> {
    // `/proc/PID/uid_map` takes that many lines since Linux 4.15.
    if map.len() > 340 {
        return Err(Error::field(
            field,
            map.len(),
            "the kernel takes 340 entries",
        ));
    }
    for (index, it) in map.iter().enumerate() {
        let fits = |first: u32| first.checked_add(it.size).is_some();
        if it.size == 0 || !fits(it.container_id) || !fits(it.host_id) {
            return Err(Error::field(
                format!("{field}[{index}].size"),
                it.size,
                "give at least 1, and no more than there are numbers",
            ));
        }
    }
    Ok(())
}

fn paths(linux: &Linux) -> Result<(), Error> {
    for (name, list) in [
        ("maskedPaths", &linux.masked_paths),
        ("readonlyPaths", &linux.readonly_paths),
    ] {
        // Without a slash in front they are taken from the root, as runc does.
        for (index, value) in list.iter().enumerate() {
            path(&format!("linux.{name}[{index}]"), value)?;
        }
    }
    no_nul("linux.cgroupsPath", &linux.cgroups_path)?;
    match linux.rootfs_propagation.as_str() {
        "" | "shared" | "slave" | "private" | "unbindable" | "rshared" | "rslave" | "rprivate"
        | "runbindable" => {}
        other => {
            return Err(Error::field(
                "linux.rootfsPropagation",
                other,
                "give shared, slave, private or unbindable",
            ));
        }
    }
    if let Some(personality) = &linux.personality {
        if !matches!(personality.domain.as_str(), "LINUX" | "LINUX32") {
            return Err(Error::field(
                "linux.personality.domain",
                &personality.domain,
                "give LINUX or LINUX32",
            ));
        }
        if !personality.flags.is_empty() {
            return Err(Error::field(
                "linux.personality.flags",
                personality.flags.join(", "),
                "none is defined; remove them",
            ));
        }
    }
    Ok(())
}

impl Seccomp {
    fn validate(&self) -> Result<(), Error> {
        no_nul("linux.seccomp.listenerPath", &self.listener_path)?;
        for (index, rule) in self.syscalls.iter().enumerate() {
            let at = format!("linux.seccomp.syscalls[{index}]");
            if rule.names.is_empty() {
                return Err(Error::Missing {
                    field: format!("{at}.names"),
                    why: "a rule needs calls to be about",
                });
            }
            for (number, argument) in rule.args.iter().enumerate() {
                if argument.index > 5 {
                    return Err(Error::field(
                        format!("{at}.args[{number}].index"),
                        argument.index,
                        "system calls have arguments 0 to 5",
                    ));
                }
            }
        }
        Ok(())
    }
}

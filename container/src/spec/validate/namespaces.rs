//! Namespaces, and who is who in those of users.

use super::absolute;
use crate::spec::{Error, IdMapping, Linux, NamespaceKind, NamespaceSpec};

pub(super) fn namespaces(linux: &Linux) -> Result<(), Error> {
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

pub(super) fn users(linux: &Linux) -> Result<(), Error> {
    // Without either map it is the caller's.
    let has_maps = !(linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty());
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
            Some(user) if user.path.is_empty() && map.is_empty() && has_maps => {
                return Err(Error::Missing {
                    field,
                    why: "a new user namespace needs to know who is who",
                });
            }
            _ => {}
        }
        mappings(&field, map)?;
    }
    let time = |it: &&NamespaceSpec| it.kind == NamespaceKind::Time && it.path.is_empty();
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
pub(super) fn mappings(field: &str, map: &[IdMapping]) -> Result<(), Error> {
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

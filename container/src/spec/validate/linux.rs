//! What only Linux has and no other file here is about.

use super::{no_nul, path};
use crate::spec::{Error, Linux};

pub(super) fn paths(linux: &Linux) -> Result<(), Error> {
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

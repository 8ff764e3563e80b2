//! Unified keys: any control file of version 2 by its name, for what this library has no field for
//! (`memory.high`, `cpu.uclamp.min`, `io.latency`, `misc.max` …).
//!
//! Source: OCI `config-linux.md` ("Unified").

use std::collections::BTreeMap;

use super::{Controller, Controllers, Error, Group, Result, Version};

/// Control files of version 2 and what to write to them; several lines are written one by one.
pub type Unified = BTreeMap<String, String>;

/// The controller that a control file belongs to: the word before its first dot.
fn controller_of(key: &str) -> Option<Controller> {
    Controller::from_name(Version::V2, key.split('.').next()?)
}

/// The controllers that the keys need; `cgroup.*` needs none.
pub(super) fn controllers(keys: &Unified) -> Controllers {
    keys.keys().filter_map(|key| controller_of(key)).collect()
}

pub(super) fn validate(keys: &Unified) -> Result<()> {
    for (key, text) in keys {
        let fail = |why| Err(Error::invalid("unified key", format!("`{key}`"), why));
        if text.contains('\0') {
            return fail("its value has a NUL byte; remove it");
        }
        if key.contains('/') || key.contains('\0') {
            return fail("it must be a file name (no slashes)");
        }
        let Some((controller, _)) = key.split_once('.').filter(|_| !key.ends_with('.')) else {
            return Err(Error::UnifiedKey(key.as_str().into()));
        };
        if controller != "cgroup" && controller_of(key).is_none() {
            return Err(Error::UnifiedController(controller.into()));
        }
        // These decide over membership, not over resources.
        if matches!(
            key.as_str(),
            "cgroup.procs" | "cgroup.threads" | "cgroup.kill" | "cgroup.type"
        ) {
            return fail("it is no limit");
        }
    }
    Ok(())
}

pub(super) fn apply(keys: &Unified, group: &Group) -> Result<()> {
    let Some(dir) = group.unified() else {
        return Err(Error::Unsupported {
            knob: "unified",
            version: Version::V1,
            instead: "use the fields for cpu, memory and so on, or a host with v2 cgroups",
        });
    };
    for (key, text) in keys {
        let written =
            home(key, group).and_then(|()| text.lines().try_for_each(|line| dir.write(key, line)));
        written.map_err(|source| Error::Unified {
            key: key.as_str().into(),
            source: source.into(),
        })?;
    }
    Ok(())
}

/// A controller that lives in version 1 on a hybrid host has no files in version 2.
fn home(key: &str, group: &Group) -> Result<()> {
    let Some(controller) = controller_of(key) else {
        return Ok(());
    };
    match group.joined(controller)?.version() {
        Version::V1 => Err(Error::Unsupported {
            knob: "a control file of version 2",
            version: Version::V1,
            instead: "this host has its controller there: use the field of that controller",
        }),
        Version::V2 => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_control_files_and_nothing_else() {
        let check = |key: &str| validate(&Unified::from([(key.into(), "1".into())]));
        for good in [
            "memory.high",
            "io.latency",
            "cpu.uclamp.min",
            "cgroup.max.depth",
            "misc.max",
        ] {
            check(good).expect(good);
        }
        for bad in [
            "",
            ".",
            "memory",
            "memory.",
            "/memory.high",
            "../memory.high",
            "memory/x.y",
            "blkio.weight",
            "unheard.of",
            "cgroup.procs",
            "cgroup.kill",
            "memory.\0",
        ] {
            check(bad).expect_err(bad);
        }
        for (key, words) in [
            (
                "no-key",
                "the specified key has not the form CONTROLLER.VALUE `no-key`",
            ),
            (
                "unheard.of",
                "the requested cgroup controller `unheard` is not available",
            ),
        ] {
            let error = check(key).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let keys = Unified::from([
            ("memory.high".into(), "1".into()),
            ("cgroup.max.depth".into(), "1".into()),
        ]);
        assert_eq!(controllers(&keys), Controllers::of(&[Controller::Memory]));
    }
}

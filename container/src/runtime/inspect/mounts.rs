//! What is mounted in a container (`man 5 proc_pid_mountinfo`).

use std::fs;
use std::path::Path;

use super::{Error, Fact, read};
use crate::runtime::bundle::NO_FAIL;
use crate::spec::Spec;

/// One line of `/proc/PID/mountinfo`.
struct Mounted {
    point: String,
    kind: String,
    options: Vec<String>,
}

fn mounted(line: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(4);
    Some(Mounted {
        point: left.next()?.replace("\\040", " "),
        options: left.next()?.split(',').map(str::to_owned).collect(),
        kind: right.split(' ').next()?.to_owned(),
    })
}

/// What is mounted where, and how: of several at one place the last one is on top.
pub(super) fn mounts(process: &Path, spec: &Spec) -> Result<Vec<Fact>, Error> {
    let table = read(&process.join("mountinfo"))?;
    let all: Vec<Mounted> = table.lines().filter_map(mounted).collect();
    let show = |kind: &str, options: &[&str]| [&[kind], options].concat().join(" ");
    const FLAGS: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];
    let mut facts = Vec::new();
    for mount in &spec.mounts {
        let asked: Vec<&str> = FLAGS
            .into_iter()
            .filter(|flag| mount.options.iter().any(|it| it == flag))
            .collect();
        let is_bind = mount
            .options
            .iter()
            .any(|it| matches!(it.as_str(), "bind" | "rbind"));
        let kind = if is_bind { "bind" } else { mount.kind.as_str() };
        let point = mount.destination.trim_end_matches('/');
        let found = all.iter().rev().find(|it| it.point == point);
        // Its source was not there, and that was to be no error.
        if found.is_none() && mount.options.iter().any(|it| it == NO_FAIL) {
            continue;
        }
        let differs = found.is_none_or(|found| {
            let has = |flag: &&str| found.options.iter().any(|it| it == flag);
            // Version 1's groups are a tmpfs with a mount for each hierarchy.
            let is_kind = is_bind || found.kind == kind || kind == "cgroup";
            !asked.iter().all(has) || !is_kind
        });
        facts.push(Fact {
            name: mount.destination.clone(),
            asked: Some(show(kind, &asked)),
            found: found.map(|found| {
                let has = |flag: &&str| found.options.iter().any(|it| it == flag);
                let flags: Vec<&str> = FLAGS.into_iter().filter(|flag| has(flag)).collect();
                show(&found.kind, &flags)
            }),
            differs,
        });
    }
    let hidden = [
        (&spec.linux.masked_paths, "masked"),
        (&spec.linux.readonly_paths, "read-only"),
    ];
    for (paths, asked) in hidden {
        for path in paths {
            // Seen through the container's root: what is not there needs no hiding.
            let path = path.trim_start_matches('/');
            let inside = process.join("root").join(path);
            if fs::symlink_metadata(&inside).is_err() {
                continue;
            }
            let mut mounted = all.iter().rev();
            let found = mounted.find(|it| it.point.strip_prefix('/') == Some(path));
            let is_read_only = found.is_some_and(|it| it.options.iter().any(|it| it == "ro"));
            let is_mask = found.is_some_and(|it| it.kind == "tmpfs" || it.kind == "devtmpfs");
            let is_so = match asked {
                "masked" => is_mask,
                _ => is_read_only,
            };
            facts.push(Fact::new(
                format!("/{path}"),
                Some(asked.to_owned()),
                is_so.then(|| asked.to_owned()),
            ));
        }
    }
    let read_only = spec.root.as_ref().is_some_and(|root| root.readonly);
    let root = all.iter().rev().find(|it| it.point == "/");
    let mode = |is_read_only| if is_read_only { "ro" } else { "rw" }.to_owned();
    let is_read_only = |it: &Mounted| it.options.iter().any(|it| it == "ro");
    facts.insert(
        0,
        Fact::new(
            "/",
            Some(mode(read_only)),
            root.map(|it| mode(is_read_only(it))),
        ),
    );
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_mount_table_is_read_in_its_parts() {
        let line =
            r"36 35 98:0 /mnt1 /a\040b rw,noatime shared:1 - ext3 /dev/root rw,errors=continue";
        let mount = mounted(line).unwrap();
        assert_eq!(
            (mount.point.as_str(), mount.kind.as_str()),
            ("/a b", "ext3")
        );
        assert_eq!(mount.options, ["rw", "noatime"]);
        assert!(mounted("").is_none() && mounted("1 2 - ").is_none());
    }
}

//! What this host lets a container be made of, read from `/proc` without trying anything: the kernel's
//! namespaces, the policy on user namespaces, overlay mounts, seccomp, capabilities, hard limits.
//!
//! A container is not one feature of the kernel but a handful, each with a switch of its own; a host that
//! lacks one still has the others. So each is an [`Aspect`] of its own: evidence, or a [`Lack`] whose text
//! says what to do.
//!
//! Sources: `man 7 namespaces`, `man 7 user_namespaces`, `man 5 proc`, `man 7 capabilities`,
//! `man 2 getrlimit`, the kernel's `userspace-api/seccomp_filter.rst`.

use std::fs;

/// One thing that a container is made of.
#[derive(Debug)]
pub struct Aspect {
    /// What it is called.
    pub name: &'static str,
    /// The evidence that this host has it, or what it lacks.
    pub found: Result<String, Lack>,
}

/// What a host, or this process on it, lacks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lack {
    /// Kinds of namespace that the kernel was built without.
    #[error("this kernel has no {} namespaces; boot one that was built with them (CONFIG_NAMESPACES and below)", .0.join(", "))]
    Namespaces(Vec<&'static str>),
    /// A sysctl that allows none, or none to ordinary users.
    #[error("{path} is {value}; as root: echo {wanted} > {path}")]
    Sysctl {
        /// The file of the setting.
        path: &'static str,
        /// What it is set to.
        value: String,
        /// What would allow it.
        wanted: &'static str,
    },
    /// No overlay file system among those that are built in or loaded.
    #[error(
        "overlay is not in /proc/filesystems; as root: modprobe overlay (the first mount by root does it too)"
    )]
    Overlay,
    /// A kernel without seccomp filters.
    #[error(
        "/proc/sys/kernel/seccomp is not there; boot a kernel that was built with CONFIG_SECCOMP_FILTER"
    )]
    Seccomp,
    /// Capabilities that this process lacks, with what they are for, as an ordinary user.
    #[error("an ordinary user, without {}; run as root (a rootless container gets its own in a user namespace)", .0.join(", "))]
    OrdinaryUser(Vec<&'static str>),
    /// Capabilities that this process lacks although it is root.
    #[error("root, but without {}; whatever started this process took them away (docker: --cap-add NAME, systemd: CapabilityBoundingSet=)", .0.join(", "))]
    Capabilities(Vec<&'static str>),
    /// A hard limit that many containers at once run into.
    #[error(
        "at most {hard} {name}, {wanted} are wanted; raise the hard limit (`ulimit -H`, /etc/security/limits.conf, or LimitNOFILE= and TasksMax= of a systemd unit)"
    )]
    HardLimit {
        /// What is limited, as `/proc/self/limits` calls it.
        name: &'static str,
        /// The limit.
        hard: u64,
        /// What a hundred containers at once take.
        wanted: u64,
    },
    /// A file of `/proc` that every Linux has.
    #[error("cannot read {0}; mount it, as root: mount -t proc proc /proc")]
    Proc(&'static str),
}

/// Reads a file, `None` when it is not there.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads what this host has, in the order in which a container needs it. Costs some ten small reads of `/proc`.
pub fn survey() -> Vec<Aspect> {
    survey_with(&|path| fs::read_to_string(path).ok())
}

fn survey_with(read: Read) -> Vec<Aspect> {
    let aspect = |name, found| Aspect { name, found };
    vec![
        aspect("namespaces", namespaces(read)),
        aspect("user namespaces", user_namespaces(read)),
        aspect("overlay mounts", overlay(read)),
        aspect("seccomp", seccomp(read)),
        aspect("capabilities", capabilities(read)),
        aspect("hard limits", hard_limits(read)),
    ]
}

/// The kinds of namespace that a container gets (`time` is left to the host: its clocks are).
const KINDS: [&str; 7] = ["mnt", "pid", "uts", "ipc", "net", "cgroup", "user"];

fn namespaces(read: Read) -> Result<String, Lack> {
    // The number of those allowed is there exactly when the kernel knows the kind.
    let file = |kind: &str| format!("/proc/sys/user/max_{kind}_namespaces");
    let (known, unknown): (Vec<_>, Vec<_>) = KINDS
        .into_iter()
        .partition(|kind| read(&file(kind)).is_some());
    if unknown.is_empty() {
        Ok(known.join(", "))
    } else {
        Err(Lack::Namespaces(unknown))
    }
}

/// Settings under which ordinary users get no user namespace, or get one that is of no use: the value that
/// forbids, and the one that allows. Debian's, Ubuntu's, and everybody's.
const POLICY: [(&str, &str, &str); 3] = [
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "0",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "10000"),
];

fn user_namespaces(read: Read) -> Result<String, Lack> {
    let mut evidence = Vec::new();
    for (path, forbids, wanted) in POLICY {
        let Some(value) = read(path) else { continue };
        let value = value.trim();
        if value == forbids {
            return Err(Lack::Sysctl {
                path,
                value: value.to_owned(),
                wanted,
            });
        }
        evidence.push(format!(
            "{} = {value}",
            path.trim_start_matches("/proc/sys/").replace('/', ".")
        ));
    }
    if evidence.is_empty() {
        Err(Lack::Namespaces(vec!["user"]))
    } else {
        Ok(format!("any user may ({})", evidence.join(", ")))
    }
}

fn overlay(read: Read) -> Result<String, Lack> {
    let known = read("/proc/filesystems").ok_or(Lack::Proc("/proc/filesystems"))?;
    let has = known
        .lines()
        .any(|line| line.split_ascii_whitespace().next_back() == Some("overlay"));
    has.then(|| "overlay is in /proc/filesystems".to_owned())
        .ok_or(Lack::Overlay)
}

fn seccomp(read: Read) -> Result<String, Lack> {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail").ok_or(Lack::Seccomp)?;
    Ok(format!("actions {}", actions.trim().replace(' ', ", ")))
}

/// The capabilities that putting containers together uses, by number (`linux/capability.h`).
const CAPABILITIES: [(u32, &str); 7] = [
    (6, "CAP_SETGID (become the container's group)"),
    (7, "CAP_SETUID (become the container's user)"),
    (8, "CAP_SETPCAP (drop capabilities for good)"),
    (12, "CAP_NET_ADMIN (set up network links)"),
    (21, "CAP_SYS_ADMIN (make namespaces, mount)"),
    (24, "CAP_SYS_RESOURCE (raise hard limits)"),
    (27, "CAP_MKNOD (make device nodes)"),
];

fn capabilities(read: Read) -> Result<String, Lack> {
    const STATUS: &str = "/proc/self/status";
    let status = read(STATUS).ok_or(Lack::Proc(STATUS))?;
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let effective = field("CapEff:").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let effective = effective.ok_or(Lack::Proc(STATUS))?;
    // Real, effective, saved and file-system user number.
    let user = field("Uid:").and_then(|users| users.split_ascii_whitespace().nth(1));
    let missing: Vec<_> = CAPABILITIES
        .into_iter()
        .filter_map(|(number, name)| (effective & 1 << number == 0).then_some(name))
        .collect();
    match user {
        _ if missing.is_empty() => Ok(format!(
            "{} in effect, all that are used among them",
            effective.count_ones()
        )),
        Some("0") => Err(Lack::Capabilities(missing)),
        _ => Err(Lack::OrdinaryUser(missing)),
    }
}

/// What a hundred containers at once may take: a few descriptors each in the runtime, a few processes each.
const WANTED: [(&str, u64); 2] = [("open files", 1024), ("processes", 1024)];

fn hard_limits(read: Read) -> Result<String, Lack> {
    const LIMITS: &str = "/proc/self/limits";
    let limits = read(LIMITS).ok_or(Lack::Proc(LIMITS))?;
    let mut evidence = Vec::new();
    for (name, wanted) in WANTED {
        // "Max open files            1024                 20000                files"
        let row = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max ")?.strip_prefix(name));
        let hard = row
            .and_then(|row| row.split_ascii_whitespace().nth(1))
            .ok_or(Lack::Proc(LIMITS))?;
        match hard.parse() {
            Ok(hard) if hard < wanted => return Err(Lack::HardLimit { name, hard, wanted }),
            _ => evidence.push(format!("{name} {hard}")), // a number, or `unlimited`
        }
    }
    Ok(evidence.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/proc` of files by path.
    fn proc<'a>(files: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |path| {
            files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, text)| (*text).to_owned())
        }
    }

    #[test]
    fn this_host_is_surveyed_in_full() {
        let aspects = survey();
        assert_eq!(aspects.len(), 6);
        for Aspect { name, found } in aspects {
            // Whatever it is, it is no fault of ours.
            assert!(!matches!(found, Err(Lack::Proc(_))), "{name}: {found:?}");
        }
    }

    #[test]
    fn without_proc_every_aspect_says_so_and_none_panics() {
        for Aspect { name, found } in survey_with(&|_| None) {
            let message = found.expect_err(name).to_string();
            assert!(message.contains("; "), "{name}: no remedy in {message:?}");
        }
    }

    #[test]
    fn each_policy_on_user_namespaces_is_named_with_its_cure() {
        for (path, forbids, wanted) in POLICY {
            let files = [
                ("/proc/sys/user/max_user_namespaces", "5\n"),
                (path, &*format!("{forbids}\n")),
            ];
            let files: Vec<_> = files.into_iter().rev().collect(); // the second hides the first of the same path
            let lack = user_namespaces(&proc(&files)).unwrap_err().to_string();
            assert_eq!(
                lack,
                format!("{path} is {forbids}; as root: echo {wanted} > {path}")
            );
        }
        let allowed = user_namespaces(&proc(&[("/proc/sys/user/max_user_namespaces", "5\n")]));
        assert_eq!(
            allowed.unwrap(),
            "any user may (user.max_user_namespaces = 5)"
        );
    }

    #[test]
    fn kinds_of_namespace_that_the_kernel_lacks_are_named() {
        let only_user = proc(&[("/proc/sys/user/max_user_namespaces", "0")]);
        let lack = namespaces(&only_user).unwrap_err();
        assert_eq!(
            lack,
            Lack::Namespaces(vec!["mnt", "pid", "uts", "ipc", "net", "cgroup"])
        );
    }

    #[test]
    fn overlay_is_a_word_of_its_own() {
        assert!(overlay(&proc(&[("/proc/filesystems", "nodev\toverlay\n")])).is_ok());
        assert_eq!(
            overlay(&proc(&[("/proc/filesystems", "nodev\toverlayold\n\n")])),
            Err(Lack::Overlay)
        );
    }

    #[test]
    fn missing_capabilities_are_named() {
        let of = |user, mask| {
            let status = format!("Name:\tx\nUid:\t7\t{user}\t7\t7\nCapEff:\t{mask}\n");
            capabilities(&proc(&[("/proc/self/status", &status)]))
        };
        assert!(of(0, "000001ffffffffff").unwrap().starts_with("41 "));
        let resource = "CAP_SYS_RESOURCE (raise hard limits)";
        assert_eq!(
            of(0, "000001fffeffffff"),
            Err(Lack::Capabilities(vec![resource]))
        );
        assert_eq!(
            of(1000, "000001fffeffffff"),
            Err(Lack::OrdinaryUser(vec![resource]))
        );
        assert_eq!(of(0, "zz"), Err(Lack::Proc("/proc/self/status")));
    }

    #[test]
    fn a_low_hard_limit_is_told_from_a_low_soft_one() {
        let of = |files: &str, processes: &str| {
            let text = format!(
                "Limit  Soft  Hard  Units\nMax open files  {files}  files\nMax processes  {processes}  processes\n"
            );
            hard_limits(&proc(&[("/proc/self/limits", &text)]))
        };
        assert_eq!(
            of("10 4096", "10 unlimited").unwrap(),
            "open files 4096, processes unlimited"
        );
        let low = Lack::HardLimit {
            name: "processes",
            hard: 12,
            wanted: 1024,
        };
        assert_eq!(of("10 4096", "12 12"), Err(low));
        assert_eq!(of("", ""), Err(Lack::Proc("/proc/self/limits")));
    }
}

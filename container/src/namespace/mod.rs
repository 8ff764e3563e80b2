//! Namespaces: what a process can name. Each kind gives the processes in it their own copy of one
//! global table of the kernel (`man 7 namespaces`).

pub mod user;

use std::fmt;

/// One of the kernel's eight kinds of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespace {
    /// Users, groups and capabilities (`man 7 user_namespaces`).
    User,
    /// The tree of mounts (`man 7 mount_namespaces`).
    Mount,
    /// Process numbers; its first process is its init (`man 7 pid_namespaces`).
    Pid,
    /// Hostname and domain name (`man 7 uts_namespaces`).
    Uts,
    /// System V IPC and POSIX message queues (`man 7 ipc_namespaces`).
    Ipc,
    /// Network interfaces, routes, ports (`man 7 network_namespaces`).
    Network,
    /// The root of `/proc/self/cgroup` (`man 7 cgroup_namespaces`).
    Cgroup,
    /// Offsets of the monotonic and boot-time clocks (`man 7 time_namespaces`).
    Time,
}

impl Namespace {
    /// All of them, in the order in which a container is best given them: the user namespace first,
    /// because it owns the others.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Uts,
        Self::Ipc,
        Self::Network,
        Self::Cgroup,
        Self::Time,
    ];

    /// The flag of `clone3`, `unshare` and `setns`.
    pub const fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Network => libc::CLONE_NEWNET,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            // `CLONE_NEWTIME` of <linux/sched.h>, which `libc` does not carry for every target.
            Self::Time => 0x80,
        }
    }

    /// The name of the flag, as manuals have it.
    pub const fn flag_name(self) -> &'static str {
        match self {
            Self::User => "CLONE_NEWUSER",
            Self::Mount => "CLONE_NEWNS",
            Self::Pid => "CLONE_NEWPID",
            Self::Uts => "CLONE_NEWUTS",
            Self::Ipc => "CLONE_NEWIPC",
            Self::Network => "CLONE_NEWNET",
            Self::Cgroup => "CLONE_NEWCGROUP",
            Self::Time => "CLONE_NEWTIME",
        }
    }

    /// Its file in `/proc/PID/ns`.
    pub const fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::Network => "net",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// The bit of this kind in [`Namespaces`].
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of kinds of namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces(u8);

impl Namespaces {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: Namespace) -> Self {
        Self(self.0 | kind.bit())
    }

    /// Whether `kind` is among them.
    pub const fn contains(self, kind: Namespace) -> bool {
        self.0 & kind.bit() != 0
    }

    /// The kinds, in the order of [`Namespace::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Namespace> {
        Namespace::ALL
            .into_iter()
            .filter(move |kind| self.contains(*kind))
    }

    /// Their flags, or-ed.
    pub fn flags(self) -> i32 {
        self.iter().fold(0, |flags, kind| flags | kind.flag())
    }
}

impl FromIterator<Namespace> for Namespaces {
    fn from_iter<I: IntoIterator<Item = Namespace>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, kind) in self.iter().enumerate() {
            write!(
                f,
                "{}{}",
                if index == 0 { "" } else { " | " },
                kind.flag_name()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_prints_and_flags_its_members_in_order() {
        let set: Namespaces = [Namespace::Network, Namespace::User].into_iter().collect();
        assert_eq!(set.to_string(), "CLONE_NEWUSER | CLONE_NEWNET");
        assert_eq!(set.flags(), libc::CLONE_NEWUSER | libc::CLONE_NEWNET);
        assert!(!set.contains(Namespace::Mount));
        assert_eq!(Namespaces::NONE.to_string(), "");
    }

    #[test]
    fn every_kind_has_a_file_in_proc() {
        for kind in Namespace::ALL {
            let path = format!("/proc/self/ns/{}", kind.file());
            assert!(std::fs::read_link(&path).is_ok(), "{path}");
        }
    }
}

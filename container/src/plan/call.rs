//! The system calls of a plan as data: to be shown, recorded by a test, and at last made.
//!
//! Strings are C strings, so that a child between `clone3` and `execve` makes the call without
//! allocating (another thread of the caller may have held the allocator's lock when it was cloned).

use std::ffi::{CStr, CString};
use std::fmt;

use nix::mount::{MntFlags, MsFlags};

use crate::cgroup::{Controllers, CpuWeight, Limit, Limits};
use crate::namespace::Namespaces;

/// One system call, or a few that only make sense together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Make the container's cgroup (`man 7 cgroups`).
    CreateGroup {
        /// Its name in each hierarchy; none when one is chosen that is free.
        name: Option<String>,
        /// The controllers that its limits need.
        controllers: Controllers,
    },
    /// Write the limits into the cgroup's files.
    LimitGroup {
        /// What is written.
        limits: Box<Limits>,
    },
    /// `clone3`, straight into the cgroup where the host's cgroups can (`man 2 clone3`).
    Clone3 {
        /// The namespaces that the child starts in.
        namespaces: Namespaces,
        /// Whether the child is born in the container's cgroup (`CLONE_INTO_CGROUP`, v2 only).
        into_group: bool,
    },
    /// Write a file of `/proc/PID` of the cloned child: `uid_map`, `gid_map`, `setgroups`.
    WriteProc {
        /// The file's name.
        file: &'static str,
        /// What is written.
        text: String,
    },
    /// Move init itself into the cgroup (v1 has no way to be born there).
    EnterGroup,
    /// Tell the child to go on.
    Release,
    /// Wait until the runtime says to go on.
    AwaitRelease,
    /// `close_range`: no descriptor of the host enters the container (`man 2 close_range`).
    CloseDescriptors,
    /// `prctl(PR_SET_PDEATHSIG, SIGKILL)`: the container ends when its runtime does.
    DieWithRuntime,
    /// `prctl(PR_SET_DUMPABLE, 0)`: `/proc/1/exe` and `/proc/1/fd`, which lead to the host, stay shut.
    NotDumpable,
    /// `keyctl(KEYCTL_JOIN_SESSION_KEYRING)`: leave the caller's keys behind.
    NewKeyring,
    /// `unshare` (`man 2 unshare`).
    Unshare {
        /// The namespaces that the process gets anew.
        namespaces: Namespaces,
    },
    /// `mount` (`man 2 mount`).
    Mount {
        /// What is mounted: a device, a directory to bind, or a name to show.
        source: Option<CString>,
        /// Where.
        target: CString,
        /// The type of file system; none for a bind or a change of flags.
        kind: Option<CString>,
        /// Flags of the mount.
        flags: MsFlags,
        /// Options of the file system.
        data: Option<CString>,
    },
    /// `umount2` (`man 2 umount`).
    Unmount {
        /// Where.
        target: CString,
        /// How.
        flags: MntFlags,
    },
    /// `pivot_root` (`man 2 pivot_root`).
    PivotRoot {
        /// The root to come.
        new_root: CString,
        /// Where the old one goes.
        put_old: CString,
    },
    /// `umask`.
    Umask {
        /// The bits that new files lack.
        mask: u32,
    },
    /// `umask`, back to the caller's.
    RestoreUmask,
    /// `chdir`.
    ChangeDirectory {
        /// Whereto.
        path: CString,
    },
    /// `mkdir`.
    MakeDirectory {
        /// Which.
        path: CString,
        /// Its permission bits.
        mode: u32,
    },
    /// `openat` with `O_CREAT`: an empty file to bind something on.
    MakeFile {
        /// Which.
        path: CString,
    },
    /// `chown`.
    ChangeOwner {
        /// Which.
        path: CString,
        /// User and group.
        owner: (u32, u32),
    },
    /// `mount_setattr(AT_RECURSIVE, MOUNT_ATTR_RDONLY)`: a mount and all that is mounted in it
    /// (`man 2 mount_setattr`).
    MakeReadOnly {
        /// Which.
        path: CString,
    },
    /// `mknod` of a character device.
    MakeDevice {
        /// Which.
        path: CString,
        /// Major and minor number.
        device: (u32, u32),
    },
    /// `symlink`.
    Link {
        /// What the link says.
        target: CString,
        /// The link.
        path: CString,
    },
    /// `sethostname`.
    SetHostname {
        /// The new name.
        name: CString,
    },
    /// `ioctl(SIOCSIFFLAGS)` on `lo`: 127.0.0.1 answers (`man 7 netdevice`).
    LoopbackUp,
    /// `prctl(PR_CAPBSET_DROP)` for each capability that is not kept, then `capset`
    /// (`man 7 capabilities`).
    LimitCapabilities {
        /// A bit for each capability that stays.
        keep: u64,
    },
    /// `prctl(PR_SET_NO_NEW_PRIVS)`: set-user-ID programs give nothing.
    NoNewPrivileges,
    /// `execve` in a child of init (`man 2 execve`).
    Execute,
    /// A call of init's in a bundle's container.
    Oci(super::oci::OciCall),
    /// A call of a command's on a bundle's container.
    Life(super::lifecycle::LifeCall),
}

/// A C string of a path or text that the plan itself wrote: it has no NUL byte by construction, and
/// ends before one if it does.
pub(crate) fn text(bytes: impl AsRef<[u8]>) -> CString {
    let bytes = bytes.as_ref();
    let end = bytes.iter().position(|&byte| byte == 0);
    CString::new(&bytes[..end.unwrap_or(bytes.len())]).unwrap_or_default()
}

impl Call {
    /// The name of the system call that decides the outcome, for errors and tables.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateGroup { .. } => "mkdir",
            Self::LimitGroup { .. } | Self::WriteProc { .. } | Self::EnterGroup | Self::Release => {
                "write"
            }
            Self::Clone3 { .. } => "clone3",
            Self::AwaitRelease => "read",
            Self::CloseDescriptors => "close_range",
            Self::DieWithRuntime | Self::NotDumpable | Self::NoNewPrivileges => "prctl",
            Self::NewKeyring => "keyctl",
            Self::Unshare { .. } => "unshare",
            Self::Mount { .. } => "mount",
            Self::Unmount { .. } => "umount2",
            Self::PivotRoot { .. } => "pivot_root",
            Self::Umask { .. } | Self::RestoreUmask => "umask",
            Self::ChangeDirectory { .. } => "chdir",
            Self::MakeDirectory { .. } => "mkdir",
            Self::MakeFile { .. } => "openat",
            Self::ChangeOwner { .. } => "chown",
            Self::MakeReadOnly { .. } => "mount_setattr",
            Self::MakeDevice { .. } => "mknod",
            Self::Link { .. } => "symlink",
            Self::SetHostname { .. } => "sethostname",
            Self::LoopbackUp => "ioctl",
            Self::LimitCapabilities { .. } => "capset",
            Self::Execute => "execve",
            Self::Oci(call) => call.name(),
            Self::Life(call) => call.name(),
        }
    }
}

/// As `strace` would show it.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateGroup {
                name: None,
                controllers,
            } => write!(f, "mkdir(a cgroup with {controllers})"),
            Self::CreateGroup {
                name: Some(name),
                controllers,
            } => {
                write!(f, "mkdir(the cgroup {name:?} with {controllers})")
            }
            Self::LimitGroup { limits } => write_limits(f, limits),
            Self::EnterGroup => write!(f, "write(the cgroup's tasks, \"0\")"),
            Self::Release => write!(f, "write(the child, \"go on\")"),
            Self::AwaitRelease => write!(f, "read(the runtime)"),
            Self::Clone3 {
                namespaces,
                into_group,
            } => {
                let cgroup = match (into_group, namespaces.flags()) {
                    (false, _) => "",
                    (true, 0) => "CLONE_INTO_CGROUP",
                    (true, _) => " | CLONE_INTO_CGROUP",
                };
                write!(f, "clone3({namespaces}{cgroup})")
            }
            Self::WriteProc { file, text } => write!(f, "write(/proc/PID/{file}, {text:?})"),
            Self::CloseDescriptors => write!(f, "close_range(3, ~0)"),
            Self::DieWithRuntime => write!(f, "prctl(PR_SET_PDEATHSIG, SIGKILL)"),
            Self::NotDumpable => write!(f, "prctl(PR_SET_DUMPABLE, 0)"),
            Self::NewKeyring => write!(f, "keyctl(KEYCTL_JOIN_SESSION_KEYRING)"),
            Self::Unshare { namespaces } => write!(f, "unshare({namespaces})"),
            Self::Mount {
                source,
                target,
                kind,
                flags,
                data,
            } => {
                let or_null = |text: &Option<CString>| text.as_deref().map_or("NULL".into(), show);
                write!(
                    f,
                    "mount({}, {}, {}, ",
                    or_null(source),
                    show(target),
                    or_null(kind)
                )?;
                write_flags(f, flags.iter_names().map(|(name, _)| name))?;
                write!(f, ", {})", or_null(data))
            }
            Self::Unmount { target, flags } => {
                write!(f, "umount2({}, ", show(target))?;
                write_flags(f, flags.iter_names().map(|(name, _)| name))?;
                write!(f, ")")
            }
            Self::PivotRoot { new_root, put_old } => {
                write!(f, "pivot_root({}, {})", show(new_root), show(put_old))
            }
            Self::Umask { mask } => write!(f, "umask({mask:#05o})"),
            Self::RestoreUmask => write!(f, "umask(the caller's)"),
            Self::ChangeDirectory { path } => write!(f, "chdir({})", show(path)),
            Self::MakeDirectory { path, mode } => write!(f, "mkdir({}, {mode:#05o})", show(path)),
            Self::MakeFile { path } => write!(f, "openat(AT_FDCWD, {}, O_CREAT)", show(path)),
            Self::ChangeOwner {
                path,
                owner: (user, group),
            } => write!(f, "chown({}, {user}, {group})", show(path)),
            Self::MakeReadOnly { path } => write!(
                f,
                "mount_setattr({}, AT_RECURSIVE, MOUNT_ATTR_RDONLY)",
                show(path)
            ),
            Self::MakeDevice {
                path,
                device: (major, minor),
            } => {
                write!(
                    f,
                    "mknod({}, S_IFCHR, makedev({major}, {minor}))",
                    show(path)
                )
            }
            Self::Link { target, path } => write!(f, "symlink({}, {})", show(target), show(path)),
            Self::SetHostname { name } => write!(f, "sethostname({})", show(name)),
            Self::LoopbackUp => write!(f, "ioctl(SIOCSIFFLAGS, lo, IFF_UP)"),
            Self::LimitCapabilities { keep } => write!(f, "capset({keep:#x})"),
            Self::NoNewPrivileges => write!(f, "prctl(PR_SET_NO_NEW_PRIVS)"),
            Self::Execute => write!(f, "execve(the command)"),
            Self::Oci(call) => call.fmt(f),
            Self::Life(call) => call.fmt(f),
        }
    }
}

fn show(text: &CStr) -> String {
    format!("{:?}", text.to_string_lossy())
}

/// The limits that a container can have, by the names of cgroup v2's files.
fn write_limits(f: &mut fmt::Formatter<'_>, limits: &Limits) -> fmt::Result {
    let weight = limits.cpu.weight.map(CpuWeight::to_weight);
    let quota = limits.cpu.quota_us.and_then(Limit::bounded);
    let period = limits.cpu.period_us.unwrap_or(100_000);
    let devices = match limits.devices.len() {
        0 => None,
        count => Some(format!("{count} device rules")),
    };
    let cpuset =
        |name, set: &Option<String>| set.as_ref().map(|set| format!("cpuset.{name} = {set}"));
    let texts = [
        cpuset("cpus", &limits.cpuset.cpus),
        cpuset("mems", &limits.cpuset.mems),
        devices,
        weight.map(|weight| format!("cpu.weight = {weight}")),
        quota.map(|quota| format!("cpu.max = {quota} {period}")),
        limits
            .memory
            .limit_bytes
            .and_then(Limit::bounded)
            .map(|bytes| format!("memory.max = {bytes}")),
        limits
            .pids
            .max
            .and_then(Limit::bounded)
            .map(|pids| format!("pids.max = {pids}")),
    ];
    write!(
        f,
        "write({})",
        texts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    )
}

fn write_flags<'a>(
    f: &mut fmt::Formatter<'_>,
    names: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    let mut empty = true;
    for name in names {
        write!(f, "{}{name}", if empty { "" } else { " | " })?;
        empty = false;
    }
    if empty { write!(f, "0") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_print_as_strace_shows_them() {
        let call = Call::Mount {
            source: None,
            target: text("/"),
            kind: None,
            flags: MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            data: None,
        };
        assert_eq!(
            call.to_string(),
            r#"mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)"#
        );
        let call = Call::MakeDevice {
            path: text("dev/null"),
            device: (1, 3),
        };
        assert_eq!(
            call.to_string(),
            r#"mknod("dev/null", S_IFCHR, makedev(1, 3))"#
        );
        assert_eq!(call.name(), "mknod");
    }

    #[test]
    fn a_text_ends_before_a_nul_byte() {
        assert_eq!(text("a\0b"), text("a"));
    }
}

//! The calls that only a bundle's container needs. Paths in the root are resolved when the call is
//! made, inside of the root and never outside; see `man 2 openat2`, `RESOLVE_IN_ROOT`.

use std::ffi::CString;
use std::fmt;

use nix::mount::MsFlags;

use crate::namespace::user::Mapping;
use crate::namespace::{Namespace, Namespaces};

/// A mount in the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountIn {
    /// What is mounted.
    pub source: Option<CString>,
    /// Where, in the root; made when it is not there.
    pub target: CString,
    /// The type of file system; none for a bind.
    pub kind: Option<CString>,
    /// Flags of the mount.
    pub flags: MsFlags,
    /// Flags that a bind takes away from what it binds.
    pub cleared: MsFlags,
    /// Changes of propagation, one after the other.
    pub propagation: Vec<MsFlags>,
    /// `MOUNT_ATTR_…` of the mount and all in it: set and cleared.
    pub recursive: (u64, u64),
    /// Options of the file system.
    pub data: Option<CString>,
    /// Whether the file system starts with a copy of what it covers.
    pub copies_up: bool,
    /// How the runtime takes it from the host's mounts before init is born.
    pub detached: Option<Detached>,
}

/// A mount that is taken by the runtime and attached by init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detached {
    /// Its place among those of the plan.
    pub index: usize,
    /// The device node that it is made of, if it is none of the host's mounts.
    pub device: Option<DeviceNode>,
    /// Whom its files belong to, if to others than on the host.
    pub owners: Option<Owners>,
    /// Whether that holds for all that is mounted in it.
    pub is_mapped_recursively: bool,
    /// Whether it is of what earlier mounts have put into the root: init takes it when its turn has come, and
    /// the runtime, who may, gives it its owners then.
    pub is_of_root: bool,
    /// Whether it keeps the options that protect the host, as what is taken into another user namespace
    /// does (`man 7 mount_namespaces`).
    pub is_locked: bool,
}

/// A device node that root of a user namespace may not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNode {
    /// Its kind and permissions (`man 7 inode`).
    pub mode: u32,
    /// Its major and minor number.
    pub number: (u32, u32),
    /// Its user and group, as the host has them.
    pub owner: (u32, u32),
}

/// Owners of files of an idmapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owners {
    /// As this user namespace has them.
    OfNamespace(String),
    /// As these maps say.
    Mapped {
        /// Users.
        users: Vec<Mapping>,
        /// Groups.
        groups: Vec<Mapping>,
    },
}

impl MountIn {
    /// Whether it binds all that is mounted in its source as well.
    pub fn is_recursive(&self) -> bool {
        self.flags.contains(MsFlags::MS_REC)
    }

    /// A mount at `target` without anything else.
    pub fn at(target: CString) -> Self {
        Self {
            source: None,
            target,
            kind: None,
            flags: MsFlags::empty(),
            cleared: MsFlags::empty(),
            propagation: Vec::new(),
            recursive: (0, 0),
            data: None,
            copies_up: false,
            detached: None,
        }
    }
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the specification's names, in the order of a container's life"
)]
pub enum HookKind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl HookKind {
    /// The specification's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// One call, or a few that only make sense together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields named as the system call's")]
pub enum OciCall {
    /// `setns`: what the child is born into (`man 2 setns`); the caller goes back afterwards.
    Join { kind: Namespace, path: CString },
    /// `setns` with a descriptor of the container's init: all of its namespaces at once.
    JoinInit { namespaces: Namespaces },
    /// `clone3(CLONE_PARENT)`: another child of the runtime's takes the rest of the steps.
    BeReplaced,
    /// `setsid`: a session of its own.
    NewSession,
    /// `setresuid`, `setresgid`: root of the new user namespace.
    BecomeRoot,
    /// `mount(root, root, MS_BIND | MS_REC)`, and a descriptor of it.
    OpenRoot {
        path: CString,
        /// Of the mounts that are there; none leaves them alone.
        propagation: Option<MsFlags>,
    },
    /// A mount in the root.
    Mount(Box<MountIn>),
    /// The container's own cgroups, in one directory for each hierarchy.
    MountGroups { target: CString, is_read_only: bool },
    /// `mknod` in the root.
    MakeDevice {
        path: CString,
        mode: u32,
        device: (u32, u32),
        owner: (u32, u32),
    },
    /// A bind of the host's device: a user namespace has no `mknod`.
    BindDevice { path: CString, source: CString },
    /// `symlink` in the root.
    Link { path: CString, target: CString },
    /// Shows nothing at a path in the root; nothing to do when it is not there.
    Mask { path: CString },
    /// Makes a mount in the root read-only, now that all is made in it.
    ReadOnlyMount { path: CString },
    /// Makes a path in the root read-only; nothing to do when it is not there.
    MakeReadOnly { path: CString },
    /// `mkdir` of a directory in the root and of those above it.
    MakeDirectories { path: CString },
    /// Writes a file of the host's /proc.
    Write { path: CString, text: CString },
    /// Wait until the runtime has run its hooks.
    AwaitHooks,
    /// Run the hooks of a kind.
    RunHooks { kind: HookKind },
    /// `pivot_root(".", ".")`, `umount2(".", MNT_DETACH)`.
    PivotRoot,
    /// `mount(MS_MOVE)`, `chroot`: for a root that is a ramfs.
    MoveRoot,
    /// `mount(MS_REMOUNT | MS_BIND | MS_RDONLY)` of the root.
    RootReadOnly,
    /// `chroot`: for a container without mounts of its own.
    Chroot,
    /// The propagation of the root.
    RootPropagation { flags: MsFlags },
    /// A terminal of its own: `TIOCGPTPEER`, `sendmsg(SCM_RIGHTS)`, `TIOCSCTTY`, `dup2`.
    Terminal {
        owner: u32,
        size: Option<(u16, u16)>,
        /// Whether the runtime copies what is written to its caller's terminal.
        is_relayed: bool,
    },
    /// `prlimit`.
    Rlimit { resource: u32, soft: u64, hard: u64 },
    /// `setgroups`, `setresgid`, `setresuid`, capabilities kept.
    BecomeUser {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
    },
    /// `prctl(PR_CAPBSET_DROP)`.
    Bound { keep: u64 },
    /// `capset`, `prctl(PR_CAP_AMBIENT)`.
    Capabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
        ambient: u64,
    },
    /// `setdomainname`.
    SetDomainname { name: CString },
    /// `chdir`, and a check that it led into the root.
    ChangeDirectory {
        path: CString,
        /// Whether root may be barred from it, whose user goes there later.
        may_be_barred: bool,
    },
    /// The same by the program's user, where root was barred.
    ChangeDirectoryAsUser { path: CString },
    /// `personality`.
    Personality { domain: u64 },
    /// `set_mempolicy`: a mode with its flags, and memory nodes.
    MemoryPolicy { mode: u32, nodes: Vec<usize> },
    /// `sched_setattr`.
    Scheduler(SchedulerSettings),
    /// `ioprio_set`.
    IoPriority { class: u16, level: u16 },
    /// `seccomp(SECCOMP_SET_MODE_FILTER)`: code, true, false and operand of each instruction.
    Seccomp {
        program: Vec<(u16, u8, u8, u32)>,
        flags: u32,
    },
    /// `sched_setaffinity`: the processors of a list, or all that the cgroup has.
    Affinity { processors: Option<Vec<usize>> },
    /// Opens `/proc/self/timens_offsets`, which only the dumpable may.
    OpenClocks,
    /// Writes what was opened so: the clocks of the time namespace of the children to come.
    SetClocks { offsets: CString },
    /// Opens the file that a label for the program is written to, while the host's /proc is in sight.
    OpenLabel { path: CString },
    /// Writes that label: it holds from `execve` on.
    Label { text: CString },
    /// Looks for the user's home directory in the container's /etc/passwd, for `HOME`.
    FindHome { uid: u32 },
    /// Tell that nothing is left but to become the program.
    Announce,
    /// Tell that everything is ready, and wait for `start`.
    AwaitStart,
    /// `execve` in this very process.
    Execute,
}

/// As `man 2 sched_setattr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's names")]
pub struct SchedulerSettings {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

impl OciCall {
    /// The name of the system call that decides the outcome.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Join { .. } | Self::JoinInit { .. } => "setns",
            Self::BeReplaced => "clone3",
            Self::NewSession => "setsid",
            Self::BecomeRoot | Self::BecomeUser { .. } => "setresuid",
            Self::OpenRoot { .. }
            | Self::Mount(_)
            | Self::MountGroups { .. }
            | Self::BindDevice { .. }
            | Self::Mask { .. }
            | Self::MakeReadOnly { .. }
            | Self::ReadOnlyMount { .. }
            | Self::MoveRoot
            | Self::RootReadOnly
            | Self::RootPropagation { .. } => "mount",
            Self::Chroot => "chroot",
            Self::Affinity { .. } => "sched_setaffinity",
            Self::OpenClocks | Self::OpenLabel { .. } | Self::FindHome { .. } => "open",
            Self::SetClocks { .. } | Self::Label { .. } => "write",
            Self::MakeDevice { .. } => "mknod",
            Self::Link { .. } => "symlink",
            Self::MakeDirectories { .. } => "mkdir",
            Self::Write { .. } | Self::Announce => "write",
            Self::AwaitHooks => "read",
            Self::RunHooks { .. } | Self::Execute => "execve",
            Self::PivotRoot => "pivot_root",
            Self::Terminal { .. } => "ioctl",
            Self::Rlimit { .. } => "prlimit",
            Self::Bound { .. } => "prctl",
            Self::Capabilities { .. } => "capset",
            Self::SetDomainname { .. } => "setdomainname",
            Self::ChangeDirectory { .. } | Self::ChangeDirectoryAsUser { .. } => "chdir",
            Self::Personality { .. } => "personality",
            Self::MemoryPolicy { .. } => "set_mempolicy",
            Self::Scheduler(_) => "sched_setattr",
            Self::IoPriority { .. } => "ioprio_set",
            Self::Seccomp { .. } => "seccomp",
            Self::AwaitStart => "accept",
        }
    }
}

/// As `strace` would show it, with paths in the root under `ROOT`.
impl fmt::Display for OciCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Join { kind, path } => {
                write!(f, "setns({}, {})", path.to_string_lossy(), kind.flag_name())
            }
            Self::BeReplaced => write!(f, "clone3(CLONE_PARENT)"),
            Self::JoinInit { namespaces } => write!(f, "setns(the container's init, {namespaces})"),
            Self::Mount(mount) => {
                let text = |text: &Option<CString>| {
                    text.as_ref()
                        .map_or("NULL".into(), |it| format!("{:?}", it.to_string_lossy()))
                };
                let flags: Vec<_> = mount.flags.iter_names().map(|(name, _)| name).collect();
                write!(
                    f,
                    "mount({}, \"ROOT{}\", {}, {}, {})",
                    text(&mount.source),
                    mount.target.to_string_lossy(),
                    text(&mount.kind),
                    if flags.is_empty() {
                        "0".into()
                    } else {
                        flags.join(" | ")
                    },
                    text(&mount.data)
                )
            }
            Self::MakeDevice { path, device, .. } => write!(
                f,
                "mknod(\"ROOT{}\", makedev({}, {}))",
                path.to_string_lossy(),
                device.0,
                device.1
            ),
            Self::MountGroups { target: path, .. }
            | Self::BindDevice { path, .. }
            | Self::Link { path, .. }
            | Self::Mask { path }
            | Self::MakeReadOnly { path }
            | Self::ReadOnlyMount { path }
            | Self::MakeDirectories { path } => {
                write!(f, "{name}(\"ROOT{}\")", path.to_string_lossy())
            }
            Self::OpenRoot { path, .. }
            | Self::SetDomainname { name: path }
            | Self::ChangeDirectory { path, .. }
            | Self::ChangeDirectoryAsUser { path }
            | Self::OpenLabel { path } => {
                write!(f, "{name}({:?})", path.to_string_lossy())
            }
            Self::Write { path, text } => write!(
                f,
                "write({:?}, {:?})",
                path.to_string_lossy(),
                text.to_string_lossy()
            ),
            Self::BecomeUser { uid, gid, groups } => {
                if let Some(groups) = groups.as_ref().filter(|it| !it.is_empty()) {
                    write!(f, "setgroups({groups:?}), ")?;
                }
                write!(f, "setresgid({gid}), setresuid({uid})")
            }
            Self::Rlimit {
                resource,
                soft,
                hard,
            } => {
                write!(f, "prlimit({resource}, {soft}, {hard})")
            }
            Self::Bound { keep } => write!(f, "prctl(PR_CAPBSET_DROP, all but {keep:#x})"),
            Self::Capabilities {
                effective,
                permitted,
                inheritable,
                ambient,
            } => write!(
                f,
                "capset({effective:#x}, {permitted:#x}, {inheritable:#x}), ambient {ambient:#x}"
            ),
            Self::Label { text } => write!(f, "write({:?})", text.to_string_lossy()),
            Self::Affinity { processors: None } => write!(f, "sched_setaffinity(all)"),
            Self::Affinity {
                processors: Some(list),
            } => write!(f, "sched_setaffinity({list:?})"),
            Self::OpenClocks => write!(f, "open(\"/proc/self/timens_offsets\")"),
            Self::SetClocks { offsets } => write!(f, "write({:?})", offsets.to_string_lossy()),
            Self::FindHome { uid } => write!(f, "open(\"/etc/passwd\"), to look for {uid}"),
            Self::Chroot => write!(f, "chroot(\".\")"),
            Self::Seccomp { program, flags } => {
                write!(f, "seccomp({flags:#x}, {} instructions)", program.len())
            }
            Self::NewSession => write!(f, "setsid()"),
            Self::BecomeRoot => write!(f, "setresgid(0), setresuid(0)"),
            Self::AwaitHooks => write!(f, "write(the runtime, \"hooks\"), read(the runtime)"),
            Self::RunHooks { kind } => write!(f, "execve(each hook of {})", kind.name()),
            Self::PivotRoot => write!(f, "pivot_root(\".\", \".\"), umount2(\".\", MNT_DETACH)"),
            Self::MoveRoot => write!(f, "mount(\".\", \"/\", MS_MOVE), chroot(\".\")"),
            Self::RootReadOnly => write!(f, "mount_setattr(\"/\", MOUNT_ATTR_RDONLY)"),
            Self::RootPropagation { flags } => {
                let flags: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
                write!(f, "mount(NULL, \"/\", NULL, {}, NULL)", flags.join(" | "))
            }
            Self::Terminal { .. } => write!(
                f,
                "openat(\"ROOT/dev/pts/ptmx\"), ioctl(TIOCGPTPEER), sendmsg(SCM_RIGHTS), ioctl(TIOCSCTTY), dup2"
            ),
            Self::Personality { domain } => write!(f, "personality({domain:#x})"),
            Self::MemoryPolicy { mode, nodes } => write!(f, "set_mempolicy({mode:#x}, {nodes:?})"),
            Self::Scheduler(it) => write!(
                f,
                "sched_setattr(policy {}, nice {}, priority {})",
                it.policy, it.nice, it.priority
            ),
            Self::IoPriority { class, level } => write!(f, "ioprio_set({class}, {level})"),
            Self::Announce => write!(f, "write(the runtime, \"ready\")"),
            Self::AwaitStart => write!(f, "write(the runtime, \"ready\"), accept, read(\"go on\")"),
            Self::Execute => write!(f, "execve(the program)"),
        }
    }
}

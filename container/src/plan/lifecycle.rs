//! The calls by which commands look after a bundle's container from outside: its directory, its init,
//! its cgroup. See `runtime/state.rs` for what is in the directory.

use std::fmt;
use std::path::PathBuf;

use super::oci::HookKind;
use crate::cgroup::systemd::Unit;
use crate::cgroup::{Controllers, Limits};
use crate::namespace::Namespace;

/// What the runtime waits for init to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// Another child has taken its place, in the container.
    Birth,
    /// It waits for the runtime's hooks.
    Hooks,
    /// It waits for `start`.
    Ready,
    /// It has become its program.
    Program,
}

/// One call, or a few that only make sense together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifeCall {
    /// `mkdir` and `flock`: the name is taken, and nobody else works on the container.
    Claim {
        /// The container's directory.
        path: PathBuf,
    },
    /// `write` of the configuration as it is now.
    KeepConfig {
        /// The copy.
        path: PathBuf,
    },
    /// `sendmsg` to systemd: a scope for the container, which is its cgroup.
    StartScope {
        /// Which, in which slice.
        unit: Unit,
        /// Whether the caller's own manager is asked.
        is_user: bool,
        /// What systemd is told of the limits.
        limits: Box<Limits>,
        /// What the cgroup is to count and limit.
        controllers: Controllers,
    },
    /// `bind` and `listen`: where `start` will call.
    Listen {
        /// The socket.
        path: PathBuf,
    },
    /// `open`: what the child is to be born into. A go-between enters it by `setns` and clones the child.
    Join {
        /// Its place in `linux.namespaces`.
        index: usize,
        /// The kind of namespace.
        kind: Namespace,
        /// Its file.
        path: PathBuf,
    },
    /// `open_tree`: mounts of the host's that init is to attach, taken while they can be reached.
    TakeMounts {
        /// How many.
        count: usize,
    },
    /// `write` of the child's `uid_map` or `gid_map`, or `execve` of who may write it for an ordinary user.
    MapIds {
        /// The file's name.
        file: &'static str,
        /// What it is to say.
        text: String,
    },
    /// `sendmsg(RTM_NEWLINK)`: an interface of the host's becomes the child's.
    MoveInterface {
        /// Its name.
        name: String,
        /// Its name in there.
        inside: String,
    },
    /// `umount2`.
    Unmount {
        /// Where.
        path: PathBuf,
    },
    /// `write` and `rename` of the state.
    Save {
        /// The file.
        path: PathBuf,
    },
    /// `write` and `rename` of the child's number.
    TellPid {
        /// The file.
        path: PathBuf,
    },
    /// `sendmsg(SCM_RIGHTS)` of a descriptor of the child.
    SendDescriptor {
        /// The socket that it goes to.
        path: PathBuf,
    },
    /// `read` of what the child reports.
    Await(Milestone),
    /// `execve` of the configuration's hooks of a kind.
    RunHooks {
        /// When they run.
        kind: HookKind,
    },
    /// `connect` to the init that waits.
    Connect {
        /// Its socket.
        path: PathBuf,
    },
    /// `unlink`.
    Unlink {
        /// Which file.
        path: PathBuf,
    },
    /// `pidfd_send_signal(SIGKILL)` to init.
    KillInit {
        /// Its number.
        pid: i32,
    },
    /// `SIGKILL` to whoever is in the cgroup.
    KillGroup,
    /// `poll` until init has ended.
    AwaitEnd,
    /// `rmdir` of the cgroup in each hierarchy.
    RemoveGroup,
    /// The same, where it is not known whose the cgroup is: with processes in it, it stays.
    RemoveOwnGroup,
    /// `execve` of criu, which is asked to dump the container.
    Dump {
        /// Where the images go.
        path: PathBuf,
        /// Whether it is memory alone.
        is_partial: bool,
    },
    /// `execve` of criu, which is asked to restore a container; `write` and `rename` of the state, before it
    /// goes on.
    Restore {
        /// Where the images are.
        path: PathBuf,
    },
    /// `unlink` and `rmdir` of the container's directory.
    Forget {
        /// Which.
        path: PathBuf,
    },
}

impl LifeCall {
    /// The name of the system call that decides the outcome.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Claim { .. } => "mkdir",
            Self::KeepConfig { .. } | Self::MapIds { .. } => "write",
            Self::Save { .. } | Self::TellPid { .. } => "rename",
            Self::StartScope { .. } | Self::SendDescriptor { .. } | Self::MoveInterface { .. } => {
                "sendmsg"
            }
            Self::Listen { .. } => "bind",
            Self::Join { .. } => "setns",
            Self::TakeMounts { .. } => "open_tree",
            Self::Unmount { .. } => "umount2",
            Self::Await(_) => "read",
            Self::RunHooks { .. } | Self::Dump { .. } | Self::Restore { .. } => "execve",
            Self::Connect { .. } => "connect",
            Self::Unlink { .. } => "unlink",
            Self::KillInit { .. } => "pidfd_send_signal",
            Self::KillGroup => "write",
            Self::AwaitEnd => "poll",
            Self::RemoveGroup | Self::RemoveOwnGroup | Self::Forget { .. } => "rmdir",
        }
    }
}

/// As `strace` would show it.
impl fmt::Display for LifeCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { path } => write!(f, "mkdir({path:?}, 0700), flock(LOCK_EX)"),
            Self::KeepConfig { path } => write!(f, "write({path:?}, the configuration)"),
            Self::StartScope { unit, is_user, .. } => {
                let whose = if *is_user {
                    "the user's systemd"
                } else {
                    "systemd"
                };
                write!(f, "sendmsg({whose}, StartTransientUnit({:?}))", unit.name())
            }
            Self::Listen { path } => write!(f, "bind({path:?}), listen"),
            Self::Join { kind, path, .. } => {
                write!(f, "open({path:?}), setns({})", kind.flag_name())
            }
            Self::TakeMounts { count } => write!(f, "open_tree(OPEN_TREE_CLONE), {count} times"),
            Self::MapIds { file, text } => write!(
                f,
                "write(/proc/PID/{file}, {text:?}), or new{}({text:?})",
                file.replace('_', "")
            ),
            Self::MoveInterface { name, inside } => write!(
                f,
                "sendmsg(RTM_NEWLINK, {name:?}, IFLA_NET_NS_FD, IFLA_IFNAME {inside:?})"
            ),
            Self::Unmount { path } => write!(f, "umount2({path:?}, MNT_DETACH)"),
            Self::Save { path } => write!(f, "write, rename({path:?})"),
            Self::TellPid { path } => write!(f, "write, rename({path:?})"),
            Self::Await(Milestone::Birth) => write!(f, "read(the child, \"born\")"),
            Self::SendDescriptor { path } => write!(f, "connect({path:?}), sendmsg(pidfd)"),
            Self::Await(Milestone::Hooks) => write!(f, "read(the child, \"hooks\")"),
            Self::Await(Milestone::Ready) => write!(f, "read(the child, \"ready\")"),
            Self::Await(Milestone::Program) => write!(f, "read(the child, end of file)"),
            Self::RunHooks { kind } => write!(f, "execve(each hook of {})", kind.name()),
            Self::Connect { path } => write!(f, "connect({path:?})"),
            Self::Unlink { path } => write!(f, "unlink({path:?})"),
            Self::KillInit { pid } => write!(f, "pidfd_send_signal({pid}, SIGKILL)"),
            Self::KillGroup => write!(
                f,
                "write(cgroup.kill, \"1\"), or kill each of its processes"
            ),
            Self::AwaitEnd => write!(f, "poll(init)"),
            Self::RemoveGroup => write!(
                f,
                "rmdir(the cgroup), in each hierarchy; kill whoever is left"
            ),
            Self::RemoveOwnGroup => {
                write!(f, "rmdir(the cgroup), in each hierarchy, if it is empty")
            }
            Self::Dump { path, is_partial } => {
                let request = if *is_partial { "PRE_DUMP" } else { "DUMP" };
                write!(f, "execve(criu), sendmsg({request}, {path:?})")
            }
            Self::Restore { path } => {
                write!(f, "execve(criu), sendmsg(RESTORE, {path:?})")
            }
            Self::Forget { path } => write!(f, "unlink, rmdir({path:?})"),
        }
    }
}

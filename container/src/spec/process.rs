//! What runs in a container, and with which rights (`config.md`, "Process").

use serde::{Deserialize, Serialize};

use super::{is_false, or_default};

/// A program, its surroundings and its rights.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Whether it gets a terminal of its own.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// The terminal's size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who it is.
    #[serde(deserialize_with = "or_default")]
    pub user: User,
    /// The program and its arguments.
    #[serde(deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// Its environment, `NAME=value`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Where it starts.
    pub cwd: String,
    /// Its capabilities; absent: none at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Its resource limits.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Whether set-user-ID programs give it nothing.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// Its AppArmor profile.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub apparmor_profile: String,
    /// How readily the kernel kills it when memory is short, -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Its SELinux label.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub selinux_label: String,
    /// Its I/O priority.
    #[serde(rename = "ioPriority", skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// Its scheduling policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Processors for a process that joins by `exec`.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Lines.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Who a process is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Bits that its new files lack; absent: 0022.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// More groups.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// The five sets, by the names of `man 7 capabilities`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Capabilities {
    /// What any program can get at most.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    /// What counts now.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    /// What a program may be given by its file.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    /// What it may make count.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    /// What an unprivileged program keeps through `execve`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// A resource limit (`man 2 setrlimit`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the process may raise itself to.
    pub hard: u64,
    /// What holds.
    pub soft: u64,
}

/// An I/O priority (`man 2 ioprio_set`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    #[serde(rename = "class")]
    pub class: String,
    /// 0, the highest, to 7.
    pub priority: i64,
}

/// A scheduling policy (`man 2 sched_setattr`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Scheduler {
    /// `SCHED_OTHER`, `SCHED_FIFO`, …
    pub policy: String,
    /// -20 to 19.
    #[serde(deserialize_with = "or_default")]
    pub nice: i32,
    /// 0 to 99.
    #[serde(deserialize_with = "or_default")]
    pub priority: i32,
    /// `SCHED_FLAG_…`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Nanoseconds of each period, of the deadline policy.
    #[serde(deserialize_with = "or_default")]
    pub runtime: u64,
    /// By when, in nanoseconds.
    #[serde(deserialize_with = "or_default")]
    pub deadline: u64,
    /// How often, in nanoseconds.
    #[serde(deserialize_with = "or_default")]
    pub period: u64,
}

/// Processors of a process before and after it enters a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// Before, a list such as `0-3,7`.
    #[serde(deserialize_with = "or_default")]
    pub initial: String,
    /// After.
    #[serde(rename = "final", deserialize_with = "or_default")]
    pub last: String,
}

/// The kernel's capabilities in the order of their numbers (`linux/capability.h`).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of the capability `name`, with or without `CAP_`, in any case; none for an unknown one.
pub fn capability_number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    CAPABILITIES
        .iter()
        .position(|known| *known == name)
        .map(|number| number as u32)
}

/// The names of all capabilities that are known, `CAP_` included.
pub fn capability_names() -> impl Iterator<Item = String> {
    CAPABILITIES.iter().map(|name| format!("CAP_{name}"))
}

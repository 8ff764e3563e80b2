//! Which system calls a container's processes may make (`config-linux.md`, "Seccomp").

use serde::{Deserialize, Serialize};

use super::or_default;

/// The field `linux.seccomp`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    /// For calls that no rule covers: `SCMP_ACT_…`.
    pub default_action: String,
    /// The errno of that action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`; the native one is always among them.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_…`; none at all is not the same as an empty list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// Who is told of calls with the action `SCMP_ACT_NOTIFY`.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub listener_path: String,
    /// What is passed to that listener.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub listener_metadata: String,
    /// The rules; the first that matches holds.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SeccompRule>,
}

/// What to do about some calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompRule {
    /// Their names.
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
    /// `SCMP_ACT_…`.
    pub action: String,
    /// The errno of that action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions on the arguments, all of which have to hold.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SeccompArgument>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompArgument {
    /// Which one, 0 to 5.
    pub index: u32,
    /// What it is compared with, or the mask.
    pub value: u64,
    /// What the masked argument is compared with.
    #[serde(deserialize_with = "or_default")]
    pub value_two: u64,
    /// `SCMP_CMP_…`.
    pub op: String,
}

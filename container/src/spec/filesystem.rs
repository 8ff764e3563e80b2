//! The root and what is mounted in it (`config.md`, "Root" and "Mounts").

use serde::{Deserialize, Serialize};

use super::{IdMapping, is_false, or_default};

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Root {
    /// Its directory; a relative path counts from the bundle.
    pub path: String,
    /// Whether nobody may write to it.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    pub readonly: bool,
}

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where, as the container sees it.
    pub destination: String,
    /// The type of file system; `bind` or none for a bind mount.
    #[serde(
        rename = "type",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub kind: String,
    /// What; a relative path of a bind mount counts from the bundle.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub source: String,
    /// Flags and the file system's own options, as `mount -o` takes them.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// User numbers of an idmapped mount.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group numbers of an idmapped mount.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

impl Mount {
    /// Whether it binds a file or directory of the host.
    pub fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|it| it == "bind" || it == "rbind")
    }
}

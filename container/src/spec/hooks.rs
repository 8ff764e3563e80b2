//! Programs that run at the turns of a container's life (`config.md`, "POSIX-platform Hooks").

use serde::{Deserialize, Serialize};

use super::or_default;

/// The hooks of each kind, in the order in which they run.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// As `create_runtime`, and before those; deprecated.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// Outside, when the namespaces are there and the root is not yet entered.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root is entered.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// In the container, right before its program starts.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// Outside, when the program has started.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// Outside, when the container has been deleted.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each kind with its name in the file.
    pub fn kinds(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }
}

/// One program; it reads the container's state from standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Hook {
    /// Its absolute path.
    pub path: String,
    /// Its arguments, its name first; none: its path alone.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, `NAME=value`; none: that of whoever runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Seconds after which it is killed and has failed; none: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

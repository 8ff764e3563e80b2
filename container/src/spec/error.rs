//! Why a configuration is refused.

use std::path::PathBuf;

/// A configuration that cannot be read, or that no host could run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {}; name the bundle's directory with --bundle", path.display(), named(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no configuration but something larger.
    #[error("{} is larger than {} MiB, which no configuration is", path.display(), super::MAX_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A field is not of the type that it should be, or the file is not JSON.
    #[error("{}{source}", place(field))]
    Json {
        /// Its path in the file; `.` or `?` for the file as a whole.
        field: String,
        /// What was expected, and where it stands.
        source: serde_json::Error,
    },
    /// A field that no host could do.
    #[error("`{field}` is {value:?}: {why}")]
    Field {
        /// Its path in the file.
        field: String,
        /// Its value.
        value: String,
        /// What is wrong, and what would be right.
        why: &'static str,
    },
    /// A field that the part of the kernel which it is for takes not, in the words of who knows that part.
    #[error("`{field}`: {source}")]
    Refused {
        /// Its path in the file.
        field: String,
        /// What is wrong, and what would be right.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A field that has to be there.
    #[error("`{field}` is missing: {why}")]
    Missing {
        /// Its path in the file.
        field: String,
        /// What it is needed for.
        why: &'static str,
    },
}

impl Error {
    pub(crate) fn field(field: impl Into<String>, value: impl ToString, why: &'static str) -> Self {
        Self::Field {
            field: field.into(),
            value: value.to_string(),
            why,
        }
    }

    /// The same in a file that holds only what is below `parent`.
    pub(crate) fn below(mut self, parent: &str) -> Self {
        if let Self::Json { field, .. }
        | Self::Field { field, .. }
        | Self::Refused { field, .. }
        | Self::Missing { field, .. } = &mut self
            && let Some(rest) = field.strip_prefix(parent)
            && let Some(rest) = rest.strip_prefix('.')
        {
            *field = rest.to_owned();
        }
        self
    }

    /// The path of the field that is wrong; none when the file itself is.
    pub fn field_path(&self) -> Option<&str> {
        match self {
            Self::Json { field, .. }
            | Self::Field { field, .. }
            | Self::Refused { field, .. }
            | Self::Missing { field, .. } => Some(field),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// An error of the kernel's by its name, such as `ENOENT: No such file or directory`.
pub(crate) fn named(error: &std::io::Error) -> String {
    let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
    errno.map_or_else(|| error.to_string(), |errno| errno.to_string())
}

/// A field at the head of a message; nothing for the whole file.
fn place(field: &str) -> String {
    match field {
        "." | "?" => String::new(),
        field => format!("`{field}`: "),
    }
}

impl From<serde_path_to_error::Error<serde_json::Error>> for Error {
    fn from(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        Self::Json {
            field: error.path().to_string(),
            source: error.into_inner(),
        }
    }
}

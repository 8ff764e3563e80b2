//! Hooks (`config.md`, "POSIX-platform Hooks").

use super::{absolute, no_nul};
use crate::spec::{Error, Hook, Hooks};

pub(super) fn hooks(hooks: &Hooks) -> Result<(), Error> {
    for (kind, list) in hooks.kinds() {
        for (index, hook) in list.iter().enumerate() {
            let at = format!("hooks.{kind}[{index}]");
            let Hook {
                path,
                args,
                env,
                timeout,
            } = hook;
            absolute(&format!("{at}.path"), path)?;
            for (name, list) in [("args", args), ("env", env.as_ref().unwrap_or(&Vec::new()))] {
                for (index, value) in list.iter().enumerate() {
                    no_nul(&format!("{at}.{name}[{index}]"), value)?;
                }
            }
            if timeout.is_some_and(|seconds| seconds <= 0) {
                return Err(Error::field(
                    format!("{at}.timeout"),
                    timeout.unwrap_or(0),
                    "give a positive number of seconds",
                ));
            }
        }
    }
    Ok(())
}

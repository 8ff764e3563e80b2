//! The filter of system calls.

use super::no_nul;
use crate::spec::{Error, Seccomp};

impl Seccomp {
    pub(super) fn validate(&self) -> Result<(), Error> {
        no_nul("linux.seccomp.listenerPath", &self.listener_path)?;
        for (index, rule) in self.syscalls.iter().enumerate() {
            let at = format!("linux.seccomp.syscalls[{index}]");
            if rule.names.is_empty() {
                return Err(Error::Missing {
                    field: format!("{at}.names"),
                    why: "a rule needs calls to be about",
                });
            }
            for (number, argument) in rule.args.iter().enumerate() {
                if argument.index > 5 {
                    return Err(Error::field(
                        format!("{at}.args[{number}].index"),
                        argument.index,
                        "system calls have arguments 0 to 5",
                    ));
                }
            }
        }
        Ok(())
    }
}

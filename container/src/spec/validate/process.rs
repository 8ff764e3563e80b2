//! The process (`config.md`, "Process").

use super::{absolute, no_nul};
use crate::runtime::bundle::process::processors;
use crate::spec::{Error, Process, User};

impl Process {
    /// Checks a process; `at` is its path in the file.
    ///
    /// # Errors
    /// The first field that no host could do.
    pub fn validate(&self, at: &str) -> Result<(), Error> {
        let field = |name: &str| format!("{at}.{name}");
        absolute(&field("cwd"), &self.cwd)?;
        if self.args.is_empty() {
            return Err(Error::Missing {
                field: field("args"),
                why: "args must not be empty; name a program to run",
            });
        }
        if self.args.iter().take(1).any(String::is_empty) {
            return Err(Error::field(
                field("args[0]"),
                "",
                "executable file not found in $PATH; name a program to run",
            ));
        }
        for (name, list) in [("args", &self.args), ("env", &self.env)] {
            for (index, value) in list.iter().enumerate() {
                no_nul(&format!("{at}.{name}[{index}]"), value)?;
            }
        }
        if let Some(index) = self.env.iter().position(|it| !it.contains('=')) {
            return Err(Error::field(
                field(&format!("env[{index}]")),
                &self.env[index],
                "invalid environment variable: missing '='; write NAME=VALUE",
            ));
        }
        nobody(&field("user"), &self.user)?;
        let adjustment = self.oom_score_adj.unwrap_or(0);
        if !(-1000..=1000).contains(&adjustment) {
            return Err(Error::field(
                field("oomScoreAdj"),
                adjustment,
                "give -1000 to 1000",
            ));
        }
        for (index, limit) in self.rlimits.iter().enumerate() {
            let field = format!("{at}.rlimits[{index}]");
            if crate::runtime::rlimit_number(&limit.kind).is_none() {
                return Err(Error::field(
                    format!("{field}.type"),
                    &limit.kind,
                    "there is no such resource; see man 2 setrlimit",
                ));
            }
            if limit.soft > limit.hard {
                return Err(Error::field(
                    format!("{field}.soft"),
                    limit.soft,
                    "it is above the hard limit",
                ));
            }
            if self.rlimits[..index].iter().any(|it| it.kind == limit.kind) {
                return Err(Error::field(
                    format!("{field}.type"),
                    &limit.kind,
                    "it is given twice",
                ));
            }
        }
        let affinity = self.exec_cpu_affinity.as_ref();
        for (name, list) in affinity
            .iter()
            .flat_map(|it| [("initial", &it.initial), ("final", &it.last)])
        {
            if !list.is_empty() {
                processors(&field(&format!("execCPUAffinity.{name}")), list)?;
            }
        }
        if self.user.umask.is_some_and(|umask| umask > 0o777) {
            return Err(Error::field(
                field("user.umask"),
                self.user.umask.unwrap_or(0),
                "give 0 to 511 (0777)",
            ));
        }
        Ok(())
    }
}

/// Refuses the number that the kernel takes for "leave it as it is" (`man 2 setresuid`): whoever asked for it
/// would stay root.
fn nobody(at: &str, user: &User) -> Result<(), Error> {
    let more = user.additional_gids.iter().enumerate();
    let more = more.map(|(index, gid)| (format!("additionalGids[{index}]"), *gid));
    let own = [("uid".to_owned(), user.uid), ("gid".to_owned(), user.gid)];
    for (name, number) in own.into_iter().chain(more) {
        if number == u32::MAX {
            let why = "the kernel takes it for no change; give 0 to 4294967294";
            return Err(Error::field(format!("{at}.{name}"), number, why));
        }
    }
    Ok(())
}

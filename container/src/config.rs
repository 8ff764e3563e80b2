//! What the caller asks for: the small configuration of a container made from the host's own files.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::cgroup::{self, CpuWeight, Limit};

/// The longest hostname that the kernel takes (`__NEW_UTS_LEN`, `man 2 sethostname`).
pub const HOSTNAME_MAX_BYTES: usize = 64;

/// Where a command without a slash is looked for when its environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One container: a command of the host's, and what it may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of [`Config::env`].
    pub command: Vec<OsString>,
    /// The whole environment of the command.
    pub env: Vec<(OsString, OsString)>,
    /// Where the command starts: an absolute path in the container.
    pub cwd: PathBuf,
    /// The container's own hostname, 1 to 64 bytes.
    pub hostname: OsString,
    /// What its cgroup may use.
    pub limits: Limits,
}

/// Limits on the whole container. `None` leaves a resource as the caller has it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Processor time a second, in processors: 0.5 is half of one (a quota, enforced even when the host idles).
    pub cpus: Option<f64>,
    /// Share of contended processors, 1 to 10,000; 100 is everybody's default (the scale of cgroup v2).
    pub cpu_weight: Option<u64>,
    /// Memory in bytes; beyond it the kernel kills inside the container.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once, the container's init included.
    pub pids: Option<u64>,
}

/// A configuration that no host could run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no program to run.
    #[error("`command` is empty; name a program to run")]
    EmptyCommand,
    /// The kernel's strings end at the first NUL byte.
    #[error("`{field}` contains a NUL byte: {value:?}; remove it")]
    Nul {
        /// The field of [`Config`].
        field: &'static str,
        /// The value as given.
        value: OsString,
    },
    /// An environment variable without a usable name.
    #[error("`env` names a variable {0:?}; a name is not empty and has no `=`")]
    EnvironmentName(OsString),
    /// The working directory has to be absolute.
    #[error("`cwd` is {0:?}; give an absolute path")]
    RelativeCwd(PathBuf),
    /// The kernel would refuse this hostname.
    #[error("`hostname` {0:?} is not 1 to {HOSTNAME_MAX_BYTES} bytes long")]
    Hostname(OsString),
    /// Not a positive, finite number of processors.
    #[error("`limits.cpus` is {0}; give a number of processors between 0.01 and 10000")]
    Cpus(f64),
    /// A limit outside what the kernel accepts.
    #[error("`limits.{field}` is {value}; give {minimum} to {maximum}")]
    Range {
        /// The field of [`Limits`].
        field: &'static str,
        /// The value as given.
        value: u64,
        /// The smallest accepted value.
        minimum: u64,
        /// The largest accepted value.
        maximum: u64,
    },
}

impl Config {
    /// A container for `command` with an empty environment except `PATH`, at `/`, unlimited.
    pub fn new<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            env: vec![("PATH".into(), DEFAULT_PATH.into())],
            cwd: "/".into(),
            hostname: "ringside".into(),
            limits: Limits::default(),
        }
    }

    /// The same with the caller's environment and working directory, so that a command behaves as it
    /// does outside. Falls back to `/` when the caller's directory has been removed.
    pub fn like_caller<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            env: std::env::vars_os().collect(),
            cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            ..Self::new(command)
        }
    }

    /// Checks everything that can be told without looking at the host.
    ///
    /// # Errors
    /// Names the first field that no kernel would accept, and its value.
    pub fn validate(&self) -> Result<(), Error> {
        match self.command.first() {
            None => return Err(Error::EmptyCommand),
            Some(program) if program.is_empty() => return Err(Error::EmptyCommand),
            Some(_) => {}
        }
        for argument in &self.command {
            c_string("command", argument)?;
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(Error::EnvironmentName(name.clone()));
            }
            c_string("env", name)?;
            c_string("env", value)?;
        }
        c_string("cwd", self.cwd.as_os_str())?;
        if !self.cwd.is_absolute() {
            return Err(Error::RelativeCwd(self.cwd.clone()));
        }
        c_string("hostname", &self.hostname)?;
        if self.hostname.is_empty() || self.hostname.len() > HOSTNAME_MAX_BYTES {
            return Err(Error::Hostname(self.hostname.clone()));
        }
        self.limits.validate()
    }

    /// The value of `PATH` in the command's environment, or [`DEFAULT_PATH`].
    pub fn search_path(&self) -> &OsStr {
        let path = self.env.iter().rev().find(|(name, _)| name == "PATH");
        path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value)
    }
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same in the terms of cgroups; a quota counts in periods of 100 ms.
    #[must_use]
    pub fn for_group(&self) -> cgroup::Limits {
        const PERIOD_US: u64 = 100_000;
        let mut limits = cgroup::Limits::default();
        limits.cpu.weight = self.cpu_weight.map(CpuWeight::Weight);
        limits.cpu.quota_us = self
            .cpus
            .map(|cpus| Limit::At((cpus * PERIOD_US as f64).round() as u64));
        limits.cpu.period_us = self.cpus.map(|_| PERIOD_US);
        limits.memory.limit_bytes = self.memory_bytes.map(Limit::At);
        limits.pids.max = self.pids.map(Limit::At);
        limits
    }

    /// Checks each limit by itself.
    ///
    /// # Errors
    /// Names the first that no kernel would accept, and its value.
    pub fn validate(&self) -> Result<(), Error> {
        match self.cpus {
            Some(cpus) if !(0.01..=10_000.0).contains(&cpus) => return Err(Error::Cpus(cpus)),
            _ => {}
        }
        let range = |field, value: Option<u64>, minimum, maximum| match value {
            Some(value) if !(minimum..=maximum).contains(&value) => Err(Error::Range {
                field,
                value,
                minimum,
                maximum,
            }),
            _ => Ok(()),
        };
        range("cpu_weight", self.cpu_weight, 1, 10_000)?;
        // Less than a few pages and the kernel cannot even exec; the counters are signed.
        range("memory_bytes", self.memory_bytes, 64 << 10, i64::MAX as u64)?;
        // Init and the command; the kernel's own ceiling for processes (`PID_MAX_LIMIT`).
        range("pids", self.pids, 2, 1 << 22)
    }
}

/// The C string of a field's value.
pub(crate) fn c_string(field: &'static str, value: &OsStr) -> Result<CString, Error> {
    CString::new(value.as_bytes()).map_err(|error| Error::Nul {
        field,
        value: OsString::from_vec(error.into_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::new(["true"]);
        change(&mut config);
        config
            .validate()
            .expect_err("an invalid configuration")
            .to_string()
    }

    #[test]
    fn each_impossible_field_is_named_with_its_value() {
        assert!(refused(|c| c.command.clear()).contains("`command` is empty"));
        assert!(refused(|c| c.command = vec!["".into()]).contains("`command` is empty"));
        assert!(
            refused(|c| c.command.push("a\0b".into()))
                .contains(r#"`command` contains a NUL byte: "a\0b""#)
        );
        assert!(refused(|c| c.env.push(("A=B".into(), "".into()))).contains(r#""A=B""#));
        assert!(refused(|c| c.env.push(("A".into(), "\0".into()))).contains("`env`"));
        assert!(refused(|c| c.cwd = "tmp".into()).contains(r#"`cwd` is "tmp""#));
        assert!(refused(|c| c.hostname = "h".repeat(65).into()).contains("64 bytes"));
        assert!(refused(|c| c.limits.cpus = Some(f64::NAN)).contains("NaN"));
        assert!(refused(|c| c.limits.cpus = Some(-1.0)).contains("-1"));
        assert!(
            refused(|c| c.limits.cpu_weight = Some(0))
                .contains("`limits.cpu_weight` is 0; give 1 to 10000")
        );
        assert!(refused(|c| c.limits.memory_bytes = Some(u64::MAX)).contains("memory_bytes"));
        assert!(refused(|c| c.limits.pids = Some(1)).contains("`limits.pids` is 1"));
    }

    #[test]
    fn the_last_path_of_the_environment_wins() {
        let mut config = Config::new(["true"]);
        assert_eq!(config.search_path(), DEFAULT_PATH);
        config.env.push(("PATH".into(), "/opt/bin".into()));
        assert_eq!(config.search_path(), "/opt/bin");
        config.env.clear();
        assert_eq!(config.search_path(), DEFAULT_PATH);
    }
}

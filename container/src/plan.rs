//! A container as a list of steps, made before anything is done: what is planned is what is executed,
//! explained and recorded. Planning is pure: the same configuration on the same host gives the same
//! plan, and no system call is made.

pub mod call;
pub mod lifecycle;
pub mod oci;
pub mod remedy;
pub mod step;

use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::cgroup::{self, Controllers, Limits, Version};
use crate::config::{self, Config, c_string};
use crate::host::Host;
use crate::mount::{overlay, special};
use crate::namespace::user::Mapping;
use crate::namespace::{Namespace, Namespaces};
use call::{Call, text};
use step::{Actor, Step};

/// Where the container is put together: a directory that every host has and that no container takes
/// from its host, so that nothing has to be made or removed.
pub const SCAFFOLD: &str = "/proc";

/// The capabilities that root in a container keeps: over its own files, users and ports, not over the
/// host. (Docker's default set without `CAP_MKNOD`: no cgroup of ours keeps it from the host's disks.)
pub const KEPT_CAPABILITIES: u64 = {
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
    // SYS_CHROOT, AUDIT_WRITE, SETFCAP.
    let numbers = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31];
    let (mut set, mut index) = (0u64, 0);
    while index < numbers.len() {
        set |= 1 << numbers[index];
        index += 1;
    }
    set
};

/// Everything that is going to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The steps, in the order of the story; the runtime's after `clone3` and init's run side by side.
    pub steps: Vec<Step>,
    /// Where the program may be, in the order of the search.
    pub candidates: Vec<CString>,
    /// The command's arguments, its name first.
    pub arguments: Vec<CString>,
    /// The command's environment, `NAME=value`.
    pub environment: Vec<CString>,
}

/// A configuration that this host cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No host could.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A limit that this host cannot hold.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// A limit is asked for, but nobody looked at the host's cgroups.
    #[error("`limits` are set, but the host was read without its cgroups; read them as well")]
    NoCgroups,
}

/// Plans the container of `config` on `host`.
///
/// # Errors
/// When the configuration is impossible, or asks for what this host cannot give.
pub fn plan(config: &Config, host: &Host) -> Result<Plan, Error> {
    config.validate()?;
    let mut steps = Vec::with_capacity(32);
    begin(&mut steps, config, host)?;
    prepare(&mut steps, config, host);
    steps.extend(overlay::root(host));
    steps.extend(special::steps(host));
    finish(&mut steps, config, host)?;
    Ok(Plan {
        steps,
        candidates: candidates(config)?,
        arguments: config
            .command
            .iter()
            .map(|it| c_string("command", it))
            .collect::<Result<_, _>>()?,
        environment: environment(config)?,
    })
}

/// The runtime's steps: from nothing to a child in namespaces of its own.
fn begin(steps: &mut Vec<Step>, config: &Config, host: &Host) -> Result<(), Error> {
    use Namespace::{Ipc, Mount, Network, Pid, User, Uts};
    let group = group(config, host)?;
    if let Some((limits, controllers)) = &group {
        steps.push(
            Step::runtime(
                "make a cgroup",
                "what its processes use is counted and limited together",
                vec![Call::CreateGroup {
                    name: None,
                    controllers: *controllers,
                }],
            )
            .asked_by("limits"),
        );
        steps.push(
            Step::runtime(
                "set its limits",
                "before anybody is in it",
                vec![Call::LimitGroup {
                    limits: Box::new(limits.clone()),
                }],
            )
            .asked_by("limits"),
        );
    }
    let into_group = group
        .as_ref()
        .is_some_and(|(_, controllers)| has(host, *controllers, Version::V2));
    let mut namespaces: Namespaces = [Mount, Pid, Uts, Ipc, Network].into_iter().collect();
    if !host.is_privileged {
        namespaces = namespaces.with(User);
    }
    steps.push(Step::runtime(
        "clone a child into namespaces of its own",
        "what it cannot name, it cannot touch",
        vec![Call::Clone3 {
            namespaces,
            into_group,
        }],
    ));
    if !host.is_privileged {
        let map = |file, id| Call::WriteProc {
            file,
            text: Mapping::root_is(id).to_string(),
        };
        steps.push(Step::runtime(
            "make you root of the container, and nobody outside it",
            "the kernel lets a user map themselves alone, and only without groups",
            vec![
                map("uid_map", host.user),
                Call::WriteProc {
                    file: "setgroups",
                    text: "deny".into(),
                },
                map("gid_map", host.group),
            ],
        ));
        steps.push(Step::runtime(
            "let init go on",
            "it has waited to become root",
            vec![Call::Release],
        ));
    }
    if group.is_some_and(|(_, controllers)| has(host, controllers, Version::V1)) {
        steps.push(
            Step::init(
                "enter the cgroup",
                "in cgroup v1 nobody is born in one; from here on the limits hold",
                vec![Call::EnterGroup],
            )
            .asked_by("limits"),
        );
    }
    Ok(())
}

/// The limits and the controllers that they take; none when nothing is limited.
fn group(config: &Config, host: &Host) -> Result<Option<(Limits, Controllers)>, Error> {
    if config.limits.is_empty() {
        return Ok(None);
    }
    let limits = config.limits.for_group();
    limits.validate()?;
    let controllers = limits.controllers();
    let layout = host.cgroups.as_ref().ok_or(Error::NoCgroups)?;
    for controller in controllers.iter() {
        layout.home(controller)?;
    }
    Ok(Some((limits, controllers)))
}

/// Whether one of `controllers` works in a hierarchy of this version.
fn has(host: &Host, controllers: Controllers, version: Version) -> bool {
    let layout = host.cgroups.as_ref();
    let home = |controller| layout.and_then(|layout| layout.home(controller).ok());
    controllers
        .iter()
        .filter_map(home)
        .any(|hierarchy| hierarchy.version == version)
}

/// Init's first steps: away from the runtime.
fn prepare(steps: &mut Vec<Step>, config: &Config, host: &Host) {
    steps.push(Step::init(
        "let go of the host's descriptors",
        "an open directory of the host is a way out",
        vec![Call::CloseDescriptors],
    ));
    steps.push(Step::init(
        "end when the runtime ends",
        "nobody would be left to look after the container",
        vec![Call::DieWithRuntime],
    ));
    if !host.is_privileged {
        steps.push(Step::init(
            "wait to become root",
            "before its users are mapped, nobody is anybody",
            vec![Call::AwaitRelease],
        ));
    }
    steps.push(Step::init(
        "hide what init still has of the host",
        "/proc/1/exe is the runtime's own program",
        vec![Call::NotDumpable, Call::NewKeyring],
    ));
    steps.push(
        Step::init(
            "name the host",
            "the UTS namespace starts as a copy",
            vec![Call::SetHostname {
                name: text(config.hostname.as_bytes()),
            }],
        )
        .asked_by("hostname"),
    );
    steps.push(Step::init(
        "make its cgroup look like the topmost",
        "the host's names for groups are none of its business",
        vec![Call::Unshare {
            namespaces: Namespaces::NONE.with(Namespace::Cgroup),
        }],
    ));
    steps.push(Step::init(
        "bring the loopback interface up",
        "127.0.0.1 starts out down",
        vec![Call::LoopbackUp],
    ));
}

/// Init's last steps: less privilege, and the command.
fn finish(steps: &mut Vec<Step>, config: &Config, host: &Host) -> Result<(), Error> {
    steps.push(Step::init(
        "keep only harmless capabilities",
        "root in a container is not root of the host",
        vec![
            Call::LimitCapabilities {
                keep: KEPT_CAPABILITIES & host.root_capabilities(),
            },
            Call::NoNewPrivileges,
        ],
    ));
    steps.push(
        Step::init(
            "go to the working directory",
            "the command starts there",
            vec![
                Call::RestoreUmask,
                Call::ChangeDirectory {
                    path: c_string("cwd", config.cwd.as_os_str())?,
                },
            ],
        )
        .asked_by("cwd"),
    );
    steps.push(
        Step::init(
            "start the command",
            "all this was for it",
            vec![Call::Execute],
        )
        .asked_by("command"),
    );
    Ok(())
}

/// Where the command may be (`man 3 execvp`): itself when it has a slash, otherwise in each directory of
/// its `PATH`.
fn candidates(config: &Config) -> Result<Vec<CString>, Error> {
    let program = config
        .command
        .first()
        .map(|it| it.as_os_str())
        .unwrap_or_default();
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string("command", program)?]);
    }
    let directories = config.search_path().as_bytes().split(|&byte| byte == b':');
    let candidate = |directory: &[u8]| {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(directory)).join(program);
        Ok(c_string("command", path.as_os_str())?)
    };
    directories.map(candidate).collect()
}

fn environment(config: &Config) -> Result<Vec<CString>, Error> {
    let entry = |(name, value): &(std::ffi::OsString, std::ffi::OsString)| {
        let mut entry = name.clone();
        entry.push("=");
        entry.push(value);
        Ok(c_string("env", &entry)?)
    };
    config.env.iter().map(entry).collect()
}

impl Plan {
    /// The steps of `actor`, in order. Reports count them by their place in this list.
    pub fn steps_of(&self, actor: Actor) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.actor == actor)
    }
}

/// The whole story, step by step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| step.fmt(f))
    }
}

#[cfg(test)]
mod tests;

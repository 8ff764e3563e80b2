//! `exec`: another process in a container that runs. It enters all namespaces of init by one descriptor
//! (`man 2 setns`), which means init and never another process, and gives up the same rights.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};

use super::bundle::{self, process};
use super::create::{Asked, listen, with_program};
use super::init::{self, Inheritance};
use super::state::{self, Directory, Status};
use super::{Error, notify};
use crate::cgroup::{Group, Layout, Version};
use crate::namespace::Namespace;
use crate::plan::call::{Call, text};
use crate::plan::oci::OciCall;
use crate::plan::step::Step;
use crate::spec::{NamespaceKind, Process, Spec};
use crate::start::reap;
use crate::sys::{self, Clone3, Cloned, Program};

/// What `exec` takes.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Where containers are remembered.
    pub root: PathBuf,
    /// The container's name.
    pub id: String,
    /// A file with the whole process, or none: the container's own with the changes below.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Where it starts.
    pub cwd: Option<String>,
    /// More environment.
    pub env: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Who it is, `UID[:GID]`.
    pub user: Option<String>,
    /// More groups.
    pub additional_gids: Vec<u32>,
    /// More capabilities.
    pub capabilities: Vec<String>,
    /// Whether set-user-ID programs give it nothing.
    pub no_new_privs: bool,
    /// A file that its PID is written to.
    pub pid_file: Option<PathBuf>,
    /// A socket that its terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// How many descriptors it inherits.
    pub preserve_fds: u32,
    /// Whether a paused container is no error; the process starts when it goes on.
    pub ignore_paused: bool,
}

/// Starts a process in a container. A terminal goes to `console` if there is no socket for it.
///
/// # Errors
/// When the container does not run, or the program cannot be executed.
pub fn exec(what: &Exec, console: Option<OwnedFd>) -> Result<Cloned, Error> {
    let directory = Directory::open(&what.root, &what.id)?;
    let record = directory.load()?;
    let target = record.init().ok_or(Error::State {
        command: "exec in",
        id: what.id.clone(),
        status: "stopped",
        remedy: "; it has ended",
    })?;
    let spec = Spec::read(&directory.path.join("config.json"))?;
    let process = the_process(what, &spec)?;
    let layout = Layout::detect()?;
    let group = Group::from_paths(&layout, &record.cgroup_paths, layout.controllers())?;
    if !what.ignore_paused && super::status::is_frozen(&group) {
        return Err(Error::State {
            command: "exec in",
            id: what.id.clone(),
            status: "paused",
            remedy: "; resume it, or give --ignore-paused",
        });
    }
    let console = match &what.console_socket {
        Some(path) => Some(
            std::os::unix::net::UnixStream::connect(path)
                .map(OwnedFd::from)
                .map_err(|source| Error::File {
                    path: path.clone(),
                    source,
                })?,
        ),
        None => console,
    };
    let plan = with_program(steps(&process, &spec)?, Some(&process));
    let (ours, theirs) = sys::socket_pair().map_err(Error::system("socketpair"))?;
    let program = Program::new(
        plan.candidates.clone(),
        plan.arguments.clone(),
        plan.environment.clone(),
    );
    let entrance = group.entrance()?;
    let kinds = spec.linux.namespaces.iter().map(|it| it.kind.kernel());
    // The child is born into the PID namespace; the rest it enters itself.
    let flags = kinds
        .filter(|kind| *kind != Namespace::Pid)
        .fold(0, |flags, kind| flags | kind.flag());
    let inheritance = Inheritance {
        plan: &plan,
        spec: &spec,
        program: &program,
        channel: theirs.as_fd(),
        listener: None,
        console: console.as_ref().map(AsFd::as_fd),
        preserved: what.preserve_fds,
        entrance: Some(&entrance),
        is_born_in_group: group.directory_fd().is_some(),
        groups: &[],
        is_unified: layout
            .hierarchies()
            .iter()
            .all(|it| it.version == Version::V2),
        state: &|pid, status| record.for_hooks(pid, status),
        detached: &[],
        joins: Some((target.as_fd(), CloneFlags::from_bits_retain(flags))),
    };
    let child = born_in(&target, spec.has(NamespaceKind::Pid), || {
        let clone = Clone3 {
            namespaces: 0,
            cgroup: group.directory_fd(),
            ..Clone3::default()
        };
        sys::clone3(&clone, || init::run(&inheritance)).map_err(Error::system("clone3"))
    })?;
    drop(theirs);
    let written = what.pid_file.as_ref().map_or(Ok(()), |path| {
        state::replace(path, child.pid.to_string().as_bytes())
    });
    let heard = written.and_then(|()| {
        nix::unistd::write(&ours, b"\n").map_err(Error::system("write"))?;
        let state = || record.for_hooks(record.pid, Status::Running.name());
        let answer = |asked| match asked {
            Asked::Hooks => Ok(()),
            Asked::Listener(descriptor) => {
                let pid = child.pid.as_raw();
                notify::pass_on(&spec, child.pidfd.as_fd(), descriptor, pid, &state())
            }
        };
        listen(&ours, &plan, answer).map(drop)
    });
    heard.inspect_err(|_| {
        let _ = sys::pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
        let _ = reap(&child);
    })?;
    Ok(child)
}

/// Calls `clone` with the caller's children being born in the PID namespace of `target`.
fn born_in<T>(
    target: &OwnedFd,
    joins: bool,
    clone: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    if !joins {
        return clone();
    }
    let own = fs::File::open("/proc/self/ns/pid").map_err(|source| Error::File {
        path: "/proc/self/ns/pid".into(),
        source,
    })?;
    setns(target, CloneFlags::CLONE_NEWPID).map_err(Error::system("setns"))?;
    let cloned = clone();
    setns(own, CloneFlags::CLONE_NEWPID).map_err(Error::system("setns"))?;
    cloned
}

fn steps(process: &Process, spec: &Spec) -> Result<Vec<Step>, Error> {
    let oci = |what: &'static str, why, calls: Vec<OciCall>| {
        Step::init(what, why, calls.into_iter().map(Call::Oci).collect())
    };
    let processors = |field: &str, list: &str| match list {
        "" => Ok(None),
        list => {
            bundle::process::processors(&format!("process.execCPUAffinity.{field}"), list).map(Some)
        }
    };
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    let mut steps = Vec::new();
    bundle::label::open(&mut steps, process)?;
    if let Some(initial) = processors("initial", &affinity.initial)? {
        let call = OciCall::Affinity {
            processors: Some(initial),
        };
        steps.push(
            oci(
                "go to its first processors",
                "entering the group is work as well",
                vec![call],
            )
            .asked_by("process.execCPUAffinity.initial"),
        );
    }
    steps.extend([
        Step::init(
            "enter the cgroup",
            "from here on the limits hold",
            vec![
                Call::EnterGroup,
                Call::Oci(OciCall::Affinity {
                    processors: processors("final", &affinity.last)?,
                }),
            ],
        ),
        Step::init(
            "let go of the host's descriptors",
            "an open directory of the host is a way out",
            vec![
                Call::CloseDescriptors,
                Call::NotDumpable,
                Call::DieWithRuntime,
            ],
        ),
        Step::init(
            "wait until it is written down",
            "callers look for its number",
            vec![Call::AwaitRelease],
        ),
        oci(
            "enter the container's namespaces",
            "it is to see what init sees",
            vec![
                OciCall::NewSession,
                OciCall::Join {
                    kind: Namespace::Mount,
                    path: text(""),
                },
            ],
        ),
    ]);
    if spec.has(NamespaceKind::User) {
        steps.push(Step::init(
            "become root of its user namespace",
            "the caller is nobody there",
            vec![Call::Oci(OciCall::BecomeRoot), Call::NotDumpable],
        ));
    }
    if process.terminal {
        let size = process.console_size.map(|size| (size.height, size.width));
        steps.push(oci(
            "give it a terminal",
            "programs for people need one",
            vec![OciCall::Terminal {
                owner: process.user.uid,
                size,
            }],
        ));
    }
    let alone = Spec {
        hooks: Default::default(),
        ..spec.clone()
    };
    process::steps(&mut steps, process, &alone, &bundle::Options::default())?;
    Ok(steps)
}

fn the_process(what: &Exec, spec: &Spec) -> Result<Process, Error> {
    if let Some(path) = &what.process {
        let bytes = fs::read(path).map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        let process = Process::parse(&bytes)?;
        process.validate("process")?;
        return Ok(process);
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args.clone_from(&what.args);
    process.terminal = what.tty;
    process.env.extend(what.env.iter().cloned());
    if let Some(cwd) = &what.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &what.user {
        let (uid, gid) = user
            .split_once(':')
            .map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid = uid
            .parse()
            .map_err(|_| Error::Usage("--user takes UID or UID:GID, in numbers"))?;
        if let Some(gid) = gid {
            process.user.gid = gid
                .parse()
                .map_err(|_| Error::Usage("--user takes UID or UID:GID, in numbers"))?;
        }
    }
    process.user.additional_gids.extend(&what.additional_gids);
    if !what.capabilities.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(what.capabilities.iter().cloned());
        }
    }
    process.no_new_privileges |= what.no_new_privs;
    process.validate("process")?;
    Ok(process)
}

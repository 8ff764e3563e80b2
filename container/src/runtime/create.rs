//! `create` and `run`: from a bundle to a running container. What is done is in the
//! `plan`; here is what a command finds out before, and what it hands back.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::checkpoint::Job;
use super::executor::{Birth, Runtime};
use super::plan::{self, Facts};
use super::state::{self, Directory, Record, Unlocked};
use super::{Error, NO_SOCKET, NO_TERMINAL, bundle, connect_console, foreground, id_maps, status};
use crate::Observer;
use crate::cgroup::{Controllers, Group, Layout, Limits, Stats, Wanted};
use crate::execute::take_steps;
use crate::plan::Plan;
use crate::process::status::ExitStatus;
use crate::process::streams::Streams;
use crate::spec::{NamespaceKind, Spec};
use crate::start::reap;
use crate::sys::Cloned;

/// What `create` and `run` take.
#[derive(Debug, Clone, Default)]
pub struct Create {
    /// Where containers are remembered.
    pub root: PathBuf,
    /// The new one's name.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its configuration, if it is not `config.json` of the bundle.
    pub config: Option<PathBuf>,
    /// A file that its PID is written to.
    pub pid_file: Option<PathBuf>,
    /// A socket that its terminal is sent to.
    pub console_socket: Option<PathBuf>,
    /// A socket that a descriptor of its init is sent to.
    pub pidfd_socket: Option<PathBuf>,
    /// Sockets that a service manager has opened for it (`man 3 sd_listen_fds`).
    pub listen_fds: u32,
    /// How many descriptors it inherits besides the standard streams.
    pub preserve_fds: u32,
    /// The root is moved instead of pivoted.
    pub no_pivot: bool,
    /// The caller's session keyring stays.
    pub no_new_keyring: bool,
    /// Its cgroup is a scope of systemd's.
    pub systemd: bool,
}

/// A container that was made by this process.
#[derive(Debug)]
pub struct Made {
    /// Its init.
    pub init: Cloned,
    /// Its directory, locked.
    pub directory: Directory,
    /// What is remembered of it.
    pub record: Record,
    /// Its configuration.
    pub spec: Box<Spec>,
}

/// Makes a container whose init waits for [`start`](super::start::start()).
///
/// # Errors
/// What went wrong, at which step; nothing is left then.
pub fn create(what: &Create, observer: &mut dyn Observer) -> Result<Made, Error> {
    Prepared::new(what, true)?.make(what, None, Streams::default(), None, observer)
}

/// Makes a container and starts it. A terminal goes to `console` if there is no socket for it.
///
/// # Errors
/// As [`create`].
pub fn run(
    what: &Create,
    console: Option<OwnedFd>,
    observer: &mut dyn Observer,
) -> Result<Made, Error> {
    Prepared::new(what, false)?.make(what, console, Streams::default(), None, observer)
}

/// Makes a container, starts it, and stays with it until it has ended: signals are passed on, and so is the
/// caller's terminal if the container has one of its own and there is no socket for it. Gives what is left of
/// it, and how its program ended.
///
/// # Errors
/// As [`create`], or the kernel's.
pub fn run_attached(
    what: &Create,
    observer: &mut dyn Observer,
) -> Result<(Running, ExitStatus), Error> {
    Prepared::new(what, false)?.attached(what, None, observer)
}

/// Makes a container and starts it, and leaves it to itself: it reads nothing and writes to `log`.
///
/// # Errors
/// As [`create`], or when the log cannot be made.
pub fn run_detached(what: &Create, log: &Path, observer: &mut dyn Observer) -> Result<Made, Error> {
    let file = |path: &Path, source| Error::File {
        path: path.into(),
        source,
    };
    let nothing = fs::File::open("/dev/null").map_err(|error| file("/dev/null".as_ref(), error))?;
    let log = fs::File::create(log).map_err(|error| file(log, error))?;
    let streams = Streams {
        input: Some(nothing.as_fd()),
        output: Some(log.as_fd()),
        error: Some(log.as_fd()),
    };
    Prepared::new(what, false)?.make(what, None, streams, None, observer)
}

/// What [`create`] would do on this host, or without `waits_for_start` [`run`].
///
/// # Errors
/// A configuration that is wrong, or that this host cannot do.
pub fn dry_run(what: &Create, waits_for_start: bool) -> Result<Plan, Error> {
    Ok(Prepared::new(what, waits_for_start)?.plan)
}

/// Tells of capabilities that the program will not have: that is no error, in any runtime.
pub(super) fn warn_of_capabilities<'a>(names: impl IntoIterator<Item = &'a String>) {
    let is_unknown = |name: &&String| crate::spec::capability_number(name).is_none();
    let unknown: BTreeSet<_> = names.into_iter().filter(is_unknown).collect();
    if !unknown.is_empty() {
        let unknown = Vec::from_iter(unknown.into_iter().map(String::as_str)).join(" ");
        log::warn!("ignoring unknown or unavailable capabilities: [{unknown}]");
    }
}

/// The same of those in the sets of a configuration, and of ambient ones that cannot be.
fn warn_of_sets(process: &crate::spec::Process) {
    let Some(sets) = &process.capabilities else {
        return;
    };
    let kinds = [
        &sets.bounding,
        &sets.effective,
        &sets.inheritable,
        &sets.permitted,
        &sets.ambient,
    ];
    warn_of_capabilities(kinds.into_iter().flatten());
    for name in &sets.ambient {
        if !sets.inheritable.contains(name) || !sets.permitted.contains(name) {
            log::warn!(
                "can't raise ambient capability {name}: it is not both permitted and inheritable"
            );
        }
    }
}

/// Tells that mounts will not be labelled, which keeps nobody from anything.
fn warn_of_label(spec: &Spec) {
    let label = &spec.linux.mount_label;
    if !label.is_empty() && super::bundle::label::context(label).is_none() {
        log::warn!(
            "ignoring `linux.mountLabel` {label:?}: SELinux is not enabled in this kernel; boot with selinux=1, or remove it"
        );
    }
}

/// All that is known before anything is done.
pub(super) struct Prepared {
    pub(super) bytes: Vec<u8>,
    pub(super) spec: Box<Spec>,
    bundle: PathBuf,
    rootfs: PathBuf,
    layout: Layout,
    pub(super) plan: Plan,
}

impl Prepared {
    fn new(what: &Create, waits_for_start: bool) -> Result<Self, Error> {
        Self::planned(what, waits_for_start, plan::create)
    }

    /// With another plan.
    pub(super) fn planned(
        what: &Create,
        waits_for_start: bool,
        plan: impl FnOnce(&Facts<'_>) -> Result<Plan, Error>,
    ) -> Result<Self, Error> {
        state::check_id(&what.id)?;
        let absolute = |what: &str, path: &Path| {
            fs::canonicalize(path).map_err(|source| Error::At {
                what: format!("find {what}"),
                path: path.into(),
                source,
            })
        };
        let bundle = absolute("the bundle (`--bundle`)", &what.bundle)?;
        let config = what
            .config
            .clone()
            .unwrap_or_else(|| bundle.join("config.json"));
        let bytes = crate::spec::read(&config)?;
        let mut spec = Box::new(Spec::parse(&bytes)?);
        spec.validate()?;
        spec.count_zero_pids();
        id_maps::complete(&mut spec);
        warn_of_label(&spec);
        if let Some(process) = &mut spec.process {
            warn_of_sets(process);
            if what.listen_fds > 0 {
                let sockets = format!("LISTEN_FDS={}", what.listen_fds);
                process.env.extend([sockets, "LISTEN_PID=1".to_owned()]);
            }
        }
        let rootfs = absolute("the root (`root.path`)", &bundle::root(&spec, &bundle))?;
        bundle::limits::warn(&spec.linux.resources);
        let limits: Limits = bundle::limits::limits(&spec.linux.resources)?;
        bundle::limit_fields::check_start(&limits)?;
        let layout = Layout::detect()?;
        let plan = plan(&Facts {
            what,
            spec: &spec,
            bundle: &bundle,
            directory: &what.root.join(&what.id),
            layout: &layout,
            limits: &limits,
            waits_for_start,
            is_root: !bundle::is_new(&spec, NamespaceKind::User)
                || nix::unistd::geteuid().is_root(),
        })?;
        Ok(Self {
            bytes,
            spec,
            bundle,
            rootfs,
            layout,
            plan,
        })
    }

    fn has_terminal(&self) -> bool {
        (self.spec.process.as_ref()).is_some_and(|it| it.terminal)
    }

    /// Stays with what was made until it has ended.
    pub(super) fn attached(
        self,
        what: &Create,
        job: Option<Job<'_>>,
        observer: &mut dyn Observer,
    ) -> Result<(Running, ExitStatus), Error> {
        let sockets = match &what.console_socket {
            None if self.has_terminal() => Some(foreground::sockets()?),
            _ => None,
        };
        let (ours, theirs) = sockets.unzip();
        let made = self.make(what, theirs, Streams::default(), job, observer)?;
        let terminal = ours.map(|socket| foreground::receive(&socket));
        let terminal = terminal.transpose().map_err(Error::system("recvmsg"))?;
        let running = made.unlock()?;
        foreground::relay(terminal.as_ref(), running.pidfd(), running.pid())
            .map_err(Error::system("poll"))?;
        let ended = running.wait()?;
        Ok((running, ended))
    }

    pub(super) fn make(
        self,
        what: &Create,
        console: Option<OwnedFd>,
        streams: Streams<'_>,
        job: Option<Job<'_>>,
        observer: &mut dyn Observer,
    ) -> Result<Made, Error> {
        let console = self.console(what, console)?;
        // A terminal takes the place of all three.
        let pipes = match self.has_terminal() {
            true => Vec::new(),
            false => streams.pipes(),
        };
        let record = Record {
            oci_version: self.spec.oci_version.clone(),
            id: what.id.clone(),
            bundle: self.bundle,
            rootfs: self.rootfs,
            created: super::time::now(),
            owner: nix::unistd::getuid().as_raw(),
            pipes,
            annotations: self.spec.annotations.clone(),
            ..Record::default()
        };
        let mut runtime = Runtime {
            spec: Some(&self.spec),
            config: &self.bytes,
            birth: Some(Birth {
                preserved: what.preserve_fds.saturating_add(what.listen_fds),
                console: console.as_ref().map(AsFd::as_fd),
                streams,
            }),
            record,
            layout: Some(&self.layout),
            job,
            ..Runtime::new(&self.plan, observer)
        };
        let taken = take_steps(&mut runtime, &self.plan);
        let left = (runtime.child.take(), runtime.directory.take());
        match (taken, left) {
            (Ok(()), (Some(init), Some(directory))) => {
                let record = std::mem::take(&mut runtime.record);
                drop(runtime);
                Ok(Made {
                    init,
                    directory,
                    record,
                    spec: self.spec,
                })
            }
            (taken, (init, directory)) => {
                runtime.child = init;
                runtime.abandon_child();
                if let Some(directory) = directory {
                    // What cannot be undone matters less than the failure, and `delete` removes it.
                    let _ = remove(directory, runtime.record, runtime.spec, runtime.group);
                }
                Err(taken.err().unwrap_or(Error::NotRunning))
            }
        }
    }

    /// Where the terminal goes, if there is to be one.
    fn console(&self, what: &Create, given: Option<OwnedFd>) -> Result<Option<OwnedFd>, Error> {
        let Some(process) = &self.spec.process else {
            return Ok(given);
        };
        match (&what.console_socket, given) {
            (Some(_), _) if !process.terminal => Err(Error::Usage(NO_TERMINAL)),
            (Some(path), _) => connect_console(path).map(Some),
            (None, None) if process.terminal => Err(Error::Usage(NO_SOCKET)),
            (None, given) => Ok(given),
        }
    }
}

/// Takes the steps of `delete` for a container that has no init: it was not made after all, or has ended.
fn remove(
    directory: Directory,
    record: Record,
    spec: Option<&Spec>,
    group: Option<Group>,
) -> Result<(), Error> {
    let plan = plan::delete(spec, &record, &directory.path, None);
    let mut unheard = ();
    let mut runtime = Runtime {
        spec,
        record,
        group,
        directory: Some(directory),
        ..Runtime::new(&plan, &mut unheard)
    };
    take_steps(&mut runtime, &plan)
}

/// The cgroup of a container whose maker was killed before it could write anything down, wherever that
/// had got: what is there of it is taken over, in each hierarchy.
pub(super) fn unfinished_group(spec: &Spec, id: &str) -> Result<Group, Error> {
    let layout = Layout::detect()?;
    let path = plan::group_path(spec, id);
    let wanted = Wanted {
        all: layout.controllers(),
        needed: Controllers::NONE,
    };
    let group = Group::create(&layout, path, wanted)?;
    Ok(group.with_named(&layout, path))
}

/// Waits until init has ended.
///
/// # Errors
/// The kernel's.
pub fn wait(init: &Cloned) -> Result<ExitStatus, Error> {
    Ok(reap(init)?)
}

/// A container that runs, while others may work on it.
#[derive(Debug)]
pub struct Running {
    init: Cloned,
    directory: Unlocked,
    record: Record,
    spec: Box<Spec>,
}

impl Made {
    /// Lets other commands work on it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unlock(self) -> Result<Running, Error> {
        Ok(Running {
            init: self.init,
            directory: self.directory.unlock()?,
            record: self.record,
            spec: self.spec,
        })
    }
}

impl Running {
    /// The number of its init.
    pub fn pid(&self) -> nix::unistd::Pid {
        self.init.pid
    }

    /// A descriptor that becomes readable when its init has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.pidfd.as_fd()
    }

    /// Waits until its init has ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self) -> Result<ExitStatus, Error> {
        wait(&self.init)
    }

    /// What it has used.
    ///
    /// # Errors
    /// A cgroup that cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(status::group(&self.record)?.stats()?)
    }

    /// Removes what is left of it when it has ended.
    ///
    /// # Errors
    /// When something cannot be removed; that somebody else did is no error.
    pub fn remove(self) -> Result<(), Error> {
        match self.directory.lock()? {
            Some(directory) => remove(directory, self.record, Some(&self.spec), None),
            None => Ok(()),
        }
    }
}

//! `restore`: files become a container that runs.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::dump::external_names;
use super::rpc::{self, Kind, option, pair};
use super::wire::Message;
use super::{Error, Job, Restore, Workplace, criu, file, mounts, options, streams};
use crate::Observer;
use crate::cgroup::{Group, Layout};
use crate::plan::Plan;
use crate::process::status::ExitStatus;
use crate::runtime::create::{Made, Prepared, Running};
use crate::runtime::{self, plan};
use crate::spec::{NamespaceKind, NamespaceSpec, Spec};

fn prepared(what: &Restore) -> Result<Prepared, runtime::Error> {
    let mut prepared = Prepared::planned(&what.create, false, |facts| {
        plan::restore(facts, &what.images.path)
    })?;
    // criu gives it clocks of its own, and who enters it is to have the same (`man 7 time_namespaces`).
    let kind = NamespaceKind::Time;
    if !prepared.spec.has(kind) && Path::new("/proc/self/ns/time").exists() {
        let path = String::new();
        let namespaces = &mut prepared.spec.linux.namespaces;
        namespaces.push(NamespaceSpec { kind, path });
        if let Ok(bytes) = serde_json::to_vec(&prepared.spec) {
            prepared.bytes = bytes;
        }
    }
    Ok(prepared)
}

/// Restores a container, which goes on where it was.
///
/// # Errors
/// [`Error`], or as [`create`](runtime::create::create()); nothing is left then.
pub fn restore(what: &Restore, observer: &mut dyn Observer) -> Result<Made, runtime::Error> {
    prepared(what)?.make(
        &what.create,
        None,
        Default::default(),
        Some(Job::Restore(what)),
        observer,
    )
}

/// The same, and stays with it until it has ended, as [`run_attached`](runtime::create::run_attached).
///
/// # Errors
/// As [`restore`].
pub fn restore_attached(
    what: &Restore,
    observer: &mut dyn Observer,
) -> Result<(Running, ExitStatus), runtime::Error> {
    prepared(what)?.attached(&what.create, Some(Job::Restore(what)), observer)
}

/// What [`restore`] would do.
///
/// # Errors
/// As [`restore`].
pub fn dry_restore(what: &Restore) -> Result<Plan, runtime::Error> {
    Ok(prepared(what)?.plan)
}

const LOG: &str = "restore.log";

/// Where a container that is restored comes to be.
pub struct Site<'a> {
    /// Its configuration.
    pub spec: &'a Spec,
    /// Its bundle.
    pub bundle: &'a Path,
    /// Its directory.
    pub directory: &'a Path,
    /// The host's cgroups.
    pub layout: &'a Layout,
    /// Its own.
    pub group: &'a Group,
}

/// Has criu restore the processes of a container.
///
/// # Errors
/// As [`restore`], or that of `listener`.
#[cold]
pub fn revive(
    what: &Restore,
    site: &Site<'_>,
    listener: &mut criu::Listener<'_>,
) -> Result<(), runtime::Error> {
    let (images, spec) = (&what.images, site.spec);
    let streams = streams::kept(&images.path)?;
    let version = criu::check(&images.program)?;
    criu::check_features(&images.program, [false, images.lazy_pages])?;
    let mut request = Message::default()
        .flag(option::EVASIVE_DEVICES, true)
        // A child of ours, and not criu's.
        .flag(option::RST_SIBLING, true)
        .bytes(option::ROOT, site.directory.as_os_str().as_bytes());
    let labels = [
        ("--lsm-profile", option::LSM_PROFILE, &what.lsm_profile),
        (
            "--lsm-mount-context",
            option::LSM_MOUNT_CONTEXT,
            &what.lsm_mount_context,
        ),
    ];
    for (name, field, value) in labels {
        if let Some(value) = value {
            criu::needs(version, name, [3, 16, 0])?;
            request = request.bytes(field, value.as_bytes());
        }
    }
    for (number, name) in streams::inherited(&streams) {
        request = request.message(option::INHERIT_FD, &inherited(name, number));
    }
    let mut namespaces = Vec::new();
    for (index, namespace) in spec.linux.namespaces.iter().enumerate() {
        let path = Path::new(&namespace.path);
        match namespace.kind {
            _ if namespace.path.is_empty() => {}
            NamespaceKind::Network | NamespaceKind::Pid => {
                let opened = File::open(path).map_err(|error| file(path, error))?;
                let (_, key) = external_names(namespace.kind);
                request = request.message(option::INHERIT_FD, &inherited(key, opened.as_raw_fd()));
                namespaces.push(opened);
            }
            kind => {
                let kind = joined_name(kind).ok_or(Error::Namespace {
                    index,
                    kind: "cgroup",
                })?;
                let namespace = pair(kind.as_bytes(), path.as_os_str().as_bytes());
                request = request.message(option::JOIN_NS, &namespace);
            }
        }
    }
    let external = mounts::external(spec, site.bundle, site.layout, site.group);
    for (name, source) in mounts::sources(spec, &external) {
        let mount = pair(name.as_os_str().as_bytes(), source.as_os_str().as_bytes());
        request = request.message(option::EXT_MNT, &mount);
    }
    let namespaces: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
    let (worker, place) = start(what, site, &namespaces)?;
    request = request.and(&options(images, &place, spec, LOG));
    // Whoever it restores is born where it is.
    site.group.add(worker.pid())?;
    for root in group_roots(worker.pid())? {
        request = request.message(option::CG_ROOT, &root);
    }
    let kind = Kind::Restore;
    let request = rpc::request_with(kind, &request);
    worker.ask(kind, &request, &place.log, listener).map(drop)
}

/// Starts criu from a thread that has mounts of its own, which are gone when criu is. It works in directories
/// that are opened there: it mounts things in them.
fn start(
    what: &Restore,
    site: &Site<'_>,
    namespaces: &[BorrowedFd<'_>],
) -> Result<(criu::Worker, Workplace), runtime::Error> {
    let started = thread::scope(|scope| {
        let elsewhere = scope.spawn(|| {
            mounts::prepare(site.spec, site.bundle, site.directory)?;
            let place = Workplace::open(&what.images, LOG)?;
            let worker = criu::Worker::start(&what.images.program, namespaces)?;
            Ok((worker, place))
        });
        elsewhere.join()
    });
    started.unwrap_or(Err(runtime::Error::System {
        call: "clone",
        errno: Errno::ECHILD,
    }))
}

fn inherited(key: &str, fd: i32) -> Message {
    Message::default()
        .bytes(1, key.as_bytes())
        .number(2, fd.into())
}

/// What criu calls a namespace that processes are put into.
const fn joined_name(kind: NamespaceKind) -> Option<&'static str> {
    match kind {
        NamespaceKind::Ipc => Some("ipc"),
        NamespaceKind::Uts => Some("uts"),
        NamespaceKind::User => Some("user"),
        NamespaceKind::Mount => Some("mnt"),
        NamespaceKind::Time => Some("time"),
        _ => None,
    }
}

/// Where the groups of a process are in each hierarchy (`man 7 cgroups`, `/proc/PID/cgroup`).
fn group_roots(pid: i32) -> Result<Vec<Message>, runtime::Error> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&path).map_err(|error| file(path.as_ref(), error))?;
    let mut roots = Vec::new();
    for line in text.lines() {
        let mut parts: VecDeque<_> = line.splitn(3, ':').collect();
        if let (Some(path), Some(controllers)) = (parts.pop_back(), parts.pop_back()) {
            let root = |it: &str| pair(it.as_bytes(), path.as_bytes());
            roots.extend(controllers.split(',').map(root));
        }
    }
    Ok(roots)
}

/// Sends the other end of the container's terminal, which criu has kept, to whoever is to have it.
///
/// # Errors
/// [`Error::NoConsole`] when there is nobody.
pub fn send_terminal(
    console: Option<BorrowedFd<'_>>,
    terminal: Option<BorrowedFd<'_>>,
) -> Result<(), runtime::Error> {
    let console = console.ok_or(Error::NoConsole)?;
    let descriptors: Vec<_> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let name = [IoSlice::new(b"/dev/ptmx")];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(console.as_raw_fd(), &name, &rights, flags, None);
    sent.map(drop).map_err(runtime::Error::system("sendmsg"))
}

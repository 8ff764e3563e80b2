//! `checkpoint`: a container that runs becomes files.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::rpc::{self, Answer, Kind, option, pair};
use super::wire::Message;
use super::{
    Checkpoint, Error, Job, Workplace, criu, file, make_directory, mounts, options, streams,
};
use crate::Observer;
use crate::cgroup::{Group, Layout};
use crate::execute::take_steps;
use crate::plan::Plan;
use crate::runtime::executor::Runtime;
use crate::runtime::state::{Directory, Record, Status};
use crate::runtime::status::{group, status};
use crate::runtime::{self, own_descriptor, plan};
use crate::spec::{NamespaceKind, Spec};

/// What [`checkpoint`] knows before it does anything.
struct Dumped {
    directory: Directory,
    record: Record,
    spec: Spec,
    group: Option<Group>,
    init: Option<OwnedFd>,
    plan: Plan,
}

impl Dumped {
    fn open(what: &Checkpoint) -> Result<Self, runtime::Error> {
        let directory = Directory::open(&what.root, &what.id)?;
        let record = directory.load()?;
        match status(&directory.path, &record) {
            Status::Running | Status::Paused => {}
            other => return Err(Error::State(other.name()).into()),
        }
        let spec = Spec::read(&directory.path.join("config.json"))?;
        let group = match record.cgroup_paths.is_empty() {
            true => None,
            false => Some(group(&record)?),
        };
        Ok(Self {
            plan: plan::checkpoint(what, &spec, &record, &directory.path),
            init: record.init(),
            directory,
            record,
            spec,
            group,
        })
    }
}

/// Dumps a container, and removes what is left of it unless it is to go on.
///
/// # Errors
/// [`Error`] when it does not run, or criu cannot do it: then it goes on as if nothing had been.
pub fn checkpoint(what: &Checkpoint, observer: &mut dyn Observer) -> Result<(), runtime::Error> {
    let dumped = Dumped::open(what)?;
    let mut runtime = Runtime {
        spec: Some(&dumped.spec),
        record: dumped.record,
        directory: Some(dumped.directory),
        group: dumped.group,
        target: dumped.init,
        job: Some(Job::Dump(what)),
        ..Runtime::new(&dumped.plan, observer)
    };
    take_steps(&mut runtime, &dumped.plan)
}

/// What [`checkpoint`] would do.
///
/// # Errors
/// When the container does not run.
pub fn dry_checkpoint(what: &Checkpoint) -> Result<Plan, runtime::Error> {
    Ok(Dumped::open(what)?.plan)
}

const LOG: &str = "dump.log";

/// Has criu dump the processes of a container. `waits` is told when all that is left is memory that somebody is
/// to ask for.
///
/// # Errors
/// As [`checkpoint`], or that of `waits`.
#[cold]
pub fn dump(
    what: &Checkpoint,
    spec: &Spec,
    record: &Record,
    group: Option<&Group>,
    waits: &mut dyn FnMut() -> Result<(), runtime::Error>,
) -> Result<(), runtime::Error> {
    let images = &what.images;
    make_directory(&images.path)?;
    if let Some(parent) = &what.parent {
        check_parent(&images.path, parent)?;
    }
    let mut status = what.status_fd.map(status_descriptor).transpose()?;
    criu::check(&images.program)?;
    criu::check_features(&images.program, [what.is_partial, images.lazy_pages])?;
    let place = Workplace::open(images, LOG)?;
    let mut request = options(images, &place, spec, LOG)
        .number(option::PID, record.pid.into())
        .flag(option::LEAVE_RUNNING, what.leaves_running)
        .bytes(option::ROOT, record.rootfs.as_os_str().as_bytes())
        .flag(option::LINK_REMAP, what.link_remap)
        .flag(option::TCP_SKIP_IN_FLIGHT, what.tcp_skip_in_flight);
    if let Some(parent) = &what.parent {
        request = request
            .bytes(option::PARENT_IMG, parent.as_os_str().as_bytes())
            .flag(option::TRACK_MEM, true);
    }
    if let Some(server) = &what.page_server {
        let server = Message::default()
            .bytes(1, server.address.as_bytes())
            .number(2, server.port.into());
        request = request.message(option::PS, &server);
    }
    if let Some(freezer) = group.and_then(|group| group.freezer().ok()) {
        request = request.bytes(option::FREEZE_CGROUP, freezer.path().as_os_str().as_bytes());
    }
    for external in external_namespaces(spec)? {
        request = request.bytes(option::EXTERNAL, external.as_bytes());
    }
    let kind = if what.is_partial {
        Kind::PreDump
    } else {
        let layout = Layout::detect()?;
        let none = Group::none();
        let external = mounts::external(spec, &record.bundle, &layout, group.unwrap_or(&none));
        for (place, name) in mounts::places(record.pid, spec, &external)? {
            let mount = pair(place.as_os_str().as_bytes(), name.as_os_str().as_bytes());
            request = request.message(option::EXT_MNT, &mount);
        }
        let streams = streams::of(record);
        for name in streams.iter().filter(|it| it.starts_with("file[")) {
            request = request.bytes(option::EXTERNAL, name.as_bytes());
        }
        streams::keep(&images.path, &streams)?;
        Kind::Dump
    };
    let mut listener = |answer: &Answer, _| {
        if answer.script != "status-ready" {
            return Ok(());
        }
        waits()?;
        if let Some(mut status) = status.take()
            && let Err(error) = status.write_all(&[0])
        {
            log::warn!("--status-fd: {}", crate::spec::named(&error));
        }
        Ok(())
    };
    let worker = criu::Worker::start(&images.program, &[])?;
    let request = rpc::request_with(kind, &request);
    worker
        .ask(kind, &request, &place.log, &mut listener)
        .map(drop)
}

/// An earlier checkpoint is found from this one, wherever both are moved to.
fn check_parent(images: &Path, parent: &Path) -> Result<(), Error> {
    let failed = |why| Error::Option {
        option: "--parent-path",
        value: parent.to_string_lossy().into_owned(),
        why,
    };
    if parent.is_absolute() {
        return Err(failed(
            "--parent-path must be relative; it counts from --image-path",
        ));
    }
    if !images.join(parent).is_dir() {
        let why = "invalid --parent-path: there is no such directory; it counts from --image-path";
        return Err(failed(why));
    }
    Ok(())
}

/// Takes the descriptor that is to hear when memory can be fetched.
fn status_descriptor(number: i32) -> Result<fs::File, Error> {
    let failed = |why| Error::Option {
        option: "--status-fd",
        value: number.to_string(),
        why,
    };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
    let info = info.map_err(|_| failed("no such descriptor is open; open it for the runtime"))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|it| i32::from_str_radix(it.trim(), 8).ok());
    let flags = flags.unwrap_or_default();
    // Our own are closed in every other program, and the first three are others' as well.
    if number < 3 || flags & libc::O_CLOEXEC != 0 {
        return Err(failed("it is not the caller's own; open another above 2"));
    }
    if flags & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(failed("it is not writable; open it for writing"));
    }
    Ok(own_descriptor(number).into())
}

/// Namespaces that the container was put into: whoever restores it has to have them again.
fn external_namespaces(spec: &Spec) -> Result<Vec<String>, runtime::Error> {
    let mut all = Vec::new();
    for kind in [NamespaceKind::Network, NamespaceKind::Pid] {
        if let Some(namespace) = spec.namespace(kind).filter(|it| !it.path.is_empty()) {
            let path = Path::new(&namespace.path);
            let inode = fs::metadata(path).map_err(|error| file(path, error))?.ino();
            let (short, key) = external_names(kind);
            all.push(format!("{short}[{inode}]:{key}"));
        }
    }
    Ok(all)
}

/// What criu calls a kind of namespace, and what runc calls one from outside.
pub(super) const fn external_names(kind: NamespaceKind) -> (&'static str, &'static str) {
    match kind {
        NamespaceKind::Pid => ("pid", "extRootPidNS"),
        _ => ("net", "extRootNetNS"),
    }
}

//! A bundle's first process, and any that joins it by `exec`: takes its steps of the plan, and then
//! *becomes* the program, so that the program is PID 1 (`runtime.md`, "create" and "start").
//!
//! The command that clones it has one thread, so the copy may allocate. Its parts: the root that it enters
//! (`rootfs`), its terminal, what it may do (`rights`), and the program that it becomes.

mod program;
mod rights;
mod rootfs;
mod terminal;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, chroot, fchdir, pivot_root, setresgid, setresuid, setsid};

pub use rootfs::group_name;

use super::{hooks, own_binary, root};
use crate::cgroup::Entrance;
use crate::execute::Kernel;
use crate::plan::Plan;
use crate::plan::call::Call;
use crate::plan::oci::{Detached, HookKind, MountIn, OciCall};
use crate::plan::step::{Actor, Step};
use crate::process::report::Report;
use crate::process::steps::Init as _;
use crate::process::streams::Streams;
use crate::process::{plain, steps};
use crate::spec::Spec;
use crate::sys::{self, Clone3, Program, SchedulerAttributes, SpawnError};
use rights::{become_user, set_affinity, write_file};

/// What init has from the runtime.
pub struct Inheritance<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The container.
    pub spec: &'a Spec,
    /// The program.
    pub program: &'a Program,
    /// Where to report, and where the runtime says to go on.
    pub channel: BorrowedFd<'a>,
    /// Where `start` will call.
    pub listener: Option<BorrowedFd<'a>>,
    /// Where the terminal goes.
    pub console: Option<BorrowedFd<'a>>,
    /// What it reads and writes instead of the runtime's streams.
    pub streams: Streams<'a>,
    /// How many descriptors past the standard streams stay open.
    pub preserved: u32,
    /// The door to the cgroup, to what of it init is not born in.
    pub entrance: Option<&'a Entrance>,
    /// The directories of the cgroup, each with its name in the container.
    pub groups: &'a [(String, PathBuf)],
    /// Where the only hierarchy is mounted, if that is v2.
    pub unified: Option<&'a Path>,
    /// The container's state for hooks, as JSON with a place for its PID.
    pub state: &'a dyn Fn(i32, &str) -> Vec<u8>,
    /// Mounts that the runtime has taken from the host's.
    pub detached: &'a [Option<OwnedFd>],
    /// The container's init, whose namespaces are entered (`exec`).
    pub joins: Option<BorrowedFd<'a>>,
    /// Whether every step is reported, or only a failure.
    pub tells_steps: bool,
}

/// What the runtime says to a process that waits: to go on, or to tell every step from there on as well.
pub const GO_ON: u8 = b'\n';
/// See [`GO_ON`].
pub const GO_ON_AND_TELL: u8 = b'+';

/// Takes init's steps; returns only when one has failed, with the exit status.
pub fn run(inheritance: &Inheritance<'_>) -> i32 {
    if let Err(errno) = own_binary::enter_view().and_then(|()| inheritance.streams.take()) {
        let (step, call) = (u16::MAX, 0);
        Report::Failed { step, call, errno }.send(inheritance.channel);
        return 1;
    }
    let mut init = Init {
        inheritance,
        root: None,
        start: None,
        terminal: None,
        label: None,
        clocks: None,
        covers: root::Covers::default(),
        parent: root::Parent::default(),
        root_path: None,
        environment: None,
        not_executed: None,
        tells_steps: inheritance.tells_steps,
        is_replaced: false,
        is_barred: false,
    };
    // A plan without a program has nothing to become.
    i32::from(!steps::take(&mut init, inheritance.plan, 0))
}

struct Init<'a> {
    inheritance: &'a Inheritance<'a>,
    /// The root mount, until it is entered.
    root: Option<OwnedFd>,
    /// Whoever starts the container.
    start: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// Where the program's label is written to.
    label: Option<OwnedFd>,
    /// Where offsets of its clocks are written to.
    clocks: Option<OwnedFd>,
    /// What hides other files.
    covers: root::Covers,
    /// The directory that the last node or link was made in.
    parent: root::Parent,
    root_path: Option<PathBuf>,
    /// The program's environment with what was found out inside.
    environment: Option<Vec<CString>>,
    not_executed: Option<SpawnError>,
    tells_steps: bool,
    is_replaced: bool,
    /// Whether root was kept out of the program's directory.
    is_barred: bool,
}

impl steps::Init for Init<'_> {
    fn is_replaced(&self) -> bool {
        self.is_replaced
    }

    fn listener(&self) -> BorrowedFd<'_> {
        let start = self.start.as_ref();
        start.map_or(self.inheritance.channel, AsFd::as_fd)
    }

    fn tells_steps(&self) -> bool {
        self.tells_steps
    }

    fn program(&self) -> &Program {
        self.inheritance.program
    }

    fn not_executed(&self) -> Option<SpawnError> {
        self.not_executed
    }
}

impl Init<'_> {
    fn root(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::EBADF)
    }
}

impl Kernel for Init<'_> {
    fn call(&mut self, call: &Call) -> Result<(), Errno> {
        match call {
            Call::EnterGroup => self.enter_group(),
            Call::AwaitRelease => await_byte(self.inheritance.channel).map(drop),
            Call::CloseDescriptors => self.close_descriptors(),
            Call::Umask { mask } => {
                umask(Mode::from_bits_truncate(*mask));
                Ok(())
            }
            Call::Oci(call) => self.oci(call),
            other => plain::call(other),
        }
    }
}

impl Init<'_> {
    fn oci(&mut self, call: &OciCall) -> Result<(), Errno> {
        // Whatever is mounted may lie on it.
        if !matches!(call, OciCall::MakeDevice { .. } | OciCall::Link { .. }) {
            self.parent = root::Parent::default();
        }
        match call {
            OciCall::Join { kind, path } => {
                let file = open(
                    path.as_c_str(),
                    OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )?;
                setns(file, CloneFlags::from_bits_retain(kind.flag()))
            }
            OciCall::JoinInit { namespaces } => {
                let init = self.inheritance.joins.ok_or(Errno::ESRCH)?;
                setns(init, CloneFlags::from_bits_retain(namespaces.flags()))
            }
            OciCall::BeReplaced => self.be_replaced(),
            OciCall::NewSession => setsid().map(drop),
            OciCall::BecomeRoot => {
                setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
                setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
            }
            OciCall::OpenRoot { path, propagation } => self.open_root(path, *propagation),
            OciCall::Mount(what) => {
                let detached = what.detached.as_ref();
                let taken = detached.and_then(|it| self.inheritance.detached.get(it.index));
                let own = match detached {
                    Some(it) if it.is_of_root => Some(self.take_of_root(what, it)?),
                    _ => None,
                };
                let tree = own.as_ref().or(taken.and_then(Option::as_ref));
                root::mount_in(self.root()?, what, tree.map(AsFd::as_fd))
            }
            OciCall::MountGroups {
                target,
                is_read_only,
            } => self.mount_groups(target, *is_read_only),
            OciCall::MakeDevice {
                path,
                mode,
                device,
                owner,
            } => {
                let root = self.root.as_ref().ok_or(Errno::EBADF)?;
                let (directory, name) = self.parent.of(root.as_fd(), path)?;
                root::make_device(directory, name, *mode, *device, *owner)
            }
            OciCall::BindDevice { path, source } => {
                let bind = MountIn {
                    source: Some(source.clone()),
                    flags: MsFlags::MS_BIND,
                    ..MountIn::at(path.clone())
                };
                root::mount_in(self.root()?, &bind, None)
            }
            OciCall::Link { path, target } => {
                let root = self.root.as_ref().ok_or(Errno::EBADF)?;
                let (directory, name) = self.parent.of(root.as_fd(), path)?;
                root::link(directory, name, target)
            }
            OciCall::Mask { path } => {
                let root = self.root.as_ref().ok_or(Errno::EBADF)?;
                root::mask(root.as_fd(), path, &mut self.covers)
            }
            OciCall::ReadOnlyMount { path } => {
                let mounted = root::resolve(self.root()?, path, root::Make::Nothing)?;
                sys::set_mount_attributes(mounted.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)
            }
            OciCall::MakeReadOnly { path } => root::make_read_only(self.root()?, path),
            OciCall::MakeDirectories { path } => {
                root::resolve(self.root()?, path, root::Make::Directory).map(drop)
            }
            OciCall::Write { path, text } => write_file(path, text.to_bytes()),
            OciCall::AwaitHooks => {
                Report::AwaitsHooks.send(self.inheritance.channel);
                await_byte(self.inheritance.channel).map(drop)
            }
            OciCall::RunHooks { kind } => self.run_hooks(*kind),
            OciCall::PivotRoot => {
                // Onto itself: the old root lies on top of the new one and is taken off. Nothing of that
                // is to reach the host, and `.` is the new one, whose mounts stay as they were asked for.
                let old = open(c"/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
                fchdir(self.root()?)?;
                pivot_root(c".", c".")?;
                self.leave_host();
                sys::set_propagation(old.as_fd(), MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
                drop(old);
                umount2(c".", MntFlags::MNT_DETACH)?;
                chdir(c"/")
            }
            OciCall::MoveRoot => {
                self.hide_kernel_files()?;
                fchdir(self.root()?)?;
                mount(
                    Some(c"."),
                    c"/",
                    None::<&CStr>,
                    MsFlags::MS_MOVE,
                    None::<&CStr>,
                )?;
                self.leave_host();
                chroot(c".")?;
                chdir(c"/")
            }
            OciCall::Chroot => {
                fchdir(self.root()?)?;
                self.leave_host();
                chroot(c".")?;
                chdir(c"/")
            }
            // The root has just been entered, and is the current directory.
            OciCall::RootReadOnly => {
                sys::set_mount_attributes(AT_FDCWD, libc::MOUNT_ATTR_RDONLY, 0, false)
            }
            OciCall::RootPropagation { flags } => {
                mount(None::<&CStr>, c"/", None::<&CStr>, *flags, None::<&CStr>)
            }
            OciCall::Terminal {
                owner,
                size,
                is_relayed,
            } => self.take_terminal(*owner, *size, *is_relayed),
            OciCall::Rlimit {
                resource,
                soft,
                hard,
            } => sys::set_rlimit(0, *resource, *soft, *hard),
            OciCall::Bound { keep } => sys::drop_bounding(*keep),
            OciCall::BecomeUser { uid, gid, groups } => become_user(*uid, *gid, groups.as_deref()),
            OciCall::Capabilities {
                effective,
                permitted,
                inheritable,
                ambient,
            } => {
                // What this process does not have itself, it cannot give: that is no error.
                let mine = sys::effective_capabilities()?;
                let permitted = permitted & mine;
                sys::set_capability_sets(effective & permitted, permitted, inheritable & mine)?;
                sys::raise_ambient(ambient & permitted & inheritable)
            }
            OciCall::SetDomainname { name } => sys::set_domainname(name),
            OciCall::ChangeDirectory {
                path,
                may_be_barred,
            } => self.change_directory(path, *may_be_barred),
            OciCall::ChangeDirectoryAsUser { path } if self.is_barred => {
                self.change_directory(path, false)
            }
            OciCall::ChangeDirectoryAsUser { .. } => Ok(()),
            OciCall::Personality { domain } => nix::sys::personality::set(
                nix::sys::personality::Persona::from_bits_retain(*domain as i32),
            )
            .map(drop),
            OciCall::MemoryPolicy { mode, nodes } => sys::set_memory_policy(*mode, nodes),
            OciCall::Scheduler(it) => sys::set_scheduler(SchedulerAttributes {
                size: 0,
                policy: it.policy,
                flags: it.flags,
                nice: it.nice,
                priority: it.priority,
                runtime: it.runtime,
                deadline: it.deadline,
                period: it.period,
            }),
            OciCall::IoPriority { class, level } => sys::set_io_priority(*class, *level),
            OciCall::Seccomp { program, flags } => {
                let instruction =
                    |&(code, jt, jf, k): &(u16, u8, u8, u32)| libc::sock_filter { code, jt, jf, k };
                let program: Vec<_> = program.iter().map(instruction).collect();
                let listener = sys::load_filter(&program, *flags)?;
                match &listener {
                    None => Ok(()),
                    Some(listener) => self.pass_on(listener),
                }
            }
            OciCall::Affinity { processors } => set_affinity(processors.as_deref()),
            OciCall::OpenClocks => {
                let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                self.clocks = Some(open(c"/proc/self/timens_offsets", flags, Mode::empty())?);
                Ok(())
            }
            OciCall::SetClocks { offsets } => {
                let file = self.clocks.take().ok_or(Errno::EBADF)?;
                nix::unistd::write(&file, offsets.to_bytes()).map(drop)
            }
            OciCall::OpenLabel { path } => {
                let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                self.label = Some(open(path.as_c_str(), flags, Mode::empty())?);
                Ok(())
            }
            OciCall::Label { text } => {
                let file = self.label.take().ok_or(Errno::EBADF)?;
                nix::unistd::write(&file, text.to_bytes()).map(drop)
            }
            OciCall::FindHome { uid } => {
                self.find_home(*uid);
                Ok(())
            }
            OciCall::Announce => {
                Report::Started.send(steps::Init::listener(self));
                Ok(())
            }
            OciCall::AwaitStart => self.await_start(),
            OciCall::Execute => self.execute(),
        }
    }

    /// Has the runtime bear another child that takes the steps after this one. It is the first that is
    /// seen in the container, and who looks at it finds nothing of the host's behind its root, its
    /// directory and its descriptors.
    fn be_replaced(&mut self) -> Result<(), Errno> {
        let plan = self.inheritance.plan;
        let is_here = |step: &Step| step.calls.contains(&Call::Oci(OciCall::BeReplaced));
        let here = plan.steps_of(Actor::Init).position(is_here);
        let next = here.ok_or(Errno::EINVAL)? + 1;
        let sibling = Clone3 {
            is_sibling: true,
            ..Clone3::default()
        };
        let born = sys::clone3(&sibling, || i32::from(!steps::take(self, plan, next)))?;
        let pid = born.pid.as_raw();
        Report::Born { pid }.send(self.inheritance.channel);
        self.is_replaced = true;
        Ok(())
    }

    fn enter_group(&self) -> Result<(), Errno> {
        let entrance = self.inheritance.entrance;
        let entered = entrance.map_or(Ok(()), Entrance::enter);
        entered.map_err(|error| error.errno)
    }

    /// Closes what is neither a standard stream nor to be kept; what init itself needs closes when it
    /// becomes the program.
    fn close_descriptors(&self) -> Result<(), Errno> {
        let it = self.inheritance;
        let own = [Some(it.channel), it.listener, it.console, it.joins];
        let detached = it.detached.iter().flatten().map(AsFd::as_fd);
        let opened = [&self.label, &self.clocks]
            .into_iter()
            .flatten()
            .map(AsFd::as_fd);
        let own = own.into_iter().flatten().chain(detached).chain(opened);
        let mut keep: Vec<RawFd> = own.map(|fd| fd.as_raw_fd()).collect();
        keep.sort_unstable();
        let mut first = 3 + it.preserved;
        for kept in keep.into_iter().filter_map(|fd| u32::try_from(fd).ok()) {
            if kept > first {
                sys::close_range(first, kept - 1)?;
            }
            first = first.max(kept + 1);
        }
        sys::close_range(first, u32::MAX)
    }

    fn run_hooks(&mut self, kind: HookKind) -> Result<(), Errno> {
        let hooks = &self.inheritance.spec.hooks;
        let plan = self.inheritance.plan;
        let (name, list, status, environment) = match kind {
            HookKind::CreateContainer => {
                // The host's files are still there; the container's are at hand.
                fchdir(self.root()?)?;
                ("createContainer", &hooks.create_container, "creating", None)
            }
            HookKind::StartContainer => {
                let environment = self.environment.as_deref().unwrap_or(&plan.environment);
                (
                    "startContainer",
                    &hooks.start_container,
                    "created",
                    Some(environment),
                )
            }
            _ => return Err(Errno::ENOSYS),
        };
        let state = (self.inheritance.state)(std::process::id() as i32, status);
        hooks::run(name, list, &state, environment).map_err(|error| {
            let text = error.to_string();
            Report::Said { text }.send(self.listener());
            Errno::ECANCELED
        })
    }

    /// Takes what is mounted in the root by now, and has the runtime give it its owners.
    fn take_of_root(&self, what: &MountIn, detached: &Detached) -> Result<OwnedFd, Errno> {
        let source = what.source.as_deref().ok_or(Errno::EINVAL)?;
        let tree = sys::clone_tree(source, what.is_recursive())?;
        let (descriptor, mount) = (tree.as_raw_fd(), detached.index as u16);
        Report::Tree { descriptor, mount }.send(self.inheritance.channel);
        await_byte(self.inheritance.channel)?;
        Ok(tree)
    }

    /// Has the runtime, or who starts the container, fetch the listener, and waits until that is done.
    fn pass_on(&self, listener: &OwnedFd) -> Result<(), Errno> {
        let descriptor = listener.as_raw_fd();
        let whom = steps::Init::listener(self);
        Report::Listener { descriptor }.send(whom);
        await_byte(whom).map(drop)
    }
}

fn await_byte(channel: BorrowedFd<'_>) -> Result<u8, Errno> {
    let mut byte = [0];
    loop {
        match nix::unistd::read(channel, &mut byte) {
            Ok(1) => return Ok(byte[0]),
            Ok(_) => return Err(Errno::EPIPE),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

//! A bundle's first process, and any that joins it by `exec`: takes its steps of the plan, and then
//! *becomes* the program, so that the program is PID 1 (`runtime.md`, "create" and "start").
//!
//! The command that clones it has one thread, so the copy may allocate.

use std::ffi::{CStr, CString, OsStr};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::{Mode, fchmod, umask};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{
    AccessFlags, Gid, Uid, chdir, chroot, dup2_stderr, dup2_stdin, dup2_stdout, faccessat, fchdir,
    fchown, pivot_root, setgroups, setresgid, setresuid, setsid,
};

use super::{home, hooks, root};
use crate::cgroup::Entrance;
use crate::execute::Kernel;
use crate::plan::Plan;
use crate::plan::call::{Call, text};
use crate::plan::oci::{HookKind, MountIn, OciCall};
use crate::plan::step::{Actor, Step};
use crate::process::report::Report;
use crate::process::steps::Init as _;
use crate::process::streams::Streams;
use crate::process::{plain, steps};
use crate::spec::Spec;
use crate::sys::{self, Clone3, Program, SchedulerAttributes, SpawnError};

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
    /// The door to the cgroup.
    pub entrance: Option<&'a Entrance>,
    /// Whether init is born in the v2 part of it.
    pub is_born_in_group: bool,
    /// The directories of the cgroup, each with its name in the container.
    pub groups: &'a [(String, PathBuf)],
    /// Whether the only hierarchy is v2.
    pub is_unified: bool,
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
    if let Err(errno) = inheritance.streams.take() {
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
        empty: None,
        root_path: None,
        environment: None,
        not_executed: None,
        tells_steps: inheritance.tells_steps,
        is_replaced: false,
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
    /// The empty directory that masks others.
    empty: Option<OwnedFd>,
    root_path: Option<PathBuf>,
    /// The program's environment with what was found out inside.
    environment: Option<Vec<CString>>,
    not_executed: Option<SpawnError>,
    tells_steps: bool,
    is_replaced: bool,
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
                let detached = detached.and_then(|it| self.inheritance.detached.get(it.index));
                let tree = detached.and_then(|fd| fd.as_ref().map(AsFd::as_fd));
                root::mount_in(self.root()?, what, tree)
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
            } => root::make_device(self.root()?, path, *mode, *device, *owner),
            OciCall::BindDevice { path, source } => {
                let bind = MountIn {
                    source: Some(source.clone()),
                    flags: MsFlags::MS_BIND,
                    ..MountIn::at(path.clone())
                };
                root::mount_in(self.root()?, &bind, None)
            }
            OciCall::Link { path, target } => root::link(self.root()?, path, target),
            OciCall::Mask { path } => {
                let root = self.root.as_ref().ok_or(Errno::EBADF)?;
                root::mask(root.as_fd(), path, &mut self.empty)
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
                // Onto itself: the old root lies on top of the new one and is taken off.
                fchdir(self.root()?)?;
                pivot_root(c".", c".")?;
                self.leave_host();
                mount(
                    None::<&CStr>,
                    c".",
                    None::<&CStr>,
                    MsFlags::MS_SLAVE | MsFlags::MS_REC,
                    None::<&CStr>,
                )?;
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
            OciCall::RootReadOnly => {
                let here = open(c"/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
                sys::set_mount_attributes(here.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)
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
            OciCall::ChangeDirectory { path } => change_directory(path),
            OciCall::Personality { domain } => nix::sys::personality::set(
                nix::sys::personality::Persona::from_bits_retain(*domain as i32),
            )
            .map(drop),
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
                let mut environment = self.inheritance.plan.environment.clone();
                environment.retain(|entry| !entry.to_bytes().starts_with(b"HOME="));
                environment.push(text([b"HOME=", home::find(*uid).as_slice()].concat()));
                self.environment = Some(environment);
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
        let Some(entrance) = self.inheritance.entrance else {
            return Ok(());
        };
        let entered = if self.inheritance.is_born_in_group {
            entrance.enter_v1()
        } else {
            entrance.enter()
        };
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

    fn open_root(&mut self, path: &CStr, propagation: Option<MsFlags>) -> Result<(), Errno> {
        if let Some(propagation) = propagation {
            mount(
                None::<&CStr>,
                c"/",
                None::<&CStr>,
                propagation,
                None::<&CStr>,
            )?;
        }
        // `pivot_root` takes no root below a shared mount (`man 2 pivot_root`).
        if propagation.is_some_and(|it| it.contains(MsFlags::MS_SHARED)) {
            mount(
                None::<&CStr>,
                c"/",
                None::<&CStr>,
                MsFlags::MS_SLAVE | MsFlags::MS_REC,
                None::<&CStr>,
            )?;
        }
        mount(
            Some(path),
            path,
            None::<&CStr>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&CStr>,
        )?;
        mount(
            None::<&CStr>,
            path,
            None::<&CStr>,
            MsFlags::MS_PRIVATE,
            None::<&CStr>,
        )?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        self.root = Some(open(path, flags, Mode::empty())?);
        self.root_path = Some(PathBuf::from(OsStr::from_bytes(path.to_bytes())));
        Ok(())
    }

    /// Lets go of what the root was made with.
    fn leave_host(&mut self) {
        (self.root, self.empty) = (None, None);
        for taken in self.inheritance.detached.iter().flatten() {
            if let Ok(number) = u32::try_from(taken.as_raw_fd()) {
                let _ = sys::close_range(number, number);
            }
        }
    }

    /// Takes the host's /proc and /sys out of sight: a root that is moved leaves the mounts below it,
    /// and the kernel lets a process mount again what it can see.
    fn hide_kernel_files(&self) -> Result<(), Errno> {
        let root = self.root_path.as_ref().ok_or(Errno::EBADF)?;
        let table = crate::mount::table::read().map_err(|_| Errno::EIO)?;
        let is_kernels = |kind: &str| matches!(kind, "proc" | "sysfs");
        let found = table
            .iter()
            .filter(|it| is_kernels(&it.kind) && !it.point.starts_with(root));
        for mount_point in found.map(|it| &it.point) {
            let none = None::<&CStr>;
            let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
            match mount(none, mount_point, none, flags, none) {
                // One below it was there before, and is gone with it.
                Err(Errno::EINVAL | Errno::ENOENT) => continue,
                other => other?,
            }
            if umount2(mount_point, MntFlags::MNT_DETACH).is_err() {
                let kind = Some(c"tmpfs");
                mount(kind, mount_point, kind, MsFlags::empty(), none)?;
            }
        }
        Ok(())
    }

    /// In version 2 one mount; in version 1 a directory for each hierarchy, with a link for each other
    /// name that it goes by.
    fn mount_groups(&self, target: &CStr, is_read_only: bool) -> Result<(), Errno> {
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let read_only = if is_read_only {
            MsFlags::MS_RDONLY
        } else {
            MsFlags::empty()
        };
        let named = |target: Vec<u8>| MountIn::at(text(target));
        let root = self.root()?;
        if self.inheritance.is_unified {
            let whole = MountIn {
                source: Some(c"cgroup".into()),
                kind: Some(c"cgroup2".into()),
                flags: quiet | read_only,
                ..named(target.to_bytes().into())
            };
            return root::mount_in(root, &whole, None);
        }
        let directory = MountIn {
            source: Some(c"tmpfs".into()),
            kind: Some(c"tmpfs".into()),
            flags: quiet,
            data: Some(c"mode=755".into()),
            ..named(target.to_bytes().into())
        };
        root::mount_in(root, &directory, None)?;
        for (name, path) in self.inheritance.groups {
            let bind = MountIn {
                source: Some(text(path.as_os_str().as_bytes())),
                flags: MsFlags::MS_BIND | quiet | read_only,
                ..named([target.to_bytes(), b"/", name.as_bytes()].concat())
            };
            root::mount_in(root, &bind, None)?;
            for other in name.split(',').filter(|other| other != name) {
                let link = text([target.to_bytes(), b"/", other.as_bytes()].concat());
                root::link(root, &link, &text(name.as_str()))?;
            }
        }
        if is_read_only {
            let mounted = root::resolve(root, target, root::Make::Nothing)?;
            sys::set_mount_attributes(mounted.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
        }
        Ok(())
    }

    fn run_hooks(&mut self, kind: HookKind) -> Result<(), Errno> {
        let hooks = &self.inheritance.spec.hooks;
        let plan = self.inheritance.plan;
        let (name, list, status, environment) = match kind {
            HookKind::CreateContainer => {
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

    /// The terminal is opened in the container's devpts, and everything about it is done by descriptors.
    fn take_terminal(
        &mut self,
        owner: u32,
        size: Option<(u16, u16)>,
        is_relayed: bool,
    ) -> Result<(), Errno> {
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let master = match &self.root {
            Some(root) => sys::open_in_root(root.as_fd(), c"/dev/pts/ptmx", flags, 0)?,
            None => open(
                c"/dev/pts/ptmx",
                OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?,
        };
        let file_system = nix::sys::statfs::fstatfs(&master)?.filesystem_type();
        if file_system.0 != 0x1cd1 {
            return Err(Errno::ENOTTY);
        }
        let terminal = sys::terminal_peer(master.as_fd())?;
        let _ = fchown(&terminal, Some(Uid::from_raw(owner)), None);
        let _ = fchmod(&terminal, Mode::from_bits_truncate(0o620));
        // Whoever reads the copy knows how its own lines end.
        if is_relayed {
            let mut settings = tcgetattr(&master)?;
            settings.output_flags.remove(OutputFlags::ONLCR);
            tcsetattr(&master, SetArg::TCSANOW, &settings)?;
        }
        if let Some(size) = size {
            sys::set_terminal_size(master.as_fd(), size)?;
        }
        if let Some(root) = &self.root {
            let console = root::resolve(root.as_fd(), c"/dev/console", root::Make::File)?;
            let (from, to) = (
                root::by_descriptor(terminal.as_fd()),
                root::by_descriptor(console.as_fd()),
            );
            mount(
                Some(from.as_c_str()),
                to.as_c_str(),
                None::<&CStr>,
                MsFlags::MS_BIND,
                None::<&CStr>,
            )?;
        }
        let console = self.inheritance.console.ok_or(Errno::EBADF)?;
        let name = b"/dev/ptmx";
        let descriptors = [master.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(
            console.as_raw_fd(),
            &[IoSlice::new(name)],
            &rights,
            MsgFlags::empty(),
            None,
        )?;
        sys::control_terminal(terminal.as_fd())?;
        self.terminal = Some(terminal);
        let terminal = self.terminal.as_ref().ok_or(Errno::EBADF)?;
        dup2_stdin(terminal)?;
        dup2_stdout(terminal)?;
        // The last one: until here, failures could be written to it.
        dup2_stderr(terminal)
    }

    /// Has the runtime, or who starts the container, fetch the listener, and waits until that is done.
    fn pass_on(&self, listener: &OwnedFd) -> Result<(), Errno> {
        let descriptor = listener.as_raw_fd();
        let whom = steps::Init::listener(self);
        Report::Listener { descriptor }.send(whom);
        await_byte(whom).map(drop)
    }

    /// Tells the runtime that all is ready, and waits until somebody says "go": whoever only asks
    /// whether we wait hangs up without a word.
    fn await_start(&mut self) -> Result<(), Errno> {
        let listener = self.inheritance.listener.ok_or(Errno::EBADF)?;
        self.find_program()?;
        prctl::set_pdeathsig(None)?;
        // The first process of a PID namespace ends by no signal that it does not ask for.
        let ending = SigSet::from_iter([
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGALRM,
        ]);
        ending.thread_block()?;
        let signals = SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC)?;
        Report::Started.send(self.inheritance.channel);
        loop {
            let mut ready = [
                PollFd::new(listener, PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            }
            if ready[1].revents().is_some_and(|it| !it.is_empty()) {
                let signal = signals.read_signal()?.map_or(0, |it| it.ssi_signo as i32);
                std::process::exit(128 + signal);
            }
            let caller = match nix::sys::socket::accept4(
                listener.as_raw_fd(),
                nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            ) {
                Ok(fd) => sys::own(fd),
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                Err(errno) => return Err(errno),
            };
            if let Ok(word) = await_byte(caller.as_fd()) {
                self.tells_steps = word == GO_ON_AND_TELL;
                self.start = Some(caller);
                return Ok(());
            }
        }
    }

    /// Callers expect `create`, not `start`, to tell them that there is no such program.
    fn find_program(&mut self) -> Result<(), Errno> {
        let mut verdict = SpawnError {
            candidate: 0,
            errno: Errno::ENOENT,
        };
        for (candidate, path) in self.inheritance.program.candidates().iter().enumerate() {
            let path = path.as_c_str();
            let errno = match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
                Ok(()) => match nix::sys::stat::stat(path) {
                    Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFREG => return Ok(()),
                    Ok(_) => Errno::EACCES,
                    Err(errno) => errno,
                },
                Err(errno) => errno,
            };
            if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
                verdict = SpawnError { candidate, errno };
            }
        }
        self.not_executed = Some(verdict);
        Err(verdict.errno)
    }

    fn execute(&mut self) -> Result<(), Errno> {
        if self.start.is_none() {
            prctl::set_pdeathsig(None)?;
        }
        sys::default_signals();
        let with_home = self.environment.take().map(|environment| {
            let plan = self.inheritance.plan;
            Program::new(plan.candidates.clone(), plan.arguments.clone(), environment)
        });
        let failure = with_home
            .as_ref()
            .unwrap_or(self.inheritance.program)
            .execute();
        self.not_executed = Some(failure);
        Err(failure.errno)
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

/// Writes a parameter of the kernel's, and makes sure that it is the kernel who reads it.
fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    if path.to_bytes().starts_with(b"/proc/") && !root::is_proc(file.as_fd())? {
        return Err(Errno::EXDEV);
    }
    nix::unistd::write(&file, bytes).map(drop)
}

/// The processors of a list, or all that there are: the kernel leaves out those that the cgroup lacks.
fn set_affinity(processors: Option<&[usize]>) -> Result<(), Errno> {
    let mut set = nix::sched::CpuSet::new();
    match processors {
        Some(list) => list.iter().try_for_each(|it| set.set(*it))?,
        None => (0..nix::sched::CpuSet::count()).try_for_each(|it| set.set(it))?,
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
}

fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<(), Errno> {
    prctl::set_keepcaps(true)?;
    if let Some(groups) = groups {
        let list: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
        match setgroups(&list) {
            // A user namespace in which `setgroups` is denied has no more groups to lose.
            Err(Errno::EPERM) if list.is_empty() => {}
            other => other?,
        }
    }
    let (gid, uid) = (Gid::from_raw(gid), Uid::from_raw(uid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    prctl::set_keepcaps(false)?;
    // Another user's process has an empty effective set; what follows needs it.
    if !uid.is_root() {
        sys::restore_effective()?;
    }
    Ok(())
}

/// Goes there, and makes sure that "there" is in the root: a directory of the host's that some
/// descriptor still leads to has no path (`man 2 getcwd`).
fn change_directory(path: &CStr) -> Result<(), Errno> {
    chdir(path)?;
    match nix::unistd::getcwd() {
        Ok(here) if here.as_os_str().as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Errno::EXDEV),
    }
}

/// A name for the directory of a cgroup in the container: that of its hierarchy's mount point.
pub fn group_name(mount_point: &std::path::Path) -> String {
    mount_point
        .file_name()
        .unwrap_or(OsStr::new("cgroup"))
        .to_string_lossy()
        .into_owned()
}

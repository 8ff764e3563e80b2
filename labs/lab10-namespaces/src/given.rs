//! The types of lab 10. Read them; there is nothing to write here.

use std::path::PathBuf;

pub use nix::errno::Errno;

/// The number of a process.
pub type Pid = i32;

/// What the container is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory that becomes its root: an absolute path without `..`. It has an empty directory
    /// `proc`.
    pub root: PathBuf,
    /// Its name: 1 to 64 bytes.
    pub hostname: String,
    /// What it inherits from the host. The places are there: a directory for a directory, a file for a
    /// file.
    pub binds: Vec<Bind>,
    /// What it runs.
    pub command: Command,
    /// Who starts it, when that is not root: they become root inside, and nobody else exists there.
    pub rootless: Option<User>,
}

/// A file or a directory of the host's that is seen in the container too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its path in the container: absolute, without `..`.
    pub inside: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// A program with all that it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program: an absolute path in the container.
    pub program: PathBuf,
    /// Its arguments, its own name first.
    pub arguments: Vec<String>,
    /// Its environment, `NAME=value`.
    pub environment: Vec<String>,
}

/// An ordinary user of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's group.
    pub gid: u32,
}

/// What a process can have a copy of its own of (`man 7 namespaces`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    /// The tree of mounts.
    Mount,
    /// The numbers of processes; its first process is number 1.
    Pid,
    /// The host name.
    Uts,
    /// System V IPC and message queues.
    Ipc,
    /// Users, groups, and who is root (`man 7 user_namespaces`).
    User,
}

/// One system call, before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes a file that is there, such as `/proc/self/uid_map`.
    WriteFile {
        /// Which.
        path: PathBuf,
        /// What.
        text: String,
    },
    /// `mount --make-rprivate /`: mounts made from now on stay in this mount namespace, and those of
    /// the host made from now on do not come in. A new mount namespace *copies* the host's mounts with
    /// their ties to it.
    MakePrivate,
    /// `mount --rbind`: shows `from`, with what is mounted below it, at `to` as well. Also how an
    /// ordinary directory becomes a mount point: bound onto itself.
    Bind {
        /// What is shown.
        from: PathBuf,
        /// Where.
        to: PathBuf,
    },
    /// `mount -o remount,bind,ro`: makes a bind read-only. The first mount of a bind ignores `ro`.
    ReadOnly {
        /// The bind's `to`.
        target: PathBuf,
    },
    /// `mount -t proc`: shows the processes of the PID namespace that the *calling* process is in. In a
    /// user namespace the kernel allows it only while another `/proc` can be seen.
    MountProc {
        /// Where.
        target: PathBuf,
    },
    /// `man 2 sethostname`.
    SetHostname(String),
    /// `man 2 chdir`.
    ChangeDirectory(PathBuf),
    /// `man 2 chroot`: paths that begin with `/` begin at `path`. Nothing else changes.
    Chroot {
        /// The root to come.
        path: PathBuf,
    },
    /// `man 2 pivot_root`: `new_root`, a mount point, becomes the root of the mount namespace, and the
    /// old root is mounted at `put_old`. Both may be `.`: then the old root lies over the new one, where
    /// `Detach` of `.` takes it off (the manual's section on `pivot_root(".", ".")`).
    PivotRoot {
        /// The root to come.
        new_root: PathBuf,
        /// Where the old one goes.
        put_old: PathBuf,
    },
    /// `umount2` with `MNT_DETACH`: takes a mount, and all below it, out of the namespace, also while
    /// somebody uses it.
    Detach {
        /// Which.
        target: PathBuf,
    },
}

/// A container before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What its first process gets anew.
    pub namespaces: Vec<Namespace>,
    /// What that process does, in order.
    pub steps: Vec<Step>,
}

/// A configuration that must not become a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A root, the inner side of a bind, or a program that is not absolute; or one of the first two
    /// with a `..` in it, which would lead out of the root.
    #[error("{} is not an absolute path without `..`", .0.display())]
    Path(PathBuf),
    /// A host name that is empty or longer than 64 bytes.
    #[error("{0:?} is not 1 to 64 bytes long")]
    Hostname(String),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It left with this status, 0 to 255.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

/// The kernel, as much of it as a container needs. [`Host`](crate::Host) is the real one; the checks
/// also have one that only writes down what it is asked.
pub trait System {
    /// `man 2 clone`: a child in new `namespaces`, which runs `child` and ends with its value as exit
    /// status. It is a copy: what it changes in memory, nobody else sees.
    ///
    /// # Errors
    ///
    /// `EPERM` without the right to such a namespace.
    fn clone(
        &mut self,
        namespaces: &[Namespace],
        child: &mut dyn FnMut(&mut dyn System) -> i32,
    ) -> Result<Pid, Errno>;

    /// Makes the system call of `step`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn perform(&mut self, step: &Step) -> Result<(), Errno>;

    /// `man 2 close_range`: closes every descriptor from `first` on.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn close_from(&mut self, first: u32) -> Result<(), Errno>;

    /// `man 2 execve`: this process becomes `command`, which has no way back; so whatever this returns
    /// is an error.
    fn execve(&mut self, command: &Command) -> Errno;

    /// `man 2 wait`: sleeps until a child has ended, any child, and says which and how. For process 1
    /// of a PID namespace, orphans are children.
    ///
    /// # Errors
    ///
    /// `EINTR` when a signal came first, `ECHILD` when there is no child.
    fn wait(&mut self) -> Result<(Pid, Ended), Errno>;

    /// Says something on standard error.
    fn report(&mut self, message: &str);
}

/// What a container's first process does after its steps: it starts the command and looks after it.
/// This is where your `exec` and your `reap` meet.
pub fn init(system: &mut dyn System, command: &Command) -> i32 {
    match system.clone(&[], &mut |system| crate::exec(system, command)) {
        Ok(main) => crate::reap(system, main),
        Err(errno) => {
            system.report(&format!("clone: {errno}"));
            125
        }
    }
}

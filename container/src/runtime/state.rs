//! What is remembered of a container between commands:
//!
//! ```text
//! ROOT/ID/               mode 0700; whoever works on the container holds a lock on it (`man 2 flock`)
//!   state.json           who it is and where; replaced as a whole
//!   config.json          its configuration as it was when it was made
//!   scope                the unit of systemd's that its cgroup is, from before there is one
//!   start                the socket that init listens on until it is started
//! ```
//!
//! Whether a container runs is never remembered but asked of the kernel: init lives, by its number and
//! the time of its birth, and is `created` as long as it listens. So no crash makes the answer wrong.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::sys;

/// The life of a container (`runtime.md`, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the specification's words")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// The specification's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What is written down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The configuration's version.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// Its init; 0 before there is one.
    pub pid: i32,
    /// When init was born, in clock ticks since the machine was started.
    pub start_time: u64,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root directory.
    pub rootfs: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Who made it, by number.
    pub owner: u32,
    /// The directories of its cgroup.
    pub cgroup_paths: Vec<PathBuf>,
    /// The systemd scope that its cgroup is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Which pipes its standard streams were in the beginning, as `/proc/PID/fd` names them; none if none was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipes: Vec<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

const SCOPE: &str = "scope";

/// A container's directory, locked.
#[derive(Debug)]
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    lock: Flock<File>,
}

/// A container's directory while others may work on it.
#[derive(Debug)]
pub struct Unlocked {
    path: PathBuf,
    file: File,
}

/// Checks a container's name.
///
/// # Errors
/// One that could lead elsewhere, or is none.
pub fn check_id(id: &str) -> Result<(), Error> {
    if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.chars().all(is_of_id) {
        return Err(Error::Id(id.into()));
    }
    Ok(())
}

/// Whether a container's name may have this character.
pub(super) fn is_of_id(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_+-.".contains(character)
}

impl Directory {
    /// Makes the directory of a new container.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is such a container.
    pub fn create(path: &Path, id: &str) -> Result<Self, Error> {
        check_id(id)?;
        let path = path.to_owned();
        let make = || fs::DirBuilder::new().mode(0o700).create(&path);
        let made = match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parents = fs::DirBuilder::new()
                    .mode(0o711)
                    .recursive(true)
                    .create(path.parent().unwrap_or(&path));
                parents.and_then(|()| make())
            }
            other => other,
        };
        match made {
            Ok(()) => match Self::lock(path.clone(), id) {
                // Whoever deletes by force came in between, and the name is free again.
                Err(Error::NotFound(_)) => Self::create(&path, id),
                locked => locked,
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists(id.into()))
            }
            Err(source) => Err(Error::File { path, source }),
        }
    }

    /// Opens the directory of a container and waits until nobody else works on it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub fn open(root: &Path, id: &str) -> Result<Self, Error> {
        check_id(id)?;
        Self::lock(root.join(id), id)
    }

    fn lock(path: PathBuf, id: &str) -> Result<Self, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        loop {
            let file = match nix::fcntl::open(&path, flags, Mode::empty()) {
                Err(Errno::ENOENT) => return Err(Error::NotFound(id.into())),
                Err(errno) => {
                    return Err(Error::File {
                        path,
                        source: errno.into(),
                    });
                }
                Ok(fd) => File::from(fd),
            };
            let path = path.clone();
            if let Some(locked) = (Unlocked { path, file }).lock()? {
                return Ok(locked);
            }
        }
    }

    /// Lets others work on the container.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn unlock(self) -> Result<Unlocked, Error> {
        let Self { path, lock } = self;
        match lock.unlock() {
            Ok(file) => Ok(Unlocked { path, file }),
            Err((_, errno)) => Err(Error::File {
                path,
                source: errno.into(),
            }),
        }
    }

    /// Keeps the name of the scope that is asked for, in case that nobody comes to write a record.
    ///
    /// # Errors
    /// [`Error::File`] with the file.
    pub fn keep_scope(&self, unit: &str) -> Result<(), Error> {
        let path = self.path.join(SCOPE);
        fs::write(&path, unit).map_err(|source| Error::File { path, source })
    }

    /// The name that was kept, if one was.
    pub fn scope(&self) -> Option<String> {
        fs::read_to_string(self.path.join(SCOPE)).ok()
    }

    /// Reads the record.
    ///
    /// # Errors
    /// [`Error::File`] with the file, which is not there when the command that made the container was
    /// killed early.
    pub fn load(&self) -> Result<Record, Error> {
        load(&self.path)
    }

    /// Removes the directory; the container is gone.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(self) -> Result<(), Error> {
        // All that there is of most, and a call less for each that there seldom is.
        for name in ["config.json", "state.json"] {
            let _ = fs::remove_file(self.path.join(name));
        }
        let Self { path, lock: _lock } = self;
        fs::remove_dir(&path)
            .or_else(|_| fs::remove_dir_all(&path))
            .map_err(|source| Error::File { path, source })
    }
}

impl Unlocked {
    /// Waits until nobody else works on the container. None when it is gone: whoever had the lock may have
    /// removed the directory, and somebody made another.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn lock(self) -> Result<Option<Directory>, Error> {
        let Self { path, file } = self;
        let lock = match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => lock,
            Err((_, errno)) => {
                return Err(Error::File {
                    path,
                    source: errno.into(),
                });
            }
        };
        let there = nix::sys::stat::stat(&path).map(|it| it.st_ino);
        let is_there = sys::fstat(lock.as_fd()).map(|it| it.st_ino) == there;
        Ok(is_there.then_some(Directory { path, lock }))
    }
}

/// Reads the record in a container's directory without locking it.
///
/// # Errors
/// [`Error::File`], [`Error::Json`].
pub fn load(directory: &Path) -> Result<Record, Error> {
    let path = directory.join("state.json");
    let bytes = fs::read(&path).map_err(|source| Error::File {
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Json { path, source })
}

/// Writes the record, so that a reader sees the old one or the new one and nothing between.
///
/// # Errors
/// [`Error::File`] with the file.
pub fn save(path: &Path, record: &Record) -> Result<(), Error> {
    let bytes = serde_json::to_vec(record).map_err(|source| Error::Json {
        path: path.into(),
        source,
    })?;
    replace(path, &bytes)
}

/// Writes a file as a whole.
///
/// # Errors
/// [`Error::File`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|source| Error::File {
            path: path.into(),
            source,
        })
}

/// `PF_EXITING` of the kernel's: a process has it before it closes its descriptors, and keeps it.
const IS_ENDING: u64 = 4;

/// When a process was born; none when there is no such process, or it is about to end. Fields 9 and 22 of
/// `/proc/PID/stat` (`man 5 proc_pid_stat`).
pub fn born(pid: i32) -> Option<u64> {
    // 52 numbers and a name of 16 bytes, in one call: what says that it is empty is asked again and again.
    let mut bytes = [0; 2048];
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    let length = file.read(&mut bytes).ok()?;
    let stat = &bytes[..length];
    // The name in field 2 may hold anything but ends at the last parenthesis.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
    let mut fields = rest.split(' ').skip(6);
    let flags: u64 = fields.next()?.parse().ok()?;
    let born = fields.nth(12)?.parse().ok()?;
    (flags & IS_ENDING == 0).then_some(born)
}

/// Whether a process has a SIGKILL to die of, or is gone (`man 5 proc_pid_status`).
pub fn is_killed(pid: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let pending = ["SigPnd:", "ShdPnd:"].map(|name| {
        let set = status.lines().find_map(|line| line.strip_prefix(name));
        set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
    });
    let kill = 1 << (libc::SIGKILL - 1);
    pending.iter().flatten().any(|set| set & kill != 0)
}

impl Record {
    /// A descriptor of init, if it lives.
    pub fn init(&self) -> Option<OwnedFd> {
        if self.pid <= 0 {
            return None;
        }
        // Opened before it is looked at: from here on the number cannot become another's.
        let pidfd = sys::pidfd_open(Pid::from_raw(self.pid)).ok()?;
        (born(self.pid)? == self.start_time).then_some(pidfd)
    }

    /// A descriptor of init if it lives, and whether it waits to be started: it listens from its birth on.
    ///
    /// It stops listening when it becomes the program, and when it ends; so whether it lives is asked last,
    /// or one that ends meanwhile would be taken for the program.
    pub fn waiting(&self, directory: &Path) -> Option<(OwnedFd, bool)> {
        let listens = listens(&directory.join("start"));
        Some((self.init()?, listens))
    }
}

/// Whether somebody listens at a path. An init that stands still answers nobody, and those who have asked
/// fill its queue; so nobody waits there, and a full queue is an answer as well.
fn listens(path: &Path) -> bool {
    matches!(
        call(path, SockFlag::SOCK_NONBLOCK),
        Ok(_) | Err(Errno::EAGAIN)
    )
}

/// Connects to a socket at a path of any length.
///
/// # Errors
/// `ECONNREFUSED` when nobody listens.
pub fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    call(path, SockFlag::empty())
}

fn call(path: &Path, flags: SockFlag) -> Result<OwnedFd, Errno> {
    use nix::sys::socket::{connect, socket};
    let socket = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | flags,
        None,
    )?;
    match UnixAddr::new(path) {
        Ok(address) => connect(socket.as_raw_fd(), &address)?,
        Err(_) => {
            let file = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let address = UnixAddr::new(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str())?;
            connect(socket.as_raw_fd(), &address)?;
        }
    }
    Ok(socket)
}

/// A socket that listens at `path`.
///
/// # Errors
/// The kernel's.
pub fn listen(path: &Path) -> Result<OwnedFd, Errno> {
    use nix::sys::socket::{Backlog, bind, listen, socket};
    let socket = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    match UnixAddr::new(path) {
        Ok(address) => bind(socket.as_raw_fd(), &address)?,
        Err(_) => {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Errno::EINVAL);
            };
            let directory = nix::fcntl::open(directory, flags, Mode::empty())?;
            let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
            bind(socket.as_raw_fd(), &UnixAddr::new(&path.join(name))?)?;
        }
    }
    listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

impl Record {
    /// The state that hooks read and `state` prints (`runtime.md`, "State").
    pub fn for_hooks(&self, pid: i32, status: &str) -> Vec<u8> {
        let state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        });
        state.to_string().into_bytes()
    }
}

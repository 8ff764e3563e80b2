//! One directory of a group: its control files, read and written relative to an open descriptor.
//!
//! A control file is never created, since nothing here passes `O_CREAT`, and the directory is only
//! opened if `statfs` shows a cgroup file system: a limit written to a plain file limits nobody.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstatat, major, minor, stat};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{AccessFlags, Whence, faccessat, geteuid, lseek, read, write};

use super::controller::InV2;
use super::mountinfo::Mount;
use super::value::{self, Keyed, Limit};
use super::{Controller, Controllers, Error, Result, Version};

/// More than any control file holds (`cgroup.procs` with 4 million processes has 32 MiB).
const MAX_FILE_BYTES: usize = 64 << 20;

/// How a directory proves that it is a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// By the magic number of its file system.
    Magic,
    /// Not at all: a fake tree in a unit test.
    #[cfg(test)]
    Trust,
}

impl Probe {
    /// Whether `mount` is what one reaches at its mount point now, on a file system of its kind.
    pub fn confirms(self, mount: &Mount) -> bool {
        match self {
            // A device number belongs to one mounted file system, and `mount` says of which kind.
            Probe::Magic => stat(&mount.mount_point).is_ok_and(|stat| {
                mount.device == (major(stat.st_dev) as u32, minor(stat.st_dev) as u32)
            }),
            #[cfg(test)]
            Probe::Trust => true,
        }
    }

    fn check(self, fd: BorrowedFd<'_>, path: &Path, version: Version) -> Result<()> {
        match self {
            Probe::Magic => match version_of(fd) {
                Ok(found) if found == version => Ok(()),
                Ok(_) => Err(Error::NotCgroup {
                    path: path.into(),
                    magic: magic_of(version),
                }),
                Err(magic) => Err(Error::NotCgroup {
                    path: path.into(),
                    magic,
                }),
            },
            #[cfg(test)]
            Probe::Trust => Ok(()),
        }
    }
}

fn magic_of(version: Version) -> u64 {
    let magic = match version {
        Version::V1 => CGROUP_SUPER_MAGIC,
        Version::V2 => CGROUP2_SUPER_MAGIC,
    };
    magic.0 as u64
}

/// The version of the cgroup file system that `fd` is on, or the other file system's magic.
fn version_of(fd: BorrowedFd<'_>) -> Result<Version, u64> {
    match fstatfs(fd).map(|fs| fs.filesystem_type()) {
        Ok(CGROUP_SUPER_MAGIC) => Ok(Version::V1),
        Ok(CGROUP2_SUPER_MAGIC) => Ok(Version::V2),
        Ok(other) => Err(other.0 as u64),
        Err(_) => Err(0),
    }
}

/// A group's directory in one hierarchy.
#[derive(Debug)]
pub struct Directory {
    version: Version,
    controllers: Controllers,
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    /// Opens an existing directory.
    pub(super) fn open(
        path: PathBuf,
        version: Version,
        controllers: Controllers,
        probe: Probe,
    ) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = open(&path, flags, Mode::empty()).map_err(|source| Error::Open {
            path: path.clone(),
            source,
        })?;
        probe.check(fd.as_fd(), &path, version)?;
        Ok(Directory {
            version,
            controllers,
            path,
            fd,
        })
    }

    /// Without the controllers that a version 2 group was not handed down.
    pub(super) fn with_what_it_has(mut self) -> Result<Self> {
        if self.version == Version::V2 {
            let has = Controllers::parse(Version::V2, &self.read("cgroup.controllers")?);
            let is_there = |c: &Controller| has.contains(*c) || c.in_v2() == InV2::Always;
            self.controllers = self.controllers.iter().filter(is_there).collect();
        }
        Ok(self)
    }

    /// Which interface it has.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The controllers for which the group joined this hierarchy.
    pub fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// The absolute path, as seen by this process.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole path of a control file, for messages.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether there is such a control file.
    pub fn has(&self, name: &str) -> bool {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// The names of all control files.
    pub(super) fn file_names(&self) -> Result<Vec<String>> {
        let failed = |source| Error::Open {
            path: self.path.clone(),
            source,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.fd, ".", flags, Mode::empty()).map_err(failed)?;
        let name = |entry: nix::Result<nix::dir::Entry>| {
            entry.map(|e| e.file_name().to_string_lossy().into_owned())
        };
        dir.iter()
            .map(name)
            .collect::<nix::Result<_>>()
            .map_err(failed)
    }

    /// Reads a control file.
    ///
    /// # Errors
    /// [`Error::Read`] with the path.
    pub fn read(&self, name: &str) -> Result<String> {
        let failed = |source| Error::Read {
            path: self.file(name),
            source,
        };
        let bytes = self
            .open_file(name, OFlag::O_RDONLY)
            .and_then(|fd| read_all(fd.as_fd()));
        Ok(String::from_utf8_lossy(&bytes.map_err(failed)?).into_owned())
    }

    /// Reads a control file that this kernel or this group may lack.
    pub(super) fn read_optional(&self, name: &str) -> Result<Option<String>> {
        match self.read(name) {
            // Some files exist and say "not supported" when read, such as memory.memsw.* without
            // swap accounting.
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EOPNOTSUPP)) => {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Writes a value in one `write`, as control files want it.
    ///
    /// # Errors
    /// [`Error::Write`] with the path, the value and a hint.
    pub fn write(&self, name: &str, value: &str) -> Result<()> {
        self.write_each(name, [value])
    }

    /// Writes several values, each in one `write`, to a file that takes them one by one.
    pub(super) fn write_each<V: AsRef<str>>(
        &self,
        name: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<()> {
        let failed = |value: &str, source| Error::Write {
            path: self.file(name),
            value: value.into(),
            source,
        };
        let mut file = None;
        for value in values {
            let value = value.as_ref();
            let fd = match &file {
                Some(fd) => fd,
                None => {
                    let opened = self.open_to_write(name);
                    file.insert(opened.map_err(|source| failed(value, source))?)
                }
            };
            write_all(fd.as_fd(), value.as_bytes()).map_err(|source| failed(value, source))?;
        }
        Ok(())
    }

    /// Opens a control file that is to be written. Somebody who makes another group beside this one may just be
    /// giving their parent's controllers to both: `cgroup.subtree_control` shows them before the files are there.
    /// Whoever writes to it waits for that, even with nothing to say.
    fn open_to_write(&self, name: &str) -> nix::Result<OwnedFd> {
        let open = |name| self.open_file(name, OFlag::O_WRONLY);
        match open(name) {
            Err(Errno::ENOENT) if self.version == Version::V2 => {
                let above = open("../cgroup.subtree_control").map_err(|_| Errno::ENOENT)?;
                write_all(above.as_fd(), b" ")?;
                open(name)
            }
            opened => opened,
        }
    }

    pub(super) fn open_file(&self, name: &str, access: OFlag) -> nix::Result<OwnedFd> {
        openat(
            &self.fd,
            name,
            access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
    }

    pub(super) fn read_number(&self, name: &str) -> Result<u64> {
        value::number(&self.file(name), &self.read(name)?)
    }

    pub(super) fn read_limit(&self, name: &str) -> Result<Limit> {
        value::limit(&self.file(name), &self.read(name)?)
    }

    pub(super) fn read_keyed(&self, name: &str) -> Result<Keyed> {
        Ok(value::keyed(&self.read(name)?))
    }

    /// The number in a file that may be missing.
    pub(super) fn optional_number(&self, name: &str) -> Result<Option<u64>> {
        let text = self.read_optional(name)?;
        text.map(|text| value::number(&self.file(name), &text))
            .transpose()
    }

    /// The limit in a file that may be missing.
    pub(super) fn optional_limit(&self, name: &str) -> Result<Option<Limit>> {
        let text = self.read_optional(name)?;
        text.map(|text| value::limit(&self.file(name), &text))
            .transpose()
    }

    /// The lines of a file that may be missing.
    pub(super) fn optional_keyed(&self, name: &str) -> Result<Keyed> {
        Ok(value::keyed(&self.read_optional(name)?.unwrap_or_default()))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The processes of a group, one number a line; writing one moves it here.
pub(super) const PROCS: &str = "cgroup.procs";

pub(super) fn read_all(fd: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match read(fd, &mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() > MAX_FILE_BYTES => return Err(Errno::EFBIG),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reads a file again from its start: control files show what holds at the first read.
pub(super) fn reread(fd: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
    lseek(fd, 0, Whence::SeekSet)?;
    read_all(fd)
}

pub(super) fn write_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<()> {
    loop {
        match write(fd, bytes) {
            Ok(n) if n == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::EIO),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Why the kernel denied something at `path`, if the reason is that somebody else owns it.
pub(super) fn denial(path: &Path, source: Errno) -> Option<Error> {
    let user = geteuid().as_raw();
    let owned = |at: &Path| -> Option<FileStat> { stat(at).ok() };
    // What could not be made does not exist: its parent is what the user would have to own.
    let found = owned(path).map(|s| (path, s));
    let found = found.or_else(|| path.parent().and_then(|p| owned(p).map(|s| (p, s))));
    let (path, stat) = found?;
    let denied = matches!(source, Errno::EACCES | Errno::EPERM);
    (denied && user != 0 && stat.st_uid != user).then(|| Error::NotDelegated {
        path: path.into(),
        owner: stat.st_uid,
        user,
        source,
    })
}

/// Whether this process may write to `path`.
pub(super) fn writable(path: &Path) -> bool {
    faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
}

pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

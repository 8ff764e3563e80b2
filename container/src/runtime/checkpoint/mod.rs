//! `checkpoint` and `restore`: a container's processes as files, and back. criu does both
//! (<https://criu.org>); what it is asked for, and what becomes of the container, is as with runc
//! (`man 8 runc-checkpoint`, `man 8 runc-restore`).
//!
//! ```text
//! checkpoint: criu ─ freeze ─ memory, files, pipes … ─▶ IMAGES ── kill ─┐
//!                                                     ringside: wait ─ rmdir ─ forget ─ hooks
//! restore:    name ─ cgroup ─▶ criu in it, in mounts of its own ─ namespaces ─ hooks ─ processes ─┐
//!                                                     ringside: write down who init is ─ let go ──┘
//! ```
//!
//! The container's lock is held all the while, but for the time in which a stopped container's memory is asked for
//! by whoever restores it elsewhere (`--lazy-pages`). Whoever kills the runtime meanwhile breaks its conversation with
//! criu, which then lets a dumped container go on, and ends a half restored one; what that one had otherwise,
//! `delete` finds. criu's mounts are in a mount namespace of its own and go with it.

mod criu;
pub mod dump;
mod error;
mod mounts;
pub mod restore;
mod rpc;
mod streams;
mod wire;

pub use error::Error;
pub use rpc::CgroupMode;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rpc::option;
use wire::Message;

use super::create::Create;
use crate::runtime;
use crate::spec::Spec;

/// What holds for both commands.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// criu's program.
    pub program: PathBuf,
    /// The directory of the checkpoint (`--image-path`).
    pub path: PathBuf,
    /// Where criu writes its log and other files, if not there (`--work-path`).
    pub work: Option<PathBuf>,
    /// TCP connections are kept (`--tcp-established`).
    pub tcp_established: bool,
    /// Unix sockets may lead out of the container (`--ext-unix-sk`).
    pub ext_unix_sk: bool,
    /// The terminal may be the caller's (`--shell-job`).
    pub shell_job: bool,
    /// Locks on files are kept (`--file-locks`).
    pub file_locks: bool,
    /// What newer images have is taken out of older ones (`--auto-dedup`).
    pub auto_dedup: bool,
    /// Memory follows when it is used (`--lazy-pages`).
    pub lazy_pages: bool,
    /// What is done about cgroups (`--manage-cgroups-mode`).
    pub cgroups: CgroupMode,
}

/// What `checkpoint` takes.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Where containers are remembered.
    pub root: PathBuf,
    /// Which.
    pub id: String,
    /// Where it goes.
    pub images: Images,
    /// An earlier one that this adds to, seen from the images (`--parent-path`).
    pub parent: Option<PathBuf>,
    /// The container goes on (`--leave-running`).
    pub leaves_running: bool,
    /// Only memory, for a later one to add to; the container goes on (`--pre-dump`).
    pub is_partial: bool,
    /// Connections that are being made are lost (`--tcp-skip-in-flight`).
    pub tcp_skip_in_flight: bool,
    /// Files without a name get one back (`--link-remap`).
    pub link_remap: bool,
    /// Where memory is sent instead (`--page-server`).
    pub page_server: Option<PageServer>,
    /// The number of a descriptor that hears when lazy pages can be fetched (`--status-fd`).
    pub status_fd: Option<i32>,
}

/// What `restore` takes.
#[derive(Debug, Clone, Default)]
pub struct Restore {
    /// What any new container takes.
    pub create: Create,
    /// Where it comes from.
    pub images: Images,
    /// Another profile of a security module, `TYPE:NAME` (`--lsm-profile`).
    pub lsm_profile: Option<String>,
    /// Another label of its mounts (`--lsm-mount-context`).
    pub lsm_mount_context: Option<String>,
}

/// What a runtime at work is to have criu do.
#[derive(Debug, Clone, Copy)]
pub enum Job<'a> {
    /// To dump a container.
    Dump(&'a Checkpoint),
    /// To restore one.
    Restore(&'a Restore),
}

/// Whom memory is sent to, or who waits for others to ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageServer {
    address: String,
    port: u16,
}

impl PageServer {
    /// Reads `ADDRESS:PORT`; an address with colons of its own is in brackets.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let failed = |why| Error::Option {
            option: "--page-server",
            value: text.into(),
            why,
        };
        let usage = || failed("Use --page-server ADDRESS:PORT to specify page server");
        let (address, port) = text.rsplit_once(':').ok_or_else(usage)?;
        let bare = address
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'));
        if address.is_empty() || port.is_empty() || (bare.is_none() && address.contains(':')) {
            return Err(usage());
        }
        let port = port.parse().ok().filter(|it| *it != 0);
        Ok(Self {
            address: bare.unwrap_or(address).to_owned(),
            port: port.ok_or_else(|| failed("Invalid port number; give one from 1 to 65535"))?,
        })
    }
}

impl CgroupMode {
    /// Reads `--manage-cgroups-mode`.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "" => Ok(Self::Default),
            "soft" => Ok(Self::Soft),
            "full" => Ok(Self::Full),
            "strict" => Ok(Self::Strict),
            "ignore" => Ok(Self::Ignore),
            other => Err(Error::Option {
                option: "--manage-cgroups-mode",
                value: other.into(),
                why: "it is no way to manage cgroups; give soft, full, strict or ignore",
            }),
        }
    }
}

/// Directories that are open for criu, which reaches them by our descriptors.
struct Workplace {
    images: File,
    work: Option<File>,
    /// Where its log will be.
    log: PathBuf,
}

impl Workplace {
    fn open(images: &Images, log: &str) -> Result<Self, runtime::Error> {
        let open = |path: &Path| File::open(path).map_err(|error| file(path, error));
        let work = images.work.as_deref().map(make_directory).transpose()?;
        let log = work.unwrap_or(&images.path).join(log);
        // Only what this one writes is told of.
        let _ = fs::remove_file(&log);
        Ok(Self {
            images: open(&images.path)?,
            work: work.map(open).transpose()?,
            log,
        })
    }
}

fn file(path: &Path, source: std::io::Error) -> runtime::Error {
    runtime::Error::File {
        path: path.into(),
        source,
    }
}

fn make_directory(path: &Path) -> Result<&Path, runtime::Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path);
    made.map(|()| path).map_err(|error| file(path, error))
}

/// A container can name a file of criu's own options; without, it is this one, as with runc.
const CRIU_CONFIG: (&str, &str) = ("org.criu.config", "/etc/criu/runc.conf");

/// Options that both requests have.
fn options(images: &Images, place: &Workplace, spec: &Spec, log: &str) -> Message {
    let mut options = Message::default()
        .number(option::IMAGES_DIR_FD, place.images.as_raw_fd().into())
        .flag(option::EXT_UNIX_SK, images.ext_unix_sk)
        .flag(option::TCP_ESTABLISHED, images.tcp_established)
        .flag(option::SHELL_JOB, images.shell_job)
        .flag(option::FILE_LOCKS, images.file_locks)
        // Everything: the log is all that there is when something goes wrong.
        .number(option::LOG_LEVEL, 4)
        .bytes(option::LOG_FILE, log.as_bytes())
        .flag(option::NOTIFY_SCRIPTS, true)
        .flag(option::AUTO_DEDUP, images.auto_dedup)
        .flag(option::MANAGE_CGROUPS, true)
        .number(option::MANAGE_CGROUPS_MODE, images.cgroups as i64)
        // Interfaces are the business of whoever made them.
        .number(option::EMPTY_NS, libc::CLONE_NEWNET.into())
        .flag(option::LAZY_PAGES, images.lazy_pages)
        .flag(option::ORPHAN_PTS_MASTER, true);
    if let Some(work) = &place.work {
        options = options.number(option::WORK_DIR_FD, work.as_raw_fd().into());
    }
    let (annotation, default) = CRIU_CONFIG;
    match spec.annotations.get(annotation).map(String::as_str) {
        Some("") => options,
        config => options.bytes(option::CONFIG_FILE, config.unwrap_or(default).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        let server = |address: &str, port| PageServer {
            address: address.into(),
            port,
        };
        let parsed = |text| PageServer::parse(text).unwrap();
        assert_eq!(parsed("0.0.0.0:27277"), server("0.0.0.0", 27277));
        assert_eq!(parsed("[::1]:9"), server("::1", 9));
        for wrong in ["", "host", "host:", ":9", "::1", "::1:9"] {
            let error = PageServer::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("ADDRESS:PORT"), "{wrong}: {error}");
        }
        for wrong in ["host:0", "host:65536", "host:x"] {
            let error = PageServer::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("Invalid port number"), "{wrong}: {error}");
        }
    }

    #[test]
    fn ways_to_manage_cgroups_are_runc_s() {
        assert_eq!(CgroupMode::parse("").unwrap(), CgroupMode::Default);
        assert_eq!(CgroupMode::parse("ignore").unwrap(), CgroupMode::Ignore);
        let error = CgroupMode::parse("hard").unwrap_err().to_string();
        assert!(error.contains("--manage-cgroups-mode \"hard\""), "{error}");
    }
}

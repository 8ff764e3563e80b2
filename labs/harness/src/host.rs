//! What a host must have for a check, asked of the kernel and not guessed: each answer that is no
//! says why and what to do.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{AccessFlags, access, geteuid};
use serde::{Deserialize, Serialize};

/// Something that not every host has. A check without needs runs for any Linux user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Need {
    /// A usable `/dev/kvm`.
    #[serde(rename = "K")]
    Kvm,
    /// Root, or user namespaces.
    #[serde(rename = "N")]
    Namespaces,
    /// A cgroup controller that this user may write.
    #[serde(rename = "C")]
    Cgroups,
    /// Overlay mounts.
    #[serde(rename = "O")]
    Overlay,
}

impl Need {
    /// Every need, in the order of the letters' table in the course.
    pub const ALL: [Self; 4] = [Self::Kvm, Self::Namespaces, Self::Cgroups, Self::Overlay];

    /// The letter that the course writes.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Kvm => 'K',
            Self::Namespaces => 'N',
            Self::Cgroups => 'C',
            Self::Overlay => 'O',
        }
    }

    /// The need that `letter` stands for.
    #[must_use]
    pub fn from_letter(letter: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|need| letter.chars().eq([need.letter()]))
    }

    /// What it is, for a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Namespaces => "root or user namespaces",
            Self::Cgroups => "a cgroup controller",
            Self::Overlay => "overlay mounts",
        }
    }
}

/// What this host lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {fix}")]
pub struct Missing {
    /// What was tried, and what the kernel said.
    pub why: String,
    /// What the reader can do.
    pub fix: String,
}

impl Missing {
    fn new(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            fix: fix.into(),
        }
    }
}

/// Whether this host has `need`; the evidence when it has.
///
/// # Errors
///
/// [`Missing`] when it has not.
pub fn probe(need: Need) -> Result<String, Missing> {
    match need {
        Need::Kvm => kvm(OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .err()),
        Need::Namespaces => namespaces(try_apart(need)),
        Need::Cgroups => cgroups(
            &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            &|path| fs::read_to_string(path).unwrap_or_default(),
            &|path| access(path, AccessFlags::W_OK).is_ok(),
        ),
        Need::Overlay => overlay(try_apart(need)),
    }
}

/// KVM is never guessed from CPUID: nested and software KVM show no VMX bit. The four errors of
/// open(2) have four different remedies.
fn kvm(error: Option<io::Error>) -> Result<String, Missing> {
    let Some(error) = error else {
        return Ok("/dev/kvm opens".into());
    };
    let fix = match (error.kind(), error.raw_os_error().map(Errno::from_raw)) {
        (ErrorKind::NotFound, _) => {
            "load the module (`modprobe kvm_intel` or `modprobe kvm_amd`), and switch \
             virtualization on in the firmware or for this virtual machine"
        }
        (ErrorKind::PermissionDenied, _) => {
            "add yourself to the group `kvm` (`sudo usermod -aG kvm $USER`, then log in anew) or \
             run as root"
        }
        (_, Some(Errno::ENODEV)) => {
            "the device is there but no module stands behind it: switch virtualization on in the \
             firmware, then `modprobe kvm_intel` or `modprobe kvm_amd`"
        }
        (_, Some(Errno::EBUSY)) => "stop the other hypervisor (VirtualBox, VMware) and try again",
        _ => "see `dmesg` for what the kernel says about kvm",
    };
    Err(Missing::new(format!("cannot open /dev/kvm: {error}"), fix))
}

/// Tries `need` in a process of its own, because a successful try changes the process.
fn try_apart(need: Need) -> io::Result<u8> {
    let status = Command::new(std::env::current_exe()?)
        .args(["--probe", &need.letter().to_string()])
        .stdin(Stdio::null())
        .status()?;
    Ok(status
        .code()
        .and_then(|code| code.try_into().ok())
        .unwrap_or(255))
}

/// `--probe N` of the calling program: tries, in this process that does nothing else, what need N
/// asks of the host. Every program that calls [`probe`] routes this argument here.
#[must_use]
pub fn answer_probe(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let letter = arguments.next().unwrap_or_default();
    let need = letter.to_str().and_then(Need::from_letter);
    ExitCode::from(need.map_or(255, probe_here))
}

/// 0, or the number of the error.
fn probe_here(need: Need) -> u8 {
    let attempt = || -> nix::Result<()> {
        let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
        if !geteuid().is_root() {
            flags |= CloneFlags::CLONE_NEWUSER;
        }
        unshare(flags)?;
        // Some distributions grant the namespace and then no right in it: only a mount tells.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        if need == Need::Overlay {
            // One level over the host's own files, never written, gone with this process.
            let options = "lowerdir=/usr:/etc";
            mount(
                Some("overlay"),
                "/mnt",
                Some("overlay"),
                MsFlags::MS_RDONLY,
                Some(options),
            )?;
        }
        Ok(())
    };
    match attempt() {
        Ok(()) => 0,
        Err(error) => (error as i32).try_into().unwrap_or(255),
    }
}

fn namespaces(tried: io::Result<u8>) -> Result<String, Missing> {
    match tried {
        Ok(0) if geteuid().is_root() => Ok("root may unshare and mount".into()),
        Ok(0) => Ok("user namespaces work".into()),
        Ok(errno) => Err(Missing::new(
            format!(
                "cannot unshare namespaces and mount in them: {}",
                Errno::from_raw(errno.into())
            ),
            "run as root, or allow user namespaces: `sysctl -w user.max_user_namespaces=10000`, on \
             Debian `kernel.unprivileged_userns_clone=1`, on Ubuntu \
             `kernel.apparmor_restrict_unprivileged_userns=0`; in a container, start it with \
             `--privileged`",
        )),
        Err(error) => Err(Missing::new(
            format!("cannot start a process to try namespaces: {error}"),
            "run as root",
        )),
    }
}

fn overlay(tried: io::Result<u8>) -> Result<String, Missing> {
    match tried {
        Ok(0) => Ok("an overlay mount works".into()),
        Ok(errno) => Err(Missing::new(
            format!("cannot mount an overlay: {}", Errno::from_raw(errno.into())),
            "`modprobe overlay`; without root it needs Linux 5.11 and user namespaces (need N)",
        )),
        Err(error) => Err(Missing::new(
            format!("cannot start a process to try an overlay mount: {error}"),
            "`modprobe overlay`",
        )),
    }
}

/// Looks for a hierarchy whose files this user may write: a version 1 controller, or version 2
/// with controllers (`Documentation/admin-guide/cgroup-v2.rst`). The type of the mount counts, not
/// its path: on a hybrid host `/sys/fs/cgroup` is a tmpfs.
fn cgroups(
    mountinfo: &str,
    read: &dyn Fn(&str) -> String,
    writable: &dyn Fn(&str) -> bool,
) -> Result<String, Missing> {
    let mut seen = Vec::new();
    for line in mountinfo.lines() {
        // man 5 proc: "36 35 98:0 /root /mount/point options - type source super-options".
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(at), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else {
            continue;
        };
        let wanted: Vec<String> = match kind {
            "cgroup" => right.rsplit([' ', ',']).map(String::from).collect(),
            "cgroup2" => {
                let file = read(&format!("{at}/cgroup.controllers"));
                file.split_whitespace().map(String::from).collect()
            }
            _ => continue,
        };
        if !wanted.iter().any(|name| name == "cpu" || name == "memory") {
            continue;
        }
        if writable(at) {
            return Ok(format!("{kind} at {at} is writable"));
        }
        seen.push(at);
    }
    Err(match seen.first() {
        Some(at) => Missing::new(
            format!("cannot write the cgroup hierarchy at {at}"),
            "run as root, or have a group delegated: `systemd-run --user --scope -p Delegate=yes \
             cargo lab …`",
        ),
        None => Missing::new(
            "no cgroup hierarchy with the controllers cpu or memory is mounted",
            "`mount -t cgroup2 cgroup2 /sys/fs/cgroup`, or start the container with the host's \
             cgroups",
        ),
    })
}

#[cfg(test)]
mod tests;

//! Opening KVM, and telling apart the ways in which it can refuse (`Documentation/virt/kvm/api.rst`).

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The device's usual place.
pub const DEVICE: &str = "/dev/kvm";

/// The only version of the interface there is, since Linux 2.6.22.
pub const API_VERSION: i32 = 12;

/// Why there is no KVM to be had, with what to do about it.
///
/// CPUID is never asked: hosts exist whose KVM works although their CPUID shows no virtualization.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// `ENOENT`: no such device file.
    #[error(
        "cannot open {}: there is no such device; load the module (`modprobe kvm_intel` or `modprobe kvm_amd`), switch VT-x or AMD-V \
         on in the firmware, or, inside a virtual machine or container, ask its host for nested virtualization or `--device /dev/kvm`",
        path.display()
    )]
    Missing {
        /// The device's path.
        path: PathBuf,
    },
    /// `EACCES` or `EPERM`: the device's permissions.
    #[error(
        "cannot open {}: permission denied; add yourself to the group that owns it (`sudo usermod -aG kvm $USER`, then log in again) or run as root",
        path.display()
    )]
    Forbidden {
        /// The device's path.
        path: PathBuf,
    },
    /// `ENODEV` or `ENXIO`: a device file with no driver behind it.
    #[error(
        "cannot open {}: no driver stands behind it; the processor has no virtualization, or the firmware switched it off: \
         enable VT-x or AMD-V there, then `modprobe kvm_intel` or `modprobe kvm_amd`",
        path.display()
    )]
    Unsupported {
        /// The device's path.
        path: PathBuf,
    },
    /// `EBUSY`: another hypervisor holds the processor's virtualization.
    #[error(
        "{} is busy: another hypervisor (VirtualBox, VMware, Xen) holds the processor's virtualization; stop its machines or unload its module",
        path.display()
    )]
    Busy {
        /// The device's path.
        path: PathBuf,
    },
    /// Something opened, but it is not KVM.
    #[error("{} is not KVM: it answers KVM_GET_API_VERSION with {version}, not {API_VERSION}; see what the path leads to", path.display())]
    NotKvm {
        /// The device's path.
        path: PathBuf,
        /// What it answered.
        version: i32,
    },
    /// Any other failure.
    #[error("cannot use {}: {source}", path.display())]
    Other {
        /// The device's path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Unavailable {
    /// What an error number of opening the device, or of the first ioctls, means.
    pub fn from_errno(path: &Path, errno: i32) -> Unavailable {
        let path = path.to_owned();
        match errno {
            libc::ENOENT => Unavailable::Missing { path },
            libc::EACCES | libc::EPERM => Unavailable::Forbidden { path },
            libc::ENODEV | libc::ENXIO | libc::EOPNOTSUPP => Unavailable::Unsupported { path },
            libc::EBUSY => Unavailable::Busy { path },
            errno => Unavailable::Other {
                path,
                source: io::Error::from_raw_os_error(errno),
            },
        }
    }
}

/// An open `/dev/kvm`.
#[derive(Debug)]
pub struct Kvm {
    pub(super) fd: kvm_ioctls::Kvm,
    pub(super) path: PathBuf,
}

impl Kvm {
    /// Opens the device at its usual place.
    ///
    /// # Errors
    /// Which of missing, forbidden, unsupported and busy it is, with the remedy.
    pub fn open() -> Result<Kvm, Unavailable> {
        Kvm::open_at(Path::new(DEVICE))
    }

    /// Opens the device at `path`.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn open_at(path: &Path) -> Result<Kvm, Unavailable> {
        let missing = || Unavailable::Missing {
            path: path.to_owned(),
        };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| missing())?;
        let fd = kvm_ioctls::Kvm::open_with_cloexec_at(&name, true)
            .map_err(|error| Unavailable::from_errno(path, error.errno()))?;
        // SAFETY: the descriptor was just opened and nobody else has it; a `Kvm` closes it.
        let fd = unsafe {
            kvm_ioctls::Kvm::from_raw_fd(OwnedFd::from(File::from_raw_fd(fd)).into_raw_fd())
        };
        match fd.get_api_version() {
            API_VERSION => Ok(Kvm {
                fd,
                path: path.to_owned(),
            }),
            version => Err(Unavailable::NotKvm {
                path: path.to_owned(),
                version,
            }),
        }
    }

    /// The answer of `KVM_CHECK_EXTENSION`: 0 where the capability is missing.
    pub fn capability(&self, capability: kvm_ioctls::Cap) -> i32 {
        self.fd.check_extension_int(capability)
    }

    /// The CPUID leaves that KVM offers to guests (`KVM_GET_SUPPORTED_CPUID`).
    ///
    /// # Errors
    /// The ioctl's.
    pub fn supported_cpuid(&self) -> io::Result<kvm_bindings::CpuId> {
        Ok(self
            .fd
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_number_has_its_own_remedy() {
        let message = |errno| Unavailable::from_errno(Path::new(DEVICE), errno).to_string();
        for (errno, remedy) in [
            (libc::ENOENT, "modprobe"),
            (libc::EACCES, "usermod -aG kvm"),
            (libc::ENODEV, "enable VT-x or AMD-V"),
            (libc::EBUSY, "VirtualBox"),
            (libc::EMFILE, "Too many open files"),
        ] {
            assert!(
                message(errno).contains(remedy),
                "{errno}: {}",
                message(errno)
            );
            assert!(message(errno).contains(DEVICE));
        }
    }

    #[test]
    fn a_file_that_is_not_kvm_is_told_apart() {
        assert!(matches!(
            Kvm::open_at(Path::new("/nonexistent/kvm")),
            Err(Unavailable::Missing { .. })
        ));
        assert!(matches!(
            Kvm::open_at(Path::new("/dev/null")),
            Err(Unavailable::NotKvm { .. })
        ));
        assert!(matches!(
            Kvm::open_at(Path::new("a\0b")),
            Err(Unavailable::Missing { .. })
        ));
    }
}

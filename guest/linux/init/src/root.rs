//! The guest's file system: the kernel's own file systems, and over the read-only image an overlay
//! whose upper part is memory, so that everything can be written and nothing lasts.
//!
//! ```text
//!   /            what the command sees: overlay
//!     upper      tmpfs      its writes
//!     lower      /dev/vda   EROFS, read-only: the program and its libraries
//! ```

use crate::Failure;
use crate::sys::{self, Errno};
use crate::task::Task;
use alloc::format;
use core::ffi::CStr;

/// Where the initramfs puts a root that travels inside of it.
const CARRIED: &CStr = c"/root";

/// A mount below the root: type, place, options; whether the guest can do without.
type Mount = (&'static CStr, &'static CStr, &'static CStr, Need);

#[derive(PartialEq, Eq)]
enum Need {
    Must,
    May,
}

const KERNEL_FILES: [Mount; 7] = [
    (c"proc", c"proc", c"", Need::Must),
    (c"sysfs", c"sys", c"", Need::Must),
    (c"devtmpfs", c"dev", c"", Need::Must),
    (c"devpts", c"dev/pts", c"ptmxmode=666,mode=620", Need::May),
    (c"tmpfs", c"dev/shm", c"mode=1777", Need::May),
    (c"tmpfs", c"run", c"mode=755", Need::Must),
    (c"cgroup2", c"sys/fs/cgroup", c"", Need::May),
];

/// Of the initramfs: enough to find devices.
pub fn kernel_files() -> Result<(), Failure> {
    sys::mkdir(c"/dev");
    mount(c"devtmpfs", c"devtmpfs", c"/dev", c"")?;
    sys::hold_standard_streams();
    Ok(())
}

/// Makes the command's root and goes there.
pub fn enter(task: &Task<'_>) -> Result<(), Failure> {
    for directory in [c"/lower", c"/over", c"/new"] {
        sys::mkdir(directory);
    }
    let lower = match task.image {
        Some(image) => {
            sys::mount(image, c"/lower", c"erofs", sys::MS_RDONLY, c"")
                .map_err(|errno| Failure::new("mount the image", image.to_bytes(), errno))?;
            c"lowerdir=/lower,upperdir=/over/upper,workdir=/over/work"
        }
        None => c"lowerdir=/root,upperdir=/over/upper,workdir=/over/work",
    };
    if task.image.is_none() {
        sys::mkdir(CARRIED);
    }
    let size = format!("mode=755,size={}\0", writable_bytes(sys::memory_bytes()));
    let size = CStr::from_bytes_until_nul(size.as_bytes()).unwrap_or_default();
    mount(c"tmpfs", c"tmpfs", c"/over", size)?;
    sys::mkdir(c"/over/upper");
    sys::mkdir(c"/over/work");
    mount(c"overlay", c"overlay", c"/new", lower)?;
    let at = |what, result: Result<usize, Errno>| {
        result.map_err(|errno| Failure::new(what, b"/new", errno))
    };
    at("enter", sys::chdir(c"/new"))?;
    for (kind, place, options, need) in &KERNEL_FILES {
        sys::mkdir(place);
        match mount(kind, kind, place, options) {
            Err(failure) if *need == Need::Must => return Err(failure),
            _ => {}
        }
    }
    sys::mkdir(c"tmp");
    sys::chmod(c"tmp", 0o1777);
    for (target, name) in [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
        (c"/proc/self/mounts", c"etc/mtab"),
    ] {
        sys::symlink(target, name);
    }
    at("move", sys::mount(c".", c"/", c"", sys::MS_MOVE, c""))?;
    at("change the root to", sys::chroot(c"."))?;
    at("enter", sys::chdir(c"/"))?;
    if let Some(name) = task.hostname {
        sys::set_hostname(name.to_bytes())
            .map_err(|errno| Failure::new("name the guest", name.to_bytes(), errno))?;
    }
    Ok(())
}

/// How much can be written: all but what the kernel and programs need, and at least the half.
fn writable_bytes(memory_bytes: u64) -> u64 {
    const KEPT: u64 = 96 << 20;
    memory_bytes.saturating_sub(KEPT).max(memory_bytes / 2)
}

fn mount(kind: &CStr, source: &CStr, place: &CStr, options: &CStr) -> Result<(), Failure> {
    sys::mount(source, place, kind, 0, options)
        .map(drop)
        .map_err(|errno| Failure::new("mount", kind.to_bytes(), errno))
}

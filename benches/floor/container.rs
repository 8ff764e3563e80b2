//! The floor under a container's start: the kernel calls that a container over the host's files cannot
//! do without, written by hand, in order, and nothing else.
//!
//! `container [--quota-us N] [--memory BYTES] [--pids N] PROGRAM [ARGUMENTS]`: cgroup → clone3 →
//! overlay root → /proc, /dev, /sys → pivot_root → fewer capabilities → execve in a child of init. It
//! exits with the program's status, or with 1 after saying which call failed. A quota counts in periods
//! of 100 ms. It has to run as root, `PROGRAM` is a path, and nobody cleans up when it is killed.
//!
//! What `ringside run --in container -- PROGRAM` takes beyond this is what the runtime costs.
//! (`man 2 clone3`, `man 2 mount`, `man 2 pivot_root`, the kernel's `filesystems/overlayfs.rst`.)
//!
//! Built by `../build.rs` with the standard library alone, and embedded.

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::ptr::{null, null_mut};

// The C library is there already: the standard library links it.
unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn clone(
        child: extern "C" fn(*mut c_void) -> c_int,
        stack: *mut u8,
        flags: c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: u64,
        data: *const c_char,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn mkdir(path: *const c_char, mode: u32) -> c_int;
    fn mknod(path: *const c_char, mode: u32, device: u64) -> c_int;
    fn symlink(target: *const c_char, path: *const c_char) -> c_int;
    fn chdir(path: *const c_char) -> c_int;
    fn umask(mask: u32) -> u32;
    fn unshare(flags: c_int) -> c_int;
    fn sethostname(name: *const c_char, length: usize) -> c_int;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn ioctl(fd: c_int, request: u64, ...) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn setsid() -> c_int;
    fn execve(
        path: *const c_char,
        arguments: *const *const c_char,
        environment: *const *const c_char,
    ) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    static environ: *const *const c_char;
}

// Numbers of system calls on x86-64.
const SYS_CLOSE: c_long = 3;
const SYS_CAPSET: c_long = 126;
const SYS_PIVOT_ROOT: c_long = 155;
const SYS_KEYCTL: c_long = 250;
const SYS_CLONE3: c_long = 435;
const SYS_CLOSE_RANGE: c_long = 436;

const CLONE_VM: c_int = 0x100;
const CLONE_VFORK: c_int = 0x4000;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWCGROUP: c_int = 0x200_0000;
const CLONE_NEWUTS: u64 = 0x400_0000;
const CLONE_NEWIPC: u64 = 0x800_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
const CLONE_INTO_CGROUP: u64 = 1 << 33;
const SIGCHLD: c_int = 17;

const MS_RDONLY: u64 = 1;
const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_REC: u64 = 16384;
const MS_PRIVATE: u64 = 1 << 18;
const QUIET: u64 = MS_NOSUID | MS_NODEV | MS_NOEXEC;
const MNT_DETACH: c_int = 2;

const PR_SET_PDEATHSIG: c_int = 1;
const PR_SET_DUMPABLE: c_int = 4;
const PR_CAPBSET_DROP: c_int = 24;
const PR_SET_NO_NEW_PRIVS: c_int = 38;
const SIOCSIFFLAGS: u64 = 0x8914;

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
/// SYS_CHROOT, AUDIT_WRITE, SETFCAP.
const KEPT_CAPABILITIES: u32 = 0xa004_25fb;

/// `struct clone_args` of <linux/sched.h>: flags, pidfd, child_tid, parent_tid, exit_signal, stack,
/// stack_size, tls, set_tid, set_tid_size, cgroup.
type CloneArguments = [u64; 11];

/// `struct ifreq` of <linux/if.h>, as far as SIOCSIFFLAGS reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// What the command line asks for.
struct Wish {
    limits: [Option<u64>; 3],
    command: Vec<CString>,
}

/// The container's directories in the cgroup file systems, to be written to and removed.
struct Groups {
    paths: Vec<String>,
    /// Version 1: the files by which init enters.
    doors: Vec<fs::File>,
    /// Version 2: where init is born.
    cradle: Option<OwnedFd>,
}

fn main() {
    let status = run().unwrap_or_else(|error| {
        eprintln!("{error}");
        1
    });
    std::process::exit(status)
}

/// The container's life; returns the program's status.
fn run() -> io::Result<i32> {
    let wish = wish()?;
    let lowers = lowers()?;
    let groups = groups(&wish.limits)?;
    let mut arguments: CloneArguments = [0; 11];
    arguments[0] = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;
    arguments[4] = SIGCHLD as u64;
    if let Some(cradle) = &groups.cradle {
        arguments[0] |= CLONE_INTO_CGROUP;
        arguments[10] = cradle.as_raw_fd() as u64;
    }
    // SAFETY: a fork: the child goes on with a copy of this stack and never returns from this block.
    let init = unsafe { syscall(SYS_CLONE3, arguments.as_ptr(), size_of::<CloneArguments>()) };
    if init == 0 {
        let status = container(&lowers, &groups.doors, &wish.command).unwrap_or_else(|error| {
            eprintln!("{error}");
            1
        });
        // SAFETY: never returns; nothing of the parent's runs here.
        unsafe { _exit(status) }
    }
    let status = wait(done("clone3", init as c_int)?)?;
    for path in &groups.paths {
        fs::remove_dir(path)?;
    }
    Ok(status)
}

fn wish() -> io::Result<Wish> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let mut limit = |name: &str| {
        arguments.next_if(|it| it == name)?;
        arguments.next()?.to_str()?.parse().ok()
    };
    let limits = [limit("--quota-us"), limit("--memory"), limit("--pids")];
    let command: Result<Vec<CString>, _> =
        arguments.map(|it| CString::new(it.into_vec())).collect();
    Ok(Wish {
        limits,
        command: command?,
    })
}

/// The host's mounts of files, which the container sees through overlays: the root and the others.
fn lowers() -> io::Result<Vec<String>> {
    let mut points = vec!["/".to_owned()];
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let point = line.split(' ').nth(4).unwrap_or("/");
        let own = ["/proc", "/sys", "/dev"]
            .iter()
            .any(|own| Path::new(point).starts_with(own));
        if !own && !points.iter().any(|it| it == point) {
            points.push(point.to_owned());
        }
    }
    Ok(points)
}

fn groups(limits: &[Option<u64>; 3]) -> io::Result<Groups> {
    let mut groups = Groups {
        paths: Vec::new(),
        doors: Vec::new(),
        cradle: None,
    };
    if limits.iter().all(Option::is_none) {
        return Ok(groups);
    }
    let name = format!("floor-{}", std::process::id());
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let path = format!("/sys/fs/cgroup/{name}");
        fs::write(
            "/sys/fs/cgroup/cgroup.subtree_control",
            "+cpu +memory +pids",
        )?;
        fs::create_dir(&path)?;
        for (file, limit) in ["cpu.max", "memory.max", "pids.max"].iter().zip(limits) {
            if let Some(limit) = limit {
                fs::write(format!("{path}/{file}"), limit.to_string())?;
            }
        }
        groups.cradle = Some(fs::File::open(&path)?.into());
        groups.paths.push(path);
    } else {
        let files = [
            "cpu/{}/cpu.cfs_quota_us",
            "memory/{}/memory.limit_in_bytes",
            "pids/{}/pids.max",
        ];
        for (file, limit) in files.iter().zip(limits) {
            let Some(limit) = limit else { continue };
            let file = format!("/sys/fs/cgroup/{}", file.replace("{}", &name));
            let path = file
                .rsplit_once('/')
                .map_or("", |(path, _)| path)
                .to_owned();
            fs::create_dir(&path)?;
            fs::write(file, limit.to_string())?;
            groups.doors.push(
                fs::OpenOptions::new()
                    .write(true)
                    .open(format!("{path}/tasks"))?,
            );
            groups.paths.push(path);
        }
    }
    Ok(groups)
}

/// Init's part: from a clone in new namespaces to the command's status.
fn container(lowers: &[String], doors: &[fs::File], command: &[CString]) -> io::Result<c_int> {
    for mut door in doors {
        io::Write::write_all(&mut door, b"0")?;
    }
    // SAFETY (this function): paths and names are C strings that live across each call, structures have
    // the layout that the kernel reads, and closing descriptors happens in a process that uses none.
    unsafe {
        done(
            "close_range",
            syscall(SYS_CLOSE_RANGE, 3, u32::MAX, 0) as c_int,
        )?;
        done("prctl", prctl(PR_SET_PDEATHSIG, 9))?;
        done("prctl", prctl(PR_SET_DUMPABLE, 0))?;
        done("keyctl", syscall(SYS_KEYCTL, 1, null::<c_char>()) as c_int)?;
        done("sethostname", sethostname(c"ringside".as_ptr(), 8))?;
        done("unshare", unshare(CLONE_NEWCGROUP))?;
        loopback_up()?;
        bind(None, "/", MS_REC | MS_PRIVATE)?;
        umask(0);
        file_system("tmpfs", "/proc", MS_NOSUID | MS_NODEV, "mode=755")?;
        done("chdir", chdir(c"/proc".as_ptr()))?;
        make_directory("root")?;
        make_directory("empty")?;
        for (index, lower) in lowers.iter().enumerate() {
            for directory in ["", "/upper", "/work"] {
                make_directory(&format!("{index}{directory}"))?;
            }
            let options = format!("lowerdir={lower},upperdir={index}/upper,workdir={index}/work");
            file_system("overlay", &format!("root{lower}"), MS_NODEV, &options)?;
        }
        file_system("proc", "root/proc", QUIET, "")?;
        devices()?;
        file_system("sysfs", "root/sys", QUIET | MS_RDONLY, "")?;
        cover()?;
        done("chdir", chdir(c"root".as_ptr()))?;
        done(
            "pivot_root",
            syscall(SYS_PIVOT_ROOT, c".".as_ptr(), c".".as_ptr()) as c_int,
        )?;
        done("umount2", umount2(c".".as_ptr(), MNT_DETACH))?;
        done("chdir", chdir(c"/".as_ptr()))?;
        for capability in (0..=40).filter(|bit| u64::from(KEPT_CAPABILITIES) & 1 << bit == 0) {
            done(
                "prctl",
                prctl(PR_CAPBSET_DROP, capability as u64, 0u64, 0u64, 0u64),
            )?;
        }
        let header = [0x2008_0522_u32, 0];
        let sets = [KEPT_CAPABILITIES, KEPT_CAPABILITIES, 0, 0, 0, 0];
        done(
            "capset",
            syscall(SYS_CAPSET, header.as_ptr(), sets.as_ptr()) as c_int,
        )?;
        done("prctl", prctl(PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64))?;
        umask(0o022);
    }
    start(command)
}

unsafe fn loopback_up() -> io::Result<()> {
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: 1,
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: the request has the layout that the kernel reads.
    unsafe {
        let socket = done("socket", socket(2, 2, 0))?;
        done("ioctl", ioctl(socket, SIOCSIFFLAGS, &raw const request))?;
        syscall(SYS_CLOSE, socket);
    }
    Ok(())
}

fn devices() -> io::Result<()> {
    file_system(
        "tmpfs",
        "root/dev",
        MS_NOSUID | MS_NOEXEC,
        "mode=755,size=64k",
    )?;
    let nodes = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    for (name, major, minor) in nodes {
        let path = c_string(&format!("root/dev/{name}"));
        // SAFETY: a C string and integers.
        done("mknod", unsafe {
            mknod(path.as_ptr(), 0o020666, major << 8 | minor)
        })?;
    }
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (target, name) in links {
        let (target, path) = (c_string(target), c_string(&format!("root/dev/{name}")));
        // SAFETY: two C strings.
        done("symlink", unsafe {
            symlink(target.as_ptr(), path.as_ptr())
        })?;
    }
    make_directory("root/dev/pts")?;
    file_system(
        "devpts",
        "root/dev/pts",
        MS_NOSUID | MS_NOEXEC,
        "ptmxmode=666,mode=620,gid=5",
    )?;
    make_directory("root/dev/shm")?;
    file_system("tmpfs", "root/dev/shm", QUIET, "mode=1777")
}

/// Covers, or makes read-only, what no namespace divides. Not every host has all of it.
fn cover() -> io::Result<()> {
    bind(Some("empty"), "empty", MS_BIND)?;
    bind(None, "empty", MS_REMOUNT | MS_BIND | MS_RDONLY | QUIET)?;
    for file in [
        "kcore",
        "keys",
        "latency_stats",
        "timer_list",
        "sched_debug",
    ] {
        absent_is_fine(bind(
            Some("root/dev/null"),
            &format!("root/proc/{file}"),
            MS_BIND,
        ))?;
    }
    for directory in [
        "proc/acpi",
        "proc/asound",
        "proc/scsi",
        "sys/firmware",
        "sys/devices/virtual/powercap",
    ] {
        absent_is_fine(bind(Some("empty"), &format!("root/{directory}"), MS_BIND))?;
    }
    for path in ["bus", "fs", "irq", "sys", "sysrq-trigger"] {
        let path = format!("root/proc/{path}");
        absent_is_fine(bind(Some(&path), &path, MS_BIND))?;
        absent_is_fine(bind(None, &path, MS_REMOUNT | MS_BIND | MS_RDONLY | QUIET))?;
    }
    Ok(())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(error)
        }
    })
}

/// Starts the command as a child of init and gives its status.
fn start(command: &[CString]) -> io::Result<c_int> {
    let pointers: Vec<*const c_char> = command
        .iter()
        .map(|it| it.as_ptr())
        .chain([null()])
        .collect();
    let mut stack = vec![0u128; 2048];
    // SAFETY: the child borrows this memory until it has executed (CLONE_VFORK), on a stack of its own,
    // and does nothing but execute.
    let pid = done("clone", unsafe {
        clone(
            execute,
            stack.as_mut_ptr_range().end.cast(),
            CLONE_VM | CLONE_VFORK | SIGCHLD,
            pointers.as_ptr() as *mut c_void,
        )
    })?;
    // SAFETY: takes nothing.
    unsafe { setsid() };
    wait(pid)
}

extern "C" fn execute(pointers: *mut c_void) -> c_int {
    let pointers = pointers as *const *const c_char;
    // SAFETY: an array of C strings that ends in a null pointer; its first is the path.
    unsafe { execve(*pointers, pointers, environ) };
    127
}

fn wait(pid: c_int) -> io::Result<c_int> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    done("waitpid", unsafe { waitpid(pid, &raw mut status, 0) })?;
    Ok(if status & 0x7f == 0 {
        status >> 8 & 0xff
    } else {
        128 + (status & 0x7f)
    })
}

fn file_system(kind: &str, target: &str, flags: u64, options: &str) -> io::Result<()> {
    let (kind, target, options) = (c_string(kind), c_string(target), c_string(options));
    // SAFETY: C strings that live across the call.
    let result = unsafe {
        mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr(),
        )
    };
    done("mount", result).map(drop)
}

fn bind(source: Option<&str>, target: &str, flags: u64) -> io::Result<()> {
    let (source, target) = (source.map(c_string), c_string(target));
    let source = source.as_ref().map_or(null(), |it| it.as_ptr());
    // SAFETY: C strings that live across the call, or null where the kernel reads none.
    done("mount", unsafe {
        mount(source, target.as_ptr(), null_mut(), flags, null())
    })
    .map(drop)
}

fn make_directory(path: &str) -> io::Result<()> {
    // SAFETY: a C string that lives across the call.
    done("mkdir", unsafe { mkdir(c_string(path).as_ptr(), 0o755) }).map(drop)
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("no path of the kernel's or of ours has a NUL byte")
}

/// The result, or the name of the call that gave -1.
fn done(call: &str, result: c_int) -> io::Result<c_int> {
    if result >= 0 {
        return Ok(result);
    }
    let error = io::Error::last_os_error();
    Err(io::Error::new(error.kind(), format!("{call}: {error}")))
}

//! The floor under `ringside-oci run`: the kernel calls that the configuration which `spec` writes asks
//! for, written by hand, in order, and nothing else. Linked statically.
//!
//! `bundle ROOTFS PROGRAM [ARGUMENTS]`: cgroup → clone3 → bind of the root → its seven mounts → masked
//! and read-only paths → pivot_root → fewer capabilities → execve. It parses nothing, remembers nothing
//! and cleans up nothing but its cgroup; it exits with the program's status. It has to run as root.
//!
//! Built by `../build.rs` with the standard library alone, and embedded.

use std::ffi::{CString, c_char, c_int, c_long};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::null;

// The C library is there already: the standard library links it.
unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn _exit(status: c_int) -> !;
}

// Numbers of system calls on x86-64.
const SOCKET: c_long = 41;
const IOCTL: c_long = 16;
const EXECVE: c_long = 59;
const WAIT4: c_long = 61;
const CHDIR: c_long = 80;
const UMASK: c_long = 95;
const SETSID: c_long = 112;
const CAPSET: c_long = 126;
const MKNOD: c_long = 133;
const PIVOT_ROOT: c_long = 155;
const PRCTL: c_long = 157;
const SETRLIMIT: c_long = 160;
const MOUNT: c_long = 165;
const UMOUNT2: c_long = 166;
const SETHOSTNAME: c_long = 170;
const KEYCTL: c_long = 250;
const UNSHARE: c_long = 272;
const BPF: c_long = 321;
const CLONE3: c_long = 435;
const CLOSE_RANGE: c_long = 436;
const MOUNT_SETATTR: c_long = 442;

const CLONE_NEWCGROUP: u64 = 0x200_0000;
/// Mounts, host name, System V objects, processes, network.
const NAMESPACES: u64 = 0x2_0000 | 0x400_0000 | 0x800_0000 | 0x2000_0000 | 0x4000_0000;
const CLONE_INTO_CGROUP: u64 = 1 << 33;
const SIGCHLD: u64 = 17;

const MS_RDONLY: u64 = 1;
const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_BIND: u64 = 4096;
const MS_REC: u64 = 16384;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_STRICTATIME: u64 = 1 << 24;
const QUIET: u64 = MS_NOSUID | MS_NODEV | MS_NOEXEC;
const ATTRIBUTE_RDONLY: u64 = 1;
const ATTRIBUTES_QUIET: u64 = 2 | 4 | 8;
const MNT_DETACH: u64 = 2;

/// AUDIT_WRITE, KILL, NET_BIND_SERVICE.
const KEPT_CAPABILITIES: u32 = 1 << 29 | 1 << 5 | 1 << 10;
/// c *:* m, b *:* m, null, random, full, tty, zero, urandom, terminals, ptmx.
const DEVICES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
];
const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
const READ_ONLY: [&str; 5] = [
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];
const MASKED: [&str; 10] = [
    "proc/acpi",
    "proc/asound",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "sys/firmware",
    "proc/scsi",
];

/// The container's directories in the cgroup file systems.
struct Groups {
    paths: Vec<String>,
    /// Version 1: the files by which init enters.
    doors: Vec<File>,
    /// Version 2: where init is born, which spares it a wait at the door.
    cradle: Option<File>,
    /// Whether there is nothing but version 2.
    is_unified: bool,
}

fn main() {
    let status = run().unwrap_or_else(|error| {
        eprintln!("{error}");
        1
    });
    std::process::exit(status)
}

fn run() -> io::Result<i32> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().unwrap_or_default();
    let command: Vec<CString> = arguments.map(|it| text(&it)).collect();
    let groups = groups()?;
    // `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    // set_tid, set_tid_size, cgroup.
    let mut clone = [0u64; 11];
    clone[0] = NAMESPACES;
    clone[4] = SIGCHLD;
    if let Some(cradle) = &groups.cradle {
        clone[0] |= CLONE_INTO_CGROUP;
        clone[10] = cradle.as_raw_fd() as u64;
    }
    let init = call(
        "clone3",
        CLONE3,
        [clone.as_ptr() as u64, size_of_val(&clone) as u64, 0, 0, 0],
    )?;
    if init == 0 {
        if let Err(error) = container(&root, &groups, &command) {
            eprintln!("{error}");
        }
        // SAFETY: never returns; nothing of the parent's runs here.
        unsafe { _exit(1) }
    }
    let mut status = 0i32;
    call(
        "wait4",
        WAIT4,
        [init as u64, &raw mut status as u64, 0, 0, 0],
    )?;
    for path in &groups.paths {
        fs::remove_dir(path)?;
    }
    Ok(if status & 0x7f == 0 {
        status >> 8 & 0xff
    } else {
        128 + (status & 0x7f)
    })
}

/// One directory in each hierarchy, and the device rules.
fn groups() -> io::Result<Groups> {
    let mut groups = Groups {
        paths: Vec::new(),
        doors: Vec::new(),
        cradle: None,
        is_unified: false,
    };
    let name = format!("floor-{}", std::process::id());
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        let path = top.join(&name).display().to_string();
        fs::create_dir(&path)?;
        let cradle = File::open(&path)?;
        guard_devices(&cradle)?;
        groups.cradle = Some(cradle);
        groups.is_unified = true;
        groups.paths.push(path);
        return Ok(groups);
    }
    for hierarchy in [
        "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "unified",
    ] {
        let (above, path) = (top.join(hierarchy), top.join(hierarchy).join(&name));
        fs::create_dir(&path)?;
        if hierarchy == "cpuset" {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(path.join(file), fs::read(above.join(file))?)?;
            }
        }
        if hierarchy == "devices" {
            fs::write(path.join("devices.deny"), "a")?;
            let mut allow = OpenOptions::new()
                .write(true)
                .open(path.join("devices.allow"))?;
            for rule in DEVICES {
                allow.write_all(rule.as_bytes())?;
            }
        }
        if hierarchy == "unified" {
            groups.cradle = Some(File::open(&path)?);
        } else {
            let door = OpenOptions::new().write(true).open(path.join("tasks"))?;
            groups.doors.push(door);
        }
        groups.paths.push(path.display().to_string());
    }
    Ok(groups)
}

/// Version 2: the kernel asks a program about devices.
fn guard_devices(group: &File) -> io::Result<()> {
    let program = device_program();
    // `union bpf_attr`: type BPF_PROG_TYPE_CGROUP_DEVICE and length, program, license.
    let load = [
        15 | (program.len() as u64) << 32,
        program.as_ptr() as u64,
        c"Apache-2.0".as_ptr() as u64,
    ];
    let (load, size) = (load.as_ptr() as u64, size_of_val(&load) as u64);
    let loaded = call("bpf", BPF, [5, load, size, 0, 0])?;
    // Group and program; BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI.
    let attach = [
        group.as_raw_fd() as u64 | (loaded as u64) << 32,
        6 | 2 << 32,
    ];
    let (attach, size) = (attach.as_ptr() as u64, size_of_val(&attach) as u64);
    call("bpf", BPF, [8, attach, size, 0, 0]).map(drop)
}

/// The rules as instructions: operation, registers (source and destination), jump, value. They read
/// `struct bpf_cgroup_dev_ctx`: r2 is the kind, r3 the access that is asked for, r4 and r5 the numbers.
fn device_program() -> Vec<u64> {
    let op = |code: u64, registers: u64, jump: usize, value: u32| {
        code | registers << 8 | (jump as u64) << 16 | u64::from(value) << 32
    };
    let answer = |allowed| [op(0xb4, 0, 0, allowed), op(0x95, 0, 0, 0)];
    let mut program = vec![
        op(0x61, 0x12, 0, 0),
        op(0xbc, 0x23, 0, 0),
        op(0x54, 2, 0, 0xffff),
        op(0x74, 3, 0, 16),
        op(0x61, 0x14, 4, 0),
        op(0x61, 0x15, 8, 0),
    ];
    for rule in DEVICES {
        let words: Vec<&str> = rule.split([' ', ':']).collect();
        let kind = if words[0] == "b" { 1 } else { 2 };
        let access = if words[3] == "m" { 1u32 } else { 7 };
        let numbers = [4, 5].into_iter().zip(&words[1..3]);
        let numbers = numbers.filter_map(|(register, word)| Some((register, word.parse().ok()?)));
        let tests: Vec<(u64, u32)> = [(2, kind)].into_iter().chain(numbers).collect();
        for (at, (register, value)) in tests.iter().enumerate() {
            // Unless it is equal, on to the next rule.
            program.push(op(0x55, *register, tests.len() - at + 3, *value));
        }
        program.extend([op(0x54, 3, 0, !access), op(0x55, 3, 2, 0)]);
        program.extend(answer(1));
    }
    program.extend(answer(0));
    program
}

/// Init's part, from the clone to the program.
fn container(root: &str, groups: &Groups, command: &[CString]) -> io::Result<()> {
    for mut door in &groups.doors {
        door.write_all(b"0")?;
    }
    call("close_range", CLOSE_RANGE, [3, u32::MAX.into(), 0, 0, 0])?;
    call("setsid", SETSID, [0; 5])?;
    call("keyctl", KEYCTL, [1, 0, 0, 0, 0])?;
    call("unshare", UNSHARE, [CLONE_NEWCGROUP, 0, 0, 0, 0])?;
    // `struct ifreq`: a name of 16 bytes, then the flags, here IFF_UP.
    let mut request = [0u8; 40];
    (request[..2].copy_from_slice(b"lo"), request[16] = 1);
    let socket = call("socket", SOCKET, [2, 2, 0, 0, 0])?;
    call(
        "ioctl",
        IOCTL,
        [socket as u64, 0x8914, request.as_ptr() as u64, 0, 0],
    )?;
    call(
        "sethostname",
        SETHOSTNAME,
        [c"floor".as_ptr() as u64, 5, 0, 0, 0],
    )?;
    call("umask", UMASK, [0; 5])?;

    mount("", "/", "", MS_SLAVE | MS_REC, "")?;
    mount(root, root, "", MS_BIND | MS_REC, "")?;
    mount("", root, "", MS_PRIVATE, "")?;
    call("chdir", CHDIR, [text(root).as_ptr() as u64, 0, 0, 0, 0])?;
    mount("proc", "proc", "proc", 0, "")?;
    mount(
        "tmpfs",
        "dev",
        "tmpfs",
        MS_NOSUID | MS_STRICTATIME,
        "mode=755,size=65536k",
    )?;
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(format!("dev/{name}"))?;
    }
    mount(
        "devpts",
        "dev/pts",
        "devpts",
        MS_NOSUID | MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    mount("shm", "dev/shm", "tmpfs", QUIET, "mode=1777,size=65536k")?;
    mount("mqueue", "dev/mqueue", "mqueue", QUIET, "")?;
    mount("sysfs", "sys", "sysfs", QUIET | MS_RDONLY, "")?;
    if groups.is_unified {
        mount("cgroup", "sys/fs/cgroup", "cgroup2", QUIET | MS_RDONLY, "")?;
    } else {
        mount("tmpfs", "sys/fs/cgroup", "tmpfs", QUIET, "mode=755")?;
        for path in &groups.paths {
            let target = format!(
                "sys/fs/cgroup/{}",
                path.split('/').nth(4).unwrap_or_default()
            );
            fs::create_dir(&target)?;
            mount(path, &target, "", MS_BIND, "")?;
            set_attributes(&target, ATTRIBUTE_RDONLY | ATTRIBUTES_QUIET)?;
        }
        set_attributes("sys/fs/cgroup", ATTRIBUTE_RDONLY)?;
    }
    for (name, major, minor) in NODES {
        let path = text(&format!("dev/{name}"));
        call(
            "mknod",
            MKNOD,
            [path.as_ptr() as u64, 0o020666, major << 8 | minor, 0, 0],
        )?;
    }
    for (target, name) in LINKS {
        std::os::unix::fs::symlink(target, format!("dev/{name}"))?;
    }
    for path in READ_ONLY {
        if there_is(mount(path, path, "", MS_BIND | MS_REC, ""))? {
            set_attributes(path, ATTRIBUTE_RDONLY)?;
        }
    }
    for path in MASKED {
        match fs::metadata(path) {
            Ok(it) if it.is_dir() => {
                mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k,nr_inodes=2")?
            }
            Ok(_) => mount("/dev/null", path, "", MS_BIND, "")?,
            Err(_) => {}
        }
    }
    let here = c".".as_ptr() as u64;
    call("pivot_root", PIVOT_ROOT, [here, here, 0, 0, 0])?;
    mount("", ".", "", MS_SLAVE | MS_REC, "")?;
    call("umount2", UMOUNT2, [here, MNT_DETACH, 0, 0, 0])?;
    call("chdir", CHDIR, [c"/".as_ptr() as u64, 0, 0, 0, 0])?;
    set_attributes("/", ATTRIBUTE_RDONLY)?;
    call(
        "setrlimit",
        SETRLIMIT,
        [7, [1024u64; 2].as_ptr() as u64, 0, 0, 0],
    )?;
    call("umask", UMASK, [0o022, 0, 0, 0, 0])?;
    for capability in (0..=40u64).filter(|bit| u64::from(KEPT_CAPABILITIES) & 1 << bit == 0) {
        call("prctl", PRCTL, [24, capability, 0, 0, 0])?; // PR_CAPBSET_DROP
    }
    let header = [0x2008_0522_u32, 0];
    let sets = [KEPT_CAPABILITIES, KEPT_CAPABILITIES, 0, 0, 0, 0];
    call(
        "capset",
        CAPSET,
        [header.as_ptr() as u64, sets.as_ptr() as u64, 0, 0, 0],
    )?;
    call("prctl", PRCTL, [38, 1, 0, 0, 0])?; // PR_SET_NO_NEW_PRIVS
    let pointers: Vec<*const c_char> = command
        .iter()
        .map(|it| it.as_ptr())
        .chain([null()])
        .collect();
    let nothing = [null::<c_char>()];
    let program = [
        pointers[0] as u64,
        pointers.as_ptr() as u64,
        nothing.as_ptr() as u64,
        0,
        0,
    ];
    call("execve", EXECVE, program).map(drop)
}

fn mount(source: &str, target: &str, kind: &str, flags: u64, options: &str) -> io::Result<()> {
    let strings = [source, target, kind, options].map(text);
    let [source, target, kind, options] = strings.each_ref().map(|it| it.as_ptr() as u64);
    call("mount", MOUNT, [source, target, kind, flags, options]).map(drop)
}

fn set_attributes(path: &str, set: u64) -> io::Result<()> {
    // `struct mount_attr`: set, cleared, propagation, user namespace. The first argument is AT_FDCWD.
    let attributes = [set, 0, 0, 0];
    let (path, size) = (text(path), size_of_val(&attributes) as u64);
    let arguments = [
        -100i64 as u64,
        path.as_ptr() as u64,
        0,
        attributes.as_ptr() as u64,
        size,
    ];
    call("mount_setattr", MOUNT_SETATTR, arguments).map(drop)
}

/// Not every host has all of what is covered.
fn there_is(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

fn text(text: &str) -> CString {
    CString::new(text).expect("no path of the kernel's or of ours has a NUL byte")
}

fn call(name: &str, number: c_long, a: [u64; 5]) -> io::Result<c_long> {
    // SAFETY: every pointer among the arguments is to memory that lives across the call and has the
    // layout that the kernel reads or writes there; the child of `clone3` goes on with a copy of this
    // stack, and descriptors that are closed are used no more.
    let result = unsafe { syscall(number, a[0], a[1], a[2], a[3], a[4]) };
    if result >= 0 {
        return Ok(result);
    }
    let error = io::Error::last_os_error();
    Err(io::Error::new(error.kind(), format!("{name}: {error}")))
}

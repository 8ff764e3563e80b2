//! `/proc`, `/dev` and `/sys` of a container: the kernel seen through its namespaces, with the parts
//! shut that no namespace divides (OCI runtime specification, "Default Filesystems", "Default Devices").

use nix::mount::MsFlags;

use super::overlay::{directory, pivot};
use crate::host::Host;
use crate::plan::call::{Call, text};
use crate::plan::step::{Otherwise, Step};

/// The character devices that every program may count on, with their numbers
/// (`Documentation/admin-guide/devices.txt`).
const DEVICES: [(&str, (u32, u32)); 6] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
];

/// Links that every program may count on.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Files of the kernel's that show or change the whole machine: covered by `/dev/null`.
const MASKED_FILES: [&str; 5] = [
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/sched_debug",
];

/// Directories of that sort: covered by an empty one.
const MASKED_DIRECTORIES: [&str; 5] = [
    "proc/acpi",
    "proc/asound",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
];

/// Paths to look at but not to write: sysctls without a namespace, interrupts, buses.
const READ_ONLY: [&str; 5] = [
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];

const QUIET: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// The steps from an assembled root to the final one.
pub fn steps(host: &Host) -> Vec<Step> {
    vec![
        Step::init(
            "mount a proc of its own",
            "it shows the processes of the PID namespace that mounts it",
            vec![mount("proc", "root/proc", QUIET, None)],
        ),
        devices(host),
        Step::init(
            "mount a read-only sysfs of its own",
            "it shows the network interfaces of the network namespace that mounts it",
            vec![mount("sysfs", "root/sys", QUIET | MsFlags::MS_RDONLY, None)],
        ),
        mask(),
        read_only(),
        pivot(),
    ]
}

fn mount(kind: &str, target: &str, flags: MsFlags, data: Option<&str>) -> Call {
    Call::Mount {
        source: Some(text(kind)),
        target: text(target),
        kind: Some(text(kind)),
        flags,
        data: data.map(text),
    }
}

fn bind(source: &str, target: &str) -> Call {
    Call::Mount {
        source: Some(text(source)),
        target: text(target),
        kind: None,
        flags: MsFlags::MS_BIND,
        data: None,
    }
}

/// A bind mount takes its flags in a second call.
fn make_read_only(target: &str) -> Call {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | QUIET;
    Call::Mount {
        source: None,
        target: text(target),
        kind: None,
        flags,
        data: None,
    }
}

/// Root makes device nodes; a user, whom the kernel does not let, borrows the host's.
fn devices(host: &Host) -> Step {
    let mut calls = vec![mount(
        "tmpfs",
        "root/dev",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("mode=755,size=64k"),
    )];
    for (name, device) in DEVICES {
        let path = format!("root/dev/{name}");
        if host.is_privileged {
            calls.push(Call::MakeDevice {
                path: text(path),
                device,
            });
        } else {
            calls.push(Call::MakeFile {
                path: text(path.as_str()),
            });
            calls.push(bind(&format!("/dev/{name}"), &path));
        }
    }
    for (target, name) in LINKS {
        calls.push(Call::Link {
            target: text(target),
            path: text(format!("root/dev/{name}")),
        });
    }
    // Group 5 is `tty`; the one group of an unprivileged container is root.
    let pts_options = if host.is_privileged {
        "ptmxmode=666,mode=620,gid=5"
    } else {
        "ptmxmode=666,mode=620"
    };
    calls.extend([
        directory("root/dev/pts"),
        mount(
            "devpts",
            "root/dev/pts",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            Some(pts_options),
        ),
        directory("root/dev/shm"),
        mount("tmpfs", "root/dev/shm", QUIET, Some("mode=1777")),
    ]);
    Step::init(
        "make a minimal /dev",
        "the host's would reach its disks",
        calls,
    )
}

fn mask() -> Step {
    let files = MASKED_FILES
        .iter()
        .map(|path| bind("root/dev/null", &format!("root/{path}")));
    let directories = MASKED_DIRECTORIES
        .iter()
        .map(|path| bind("empty", &format!("root/{path}")));
    let cover = [bind("empty", "empty"), make_read_only("empty")];
    Step::init(
        "mask what no namespace divides",
        "kernel memory, keys and firmware are the whole machine's",
        cover.into_iter().chain(files).chain(directories).collect(),
    )
    .or(Otherwise::PassAbsent)
}

fn read_only() -> Step {
    let calls = READ_ONLY.iter().flat_map(|path| {
        let path = format!("root/{path}");
        [bind(&path, &path), make_read_only(&path)]
    });
    Step::init(
        "make the kernel's switches read-only",
        "they are the whole machine's",
        calls.collect(),
    )
    .or(Otherwise::PassAbsent)
}

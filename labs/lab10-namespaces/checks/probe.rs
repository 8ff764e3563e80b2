//! What runs *inside* the container and tells what it sees. It is this same binary under another role,
//! bound into the container's root.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::sys::utsname::uname;
use nix::unistd::{chdir, chroot, fchdir, getpid, getppid};
use ringside_lab_harness::Role;

/// The programs.
pub const ROLES: &[Role] = &[
    Role {
        name: "report",
        run: report,
    },
    Role {
        name: "escape",
        run: escape,
    },
    Role {
        name: "orphans",
        run: orphans,
    },
    Role {
        name: "leave-orphan",
        run: leave_orphan,
    },
    Role {
        name: "brief",
        run: brief,
    },
    Role {
        name: "end",
        run: end,
    },
];

/// The kinds of namespace that a container of this lab has for itself, as `/proc/PID/ns` has them.
pub const OWN: [&str; 4] = ["mnt", "pid", "uts", "ipc"];

/// Says what this process sees, one `name value` a line.
fn report(arguments: &[OsString]) -> u8 {
    let mut lines = vec![
        ("pid".into(), getpid().to_string()),
        ("ppid".into(), getppid().to_string()),
        ("processes".into(), processes().len().to_string()),
        ("hostname".into(), name_of(|names| names.nodename())),
        ("kernel".into(), name_of(|names| names.release())),
        ("os".into(), first_line("/etc/os-release")),
        ("mounts".into(), mounts().len().to_string()),
        (
            "directory".into(),
            env::current_dir().unwrap_or_default().display().to_string(),
        ),
        ("word".into(), env::var("WORD").unwrap_or_default()),
        ("variables".into(), env::vars_os().count().to_string()),
        ("arguments".into(), arguments.len().to_string()),
        ("usr".into(), writable("/usr")),
        ("descriptors".into(), descriptors().len().to_string()),
    ];
    lines.extend(OWN.map(|kind| (format!("ns.{kind}"), namespace(kind))));
    for (name, value) in lines {
        println!("{name} {value}");
    }
    0
}

fn name_of(field: impl Fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr) -> String {
    uname().map_or_else(
        |_| String::new(),
        |names| field(&names).to_string_lossy().into_owned(),
    )
}

/// The inode of the calling process's namespace of this `kind`, as `mnt:[4026531841]`.
pub fn namespace(kind: &str) -> String {
    let link = fs::read_link(Path::new("/proc/self/ns").join(kind)).unwrap_or_default();
    link.display().to_string()
}

/// The first line of a file, or why not.
pub fn first_line(path: &str) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text.lines().next().unwrap_or_default().into(),
        Err(error) => format!("({error})"),
    }
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The mount points that this process sees.
pub fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let point = |line: &str| line.split(' ').nth(4).map(String::from);
    table.lines().filter_map(point).collect()
}

/// Whether the mount that `path` lies on forbids writing, to whomever.
fn writable(path: &str) -> String {
    match statvfs(path) {
        Ok(mount) if mount.flags().contains(FsFlags::ST_RDONLY) => "read-only".into(),
        Ok(_) => "writable".into(),
        Err(errno) => format!("{errno:?}"),
    }
}

/// Descriptors past the standard streams that were open before this program opened anything.
fn descriptors() -> Vec<u32> {
    let entries = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let open: Vec<u32> = entries
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    // The directory that was read was open too; it is closed by now.
    let still = |fd: &u32| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok();
    open.into_iter()
        .filter(|fd| *fd > 2)
        .filter(still)
        .collect()
}

/// Tries to write the name of each way out into a file of the host's, whose path there is the argument.
/// The host looks into the file afterwards.
fn escape(arguments: &[OsString]) -> u8 {
    let Some(marker) = arguments.first().map(Path::new) else {
        return 2;
    };
    let below = marker.strip_prefix("/").unwrap_or(marker);
    let attempt = |name: &str, path: &Path| {
        let write = || {
            OpenOptions::new()
                .write(true)
                .open(path)?
                .write_all(name.as_bytes())
        };
        println!("tried {name}: {:?}", write().map_err(|error| error.kind()));
    };
    attempt("the path itself", marker);
    let up: String = "/..".repeat(40);
    attempt("`..` from the root", &Path::new(&up).join(below));
    for process in processes() {
        // Process 1 of the host first; where it is out of reach, whoever started this container.
        let root = format!("/proc/{process}/root");
        attempt("/proc/PID/root", &Path::new(&root).join(below));
    }
    for fd in descriptors() {
        let open = format!("/proc/self/fd/{fd}");
        attempt("an open descriptor", &Path::new(&open).join(below));
    }
    for mount in mounts() {
        attempt("a mount that was left", &Path::new(&mount).join(below));
    }
    // The oldest of all: root may chroot, and a directory that is open does not move with it.
    let out = || -> nix::Result<()> {
        let root = File::open("/").map_err(|_| Errno::EIO)?;
        chroot("/proc")?;
        fchdir(&root)?;
        for _ in 0..40 {
            chdir("..")?;
        }
        chroot(".")
    };
    println!("tried chroot: {:?}", out());
    attempt("chroot and an open directory", marker);
    0
}

fn play(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap_or_default());
    // Everything inherited: nothing has to be opened, whatever /dev looks like in here.
    command.args(["--role", role]).stdin(Stdio::inherit());
    command
}

/// Has a grandchild left behind, and tells what becomes of it.
fn orphans(_: &[OsString]) -> u8 {
    let Ok(output) = play("leave-orphan").stderr(Stdio::inherit()).output() else {
        return 1;
    };
    let pid = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let stat = Path::new("/proc").join(&pid).join("stat");
    let mut last = String::from("never seen");
    // It lives for 50 ms; whoever is its parent by then has to wait for it, or it stays in the table.
    for _ in 0..1000 {
        let Ok(text) = fs::read_to_string(&stat) else {
            println!("orphan gone");
            return 0;
        };
        let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let mut fields = fields.split(' ');
        let (state, parent) = (fields.next().unwrap_or("?"), fields.next().unwrap_or("?"));
        last = format!("state {state}, parent {parent}");
        sleep(Duration::from_millis(5));
    }
    println!("orphan {last}");
    0
}

fn leave_orphan(_: &[OsString]) -> u8 {
    // Its standard output must not be our pipe, or the reader would wait for it.
    match play("brief").stdout(Stdio::from(std::io::stderr())).spawn() {
        Ok(child) => {
            println!("{}", child.id());
            0
        }
        Err(_) => 1,
    }
}

/// Ends with a status that no other process here has: a container that took it for its own would show it.
fn brief(_: &[OsString]) -> u8 {
    sleep(Duration::from_millis(50));
    3
}

/// Ends as it is told: `status N` or `signal N`.
fn end(arguments: &[OsString]) -> u8 {
    let number = arguments
        .get(1)
        .and_then(|number| number.to_str()?.parse().ok());
    let (Some(how), Some(number)) = (arguments.first(), number) else {
        return 2;
    };
    if how == "signal"
        && let Ok(signal) = Signal::try_from(i32::from(number))
    {
        let _ = raise(signal);
    }
    number
}

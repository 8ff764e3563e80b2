//! `ringside-oci` under those who call it: podman and containerd, as Debian has them.
//!
//! Each brings an image of its own, storage, state and sockets in a directory that goes with the test.

mod containerd;
mod podman;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

/// How a command went.
struct Went {
    code: i32,
    out: String,
    err: String,
}

impl Went {
    fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    fn from(
        Output {
            status,
            stdout,
            stderr,
        }: Output,
    ) -> Self {
        Self {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&stdout).replace(['\r', '\0'], ""),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Standard output of a command that has to succeed.
    #[track_caller]
    fn ok(self) -> String {
        self.with(0)
    }

    /// Standard output of a command that has to end so.
    #[track_caller]
    fn with(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.out
    }
}

/// Whether a test can run: who has to be there is.
fn is_here(programs: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return false;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let found = |it: &str| {
        path.split(':')
            .any(|directory| Path::new(directory).join(it).exists())
    };
    for program in programs {
        if !found(program) {
            eprintln!("skipped: {program} is not installed");
            return false;
        }
    }
    true
}

/// Runs a command in a terminal of its own. Its input stays open: at the end of it `script` types an end of
/// input, and podman may then leave before it has passed on what a program wrote (with any runtime).
fn in_terminal(command: &Command) -> Went {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|it| format!("'{}'", it.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script.args(["-qec", &words.join(" "), "/dev/null"]);
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap());
    }
    let streams = script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = streams.stderr(Stdio::piped()).spawn().unwrap();
    let _open = child.stdin.take();
    Went::from(child.wait_with_output().unwrap())
}

/// The name of the image in [`archive`].
const IMAGE: &str = "ringside.test/busybox:1";

/// Makes an image of one program, as `docker save` would.
fn archive(directory: &Path) -> String {
    let root = directory.join("image");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::create_dir_all(root.join("tmp")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let programs = [
        "cat", "echo", "false", "id", "ls", "pwd", "sh", "sleep", "true", "tty",
    ];
    for name in programs {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    std::fs::write(root.join("not-executable"), "").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        Went::of(Command::new(program).args(arguments).current_dir(directory)).ok()
    };
    run("tar", &["-C", "image", "-cf", "layer.tar", "."]);
    let sum = run("sha256sum", &["layer.tar"]);
    let layer = format!("sha256:{}", sum.split(' ').next().unwrap());
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    std::fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    run(
        "tar",
        &[
            "-cf",
            "image.tar",
            "manifest.json",
            "config.json",
            "layer.tar",
        ],
    );
    directory.join("image.tar").display().to_string()
}

/// A limit of the cgroup that a process is in, by its name in version 1 and in version 2.
fn limit(pid: &str, controller: &str, v1: &str, v2: &str) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next().unwrap(), fields.next().unwrap());
        let files = if names.split(',').any(|it| it == controller) {
            [
                format!("/sys/fs/cgroup/{controller}{path}/{v1}"),
                String::new(),
            ]
        } else if names.is_empty() {
            [
                format!("/sys/fs/cgroup{path}/{v2}"),
                format!("/sys/fs/cgroup/unified{path}/{v2}"),
            ]
        } else {
            continue;
        };
        if let Some(text) = files.iter().find_map(|it| std::fs::read_to_string(it).ok()) {
            return text.trim().into();
        }
    }
    panic!("no {controller} in {groups}");
}

/// Waits until `is_so`.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("it never happened: {what}");
}

/// Nothing that is named after the test is mounted, and no cgroup has a name with `id`.
#[track_caller]
fn is_gone(directory: &Path, id: &str) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let directory = directory.to_str().unwrap();
    assert!(!mounts.contains(directory), "{mounts}");
    let name = format!("*{id}*");
    let mut find = Command::new("find");
    let groups = Went::of(find.args(["/sys/fs/cgroup", "-type", "d", "-name", &name])).out;
    assert_eq!(groups, "");
}

/// Removes a cgroup and those below it from every hierarchy, as nobody else would, once whoever still ends in
/// them (conmon) has ended.
fn remove_groups(name: &str) {
    // Plain files too, where podman takes the tmpfs above the hierarchies for one of them. (Those of a
    // cgroup cannot be deleted, and go with it.)
    let path = format!("*/{name}*");
    let find = |what: &str| {
        let mut find = Command::new("find");
        Went::of(find.args(["/sys/fs/cgroup", "-path", &path, what])).out
    };
    for _ in 0..200 {
        find("-delete");
        if find("-print").is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

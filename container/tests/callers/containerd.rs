//! containerd, by its shim `io.containerd.runc.v2`, as Docker and Kubernetes use it.

use std::process::{Child, Command, Stdio};

use crate::{IMAGE, Went, archive, in_terminal, is_gone, is_here, limit, remove_groups, until};

struct Containerd {
    directory: tempfile::TempDir,
    daemon: Child,
}

impl Containerd {
    /// A containerd of our own with an image in it; none where there is no containerd.
    fn new() -> Option<Self> {
        if !is_here(&["containerd", "ctr", "containerd-shim-runc-v2", "busybox"]) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let configuration = format!(
            "version = 2\nroot = \"{path}/root\"\nstate = \"{path}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{path}/socket\"\n"
        );
        let file = directory.path().join("config.toml");
        std::fs::write(&file, configuration).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new("containerd");
        command.arg("-c").arg(file).stdin(Stdio::null());
        let daemon = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let it = Self { directory, daemon };
        until("containerd answers", || it.call(&["version"]).code == 0);
        let image = archive(it.directory.path());
        let import = ["image", "import", "--snapshotter", "native", &image];
        it.call(&import).ok();
        Some(it)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.directory.path().join("socket"));
        // Not `default`: its cgroup would stay.
        command.args(["--namespace", &name(self, "namespace")]);
        command.args(arguments);
        command
    }

    fn call(&self, arguments: &[&str]) -> Went {
        Went::of(&mut self.command(arguments))
    }

    /// The arguments of `ctr run` with this runtime.
    fn run<'a>(&'a self, state: &'a str, options: &[&'a str], program: &[&'a str]) -> Vec<&'a str> {
        let runtime = [
            "run",
            "--snapshotter",
            "native",
            "--runtime",
            "io.containerd.runc.v2",
            "--runc-binary",
            env!("CARGO_BIN_EXE_ringside-oci"),
            "--runc-root",
            state,
        ];
        [&runtime[..], options, &[IMAGE], program].concat()
    }

    /// The status of a task and its PID.
    fn task(&self, id: &str) -> Option<(String, String)> {
        let list = self.call(&["task", "list"]).ok();
        let line = list
            .lines()
            .find(|it| it.split_whitespace().next() == Some(id))?;
        let mut fields = line.split_whitespace().skip(1);
        let pid = fields.next()?.to_owned();
        Some((fields.next()?.to_owned(), pid))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in self.call(&["task", "list", "-q"]).out.lines() {
            let _ = self.call(&["task", "rm", "--force", id]);
        }
        let daemon = nix::unistd::Pid::from_raw(self.daemon.id() as i32);
        let _ = nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGTERM);
        let _ = self.daemon.wait();
        remove_groups(&name(self, "namespace"));
    }
}

/// A name for a container that no other test has.
fn name(it: &Containerd, what: &str) -> String {
    let directory = it.directory.path().file_name().unwrap().to_string_lossy();
    format!("{}-{what}", directory.trim_start_matches('.'))
}

#[test]
fn run_gives_output_and_status() {
    let Some(it) = Containerd::new() else { return };
    let state = it.directory.path().join("runtime");
    let state = state.to_str().unwrap();
    let id = name(&it, "run");
    let run = |options: &[&str], program: &[&str]| {
        let options = [&["--rm"], options].concat();
        it.call(&it.run(state, &options, &[&[id.as_str()], program].concat()))
    };
    // What it writes last may be lost when it ends at once: before containerd 1.6.22 ctr closes its end of
    // the streams as soon as the task has ended, with any runtime, and may be ahead of the shim that copies.
    let said = run(&[], &["sh", "-c", "echo out; sleep 0.3; exit 7"]);
    assert_eq!(said.with(7), "out\n");
    let missing = run(&[], &["/no/such"]);
    assert!(
        missing.err.contains("no such file or directory"),
        "{}",
        missing.err
    );
    missing.with(1);
    run(&["--read-only"], &["sh", "-c", "echo > /file"]).with(1);
    run(&["--privileged"], &["true"]).ok();
    let users = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
    let mapped = run(&users, &["sh", "-c", "cat /proc/self/uid_map; sleep 0.3"]).ok();
    assert_eq!(
        mapped.split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "1000"]
    );
    let terminal = it.run(state, &["--rm", "-t"], &[&id, "sh", "-c", "tty; sleep 0.3"]);
    assert!(
        in_terminal(&it.command(&terminal))
            .ok()
            .trim()
            .ends_with("/dev/pts/0")
    );
    is_gone(&it.directory.path().join("state"), &id);
}

#[test]
fn a_detached_task_is_used_and_ended() {
    let Some(it) = Containerd::new() else { return };
    let state = it.directory.path().join("runtime");
    let state = state.to_str().unwrap();
    let id = name(&it, "task");
    let script = "trap 'exit 5' TERM; while :; do sleep 0.05; done";
    let options = ["-d", "--memory-limit", "67108864", "--cpus", "0.5"];
    it.call(&it.run(state, &options, &[&id, "sh", "-c", script]))
        .ok();
    let (status, pid) = it.task(&id).unwrap();
    assert_eq!(status, "RUNNING");
    let memory = limit(&pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (64 << 20).to_string());

    let exec = [
        "task",
        "exec",
        "--exec-id",
        "one",
        &id,
        "sh",
        "-c",
        "echo in; sleep 0.3; exit 9",
    ];
    assert_eq!(it.call(&exec).with(9), "in\n");
    let exec = [
        "task",
        "exec",
        "-t",
        "--exec-id",
        "two",
        &id,
        "sh",
        "-c",
        "tty; sleep 0.3",
    ];
    assert!(in_terminal(&it.command(&exec)).ok().contains("/dev/pts/0"));
    it.call(&["task", "pause", &id]).ok();
    assert_eq!(it.task(&id).unwrap().0, "PAUSED");
    it.call(&["task", "resume", &id]).ok();
    assert_eq!(it.task(&id).unwrap().0, "RUNNING");
    assert!(it.call(&["task", "ps", &id]).ok().contains(&pid));
    assert!(it.call(&["task", "metrics", &id]).ok().contains("memory"));

    it.call(&["task", "kill", "-s", "TERM", &id]).ok();
    until("the task has ended", || {
        it.task(&id).unwrap().0 == "STOPPED"
    });
    let removed = it.call(&["task", "rm", &id]);
    assert!(removed.err.contains("exit code 5"), "{}", removed.err);
    it.call(&["container", "rm", &id]).ok();
    is_gone(&it.directory.path().join("state"), &id);
}

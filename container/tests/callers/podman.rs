//! podman with its cgroupfs driver. It talks to conmon, which calls the runtime.

use std::process::Command;

use crate::{IMAGE, Went, archive, in_terminal, is_gone, is_here, limit, remove_groups, until};

struct Podman {
    directory: tempfile::TempDir,
}

impl Podman {
    /// A podman of our own with an image in it; none where there is no podman.
    fn new() -> Option<Self> {
        if !is_here(&["podman", "conmon", "busybox"]) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        // Limits that a host without CAP_SYS_RESOURCE can set, and nothing in directories of the host's.
        let configuration = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\nnetns = \"none\"\n\
             log_driver = \"k8s-file\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
             runtime = \"ringside\"\ntmp_dir = \"{path}/tmp\"\nstatic_dir = \"{path}/static\"\n\
             [engine.runtimes]\nringside = [\"{}\"]\n\
             [network]\nnetwork_config_dir = \"{path}/network\"\n",
            env!("CARGO_BIN_EXE_ringside-oci")
        );
        std::fs::write(directory.path().join("containers.conf"), configuration).unwrap();
        let podman = Self { directory };
        let image = archive(podman.directory.path());
        podman.call(&["load", "-i", &image]).ok();
        Some(podman)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = self.directory.path();
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", path.join("containers.conf"));
        command.arg("--root").arg(path.join("root"));
        command.arg("--runroot").arg(path.join("run"));
        command.args(["--storage-driver", "vfs"]);
        // Its own default, `libpod_parent`, would stay.
        if let ["run", rest @ ..] = arguments {
            command
                .args(["run", "--cgroup-parent", &self.group()])
                .args(rest);
        } else {
            command.args(arguments);
        }
        command
    }

    /// The cgroup above all of its containers, in each hierarchy.
    fn group(&self) -> String {
        let name = self.directory.path().file_name().unwrap();
        format!("/ringside-podman{}", name.to_str().unwrap())
    }

    fn call(&self, arguments: &[&str]) -> Went {
        Went::of(&mut self.command(arguments))
    }

    fn run(&self, options: &[&str], program: &[&str]) -> Went {
        self.call(&[&["run", "--rm"], options, &[IMAGE], program].concat())
    }

    fn inspect(&self, name: &str, field: &str) -> String {
        let format = format!("{{{{.{field}}}}}");
        self.call(&["inspect", "-f", &format, name])
            .ok()
            .trim()
            .into()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.call(&["rm", "--all", "--force", "--time", "0"]);
        remove_groups(self.group().trim_start_matches('/'));
    }
}

const FOREVER: &str = "trap 'exit 5' TERM; echo started; while :; do sleep 0.05; done";

#[test]
fn run_gives_output_and_status() {
    let Some(podman) = Podman::new() else { return };
    let went = podman.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(went.err, "err\n");
    assert_eq!(went.with(7), "out\n");
    assert!(podman.run(&[], &["/no/such"]).err.contains("not found"));
    podman.run(&[], &["/no/such"]).with(127);
    podman.run(&[], &["/not-executable"]).with(126);
    let user = podman.run(
        &["--user", "7:8", "--workdir", "/tmp"],
        &["sh", "-c", "id -u; id -g; pwd"],
    );
    assert_eq!(user.ok(), "7\n8\n/tmp\n");
    let terminal = in_terminal(&podman.command(&["run", "--rm", "-it", IMAGE, "tty"]));
    let terminal = terminal.ok();
    assert!(terminal.trim().ends_with("/dev/pts/0"), "{terminal:?}");
    let users = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
    let mapped = podman.run(&users, &["cat", "/proc/self/uid_map"]).ok();
    assert_eq!(
        mapped.split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "1000"]
    );
    podman.run(&["--privileged"], &["true"]).ok();
    podman
        .run(
            &["--read-only", "--tmpfs", "/volume"],
            &["sh", "-c", "echo > /volume/file"],
        )
        .ok();
    is_gone(podman.directory.path(), "ringside-none");
}

#[test]
fn a_detached_container_is_used_and_stopped() {
    let Some(podman) = Podman::new() else { return };
    let limits = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    let start = [
        &["run", "-d", "--name", "it"],
        &limits[..],
        &[IMAGE, "sh", "-c", FOREVER],
    ]
    .concat();
    let id = podman.call(&start).ok();
    let id = id.trim();
    let pid = podman.inspect("it", "State.Pid");
    let memory = || limit(&pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory(), (64 << 20).to_string());
    assert_eq!(limit(&pid, "pids", "pids.max", "pids.max"), "50");
    let quota = limit(&pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota.starts_with("50000"), "{quota}");

    let exec = |arguments: &[&str]| podman.call(&[&["exec"], arguments].concat());
    assert_eq!(exec(&["it", "sh", "-c", "echo in; exit 9"]).with(9), "in\n");
    let options = ["--env", "A=b", "--workdir", "/tmp", "--user", "7", "it"];
    let went = exec(&[&options[..], &["sh", "-c", "echo $A; pwd; id -u"]].concat());
    assert_eq!(went.ok(), "b\n/tmp\n7\n");
    assert!(
        in_terminal(&podman.command(&["exec", "-it", "it", "tty"]))
            .ok()
            .trim()
            .ends_with("/dev/pts/0")
    );
    exec(&["-d", "it", "sleep", "1000"]).ok();
    assert!(podman.call(&["top", "it"]).ok().contains("sleep 1000"));

    podman.call(&["pause", "it"]).ok();
    assert_eq!(podman.inspect("it", "State.Status"), "paused");
    exec(&["it", "true"]).with(255);
    podman.call(&["unpause", "it"]).ok();
    assert_eq!(podman.inspect("it", "State.Status"), "running");

    podman.call(&["update", "--memory", "96m", "it"]).ok();
    assert_eq!(memory(), (96 << 20).to_string());
    let stats = podman
        .call(&["stats", "--no-stream", "--format", "{{.PIDs}}", "it"])
        .ok();
    assert!(stats.trim().parse::<u32>().unwrap() >= 2, "{stats}");
    until("logs", || podman.call(&["logs", "it"]).ok() == "started\n");

    podman.call(&["stop", "--time", "20", "it"]).ok();
    assert_eq!(podman.call(&["wait", "it"]).ok(), "5\n");
    podman.call(&["start", "it"]).ok();
    podman.call(&["kill", "it"]).ok();
    assert_eq!(podman.call(&["wait", "it"]).ok(), "137\n");
    podman.call(&["rm", "it"]).ok();
    assert_eq!(podman.call(&["ps", "-aq"]).ok(), "");
    is_gone(podman.directory.path(), id);
}

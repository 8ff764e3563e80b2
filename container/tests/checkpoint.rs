//! Checkpoints by criu: a process that counts goes on where it was, and what cannot be done is told.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::path::Path;

use serde_json::json;
use support_oci::{Bundle, Went};

/// Counts on standard output, as long as somebody reads it.
const COUNT: &str = "i=0; while echo $i; do i=$((i+1)); sleep 0.05; done";

/// A container whose output is a pipe.
struct Counting {
    bundle: Bundle,
    output: BufReader<PipeReader>,
}

impl Counting {
    fn new(change: impl FnOnce(&mut serde_json::Value)) -> Option<Self> {
        let bundle = Bundle::new(COUNT, change)?;
        let (output, told) = begin(&bundle, &["run", "--detach", "ID"]);
        assert_eq!(told, "");
        let mut counting = Self { bundle, output };
        counting.count();
        Some(counting)
    }

    /// The next number.
    fn count(&mut self) -> u64 {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().parse().unwrap_or_else(|_| panic!("{line:?}"))
    }

    /// What is left in the pipe of a container that has ended: the last number.
    fn last(&mut self) -> u64 {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text.lines().last().unwrap().parse().unwrap()
    }

    /// Takes a checkpoint. None with the reason where this kernel is newer than criu, which says so.
    fn checkpoint(&self, options: &[&str]) -> Option<Went> {
        let images = self.images();
        let arguments = [&["checkpoint", "--image-path", &images], options, &["ID"]].concat();
        let went = self.bundle.oci(&arguments);
        if went.code != 0 && went.err.contains("vdso") {
            let error = went.failed();
            for told in [
                "criu failed: type",
                "install CRIU 4.1 or newer",
                "/dump.log",
            ] {
                assert!(error.contains(told), "{error}");
            }
            assert_eq!(self.bundle.state("status"), "running");
            eprintln!("skipped: this criu is older than this kernel, whose vDSO it does not know");
            return None;
        }
        Some(went)
    }

    /// Restores it; what is told when that fails.
    fn restore(&mut self, options: &[&str]) -> String {
        let images = self.images();
        let arguments = ["restore", "--detach", "--image-path", &images];
        let (output, told) = begin(&self.bundle, &[&arguments, options, &["ID"]].concat());
        self.output = output;
        told
    }

    fn images(&self) -> String {
        let path = self.bundle.path().join("images");
        path.to_str().unwrap().to_owned()
    }
}

/// Runs a command that leaves a container behind, with a pipe as its output. Gives the pipe, and what is told
/// when it fails.
fn begin(bundle: &Bundle, arguments: &[&str]) -> (BufReader<PipeReader>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    let log = bundle.path().join("log");
    let arguments = arguments
        .iter()
        .map(|it| if *it == "ID" { bundle.id.as_str() } else { it });
    let mut command = bundle.command();
    command.args(arguments).stdout(writer);
    command.stderr(std::fs::File::create(&log).unwrap());
    let status = command.status().unwrap();
    let told = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.success(), told.is_empty(), "{status}: {told}");
    (BufReader::new(reader), told)
}

#[test]
fn a_container_goes_on_where_it_was() {
    let mounted = tempfile::tempdir().unwrap();
    let Some(mut counting) = Counting::new(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({"destination": "/link/here", "source": mounted.path(), "options": ["bind"]}),
        );
        spec["hooks"]["poststop"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat >poststop"]}]);
        spec["hooks"]["prestart"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat >prestart"]}]);
    }) else {
        return;
    };
    let bundle = counting.bundle.path().to_owned();
    let Some(went) = counting.checkpoint(&[]) else {
        return;
    };
    went.ok();
    let last = counting.last();
    counting.bundle.is_gone();
    let told = |name: &str| std::fs::read_to_string(bundle.join(name)).unwrap();
    assert!(
        told("poststop").contains("\"stopped\""),
        "{}",
        told("poststop")
    );
    std::fs::remove_file(bundle.join("prestart")).unwrap();
    for _ in 0..2 {
        assert_eq!(counting.restore(&["--pid-file", "pid"]), "");
        assert_eq!(counting.bundle.state("status"), "running");
        let pid = counting.bundle.state("pid");
        assert_eq!(told("pid"), pid.to_string());
        assert!(
            told("prestart").contains(&format!("\"pid\":{pid}")),
            "{}",
            told("prestart")
        );
        let next = counting.count();
        assert!(next > last && next <= last + 2, "{last} {next}");
        let inside = counting
            .bundle
            .oci(&["exec", "ID", "sh", "-c", "kill -0 1 && ls /link"]);
        assert_eq!(inside.ok(), "here\n");
        let call = "exec 2>&1; </dev/tcp/127.0.0.1/1";
        let network = counting.bundle.oci(&["exec", "ID", "bash", "-c", call]);
        assert!(network.out.contains("refused"), "{}", network.out);
        counting.bundle.oci(&["pause", "ID"]).ok();
        counting.bundle.oci(&["resume", "ID"]).ok();
        counting.bundle.oci(&["kill", "ID", "KILL"]).ok();
        counting.bundle.until("stopped");
        counting.bundle.oci(&["delete", "ID"]).ok();
        counting.bundle.is_gone();
    }
}

#[test]
fn a_container_that_is_left_running_counts_on() {
    let Some(mut counting) = Counting::new(|_| {}) else {
        return;
    };
    let Some(went) = counting.checkpoint(&["--leave-running", "--work-path", "work"]) else {
        return;
    };
    went.ok();
    assert_eq!(counting.bundle.state("status"), "running");
    assert!(counting.bundle.path().join("work/dump.log").is_file());
    let next = counting.count();
    assert!(counting.count() > next);
    // The name is taken.
    let arguments = ["restore", "--image-path", &counting.images(), "ID"];
    let error = counting.bundle.oci(&arguments).failed();
    assert!(error.contains("already exists"), "{error}");
    assert_eq!(counting.bundle.state("status"), "running");
}

#[test]
fn a_restoration_that_fails_leaves_nothing() {
    let Some(mut counting) = Counting::new(|_| {}) else {
        return;
    };
    let Some(went) = counting.checkpoint(&[]) else {
        return;
    };
    went.ok();
    // What the configuration binds is gone, which the images count on.
    let config = counting.bundle.path().join("config.json");
    let kept = std::fs::read_to_string(&config).unwrap();
    let mut spec: serde_json::Value = serde_json::from_str(&kept).unwrap();
    spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|it| it["destination"] != "/usr");
    std::fs::write(&config, spec.to_string()).unwrap();
    let error = counting.restore(&[]);
    assert!(error.contains("criu failed: type RESTORE"), "{error}");
    assert!(error.contains("images/restore.log"), "{error}");
    counting.bundle.is_gone();
    // A hook that fails is told by its own words.
    spec = serde_json::from_str(&kept).unwrap();
    spec["hooks"]["prestart"] = json!([{"path": "/bin/false"}]);
    std::fs::write(&config, spec.to_string()).unwrap();
    let error = counting.restore(&[]);
    assert!(error.contains("error running prestart hook #0"), "{error}");
    counting.bundle.is_gone();
    std::fs::write(&config, kept).unwrap();
    assert_eq!(counting.restore(&[]), "");
    counting.count();
}

#[test]
fn a_dump_that_is_cut_off_changes_nothing() {
    let Some(mut counting) = Counting::new(|_| {}) else {
        return;
    };
    let images = counting.images();
    let arguments = ["checkpoint", "--image-path", &images, &counting.bundle.id];
    let mut command = counting.bundle.command();
    let mut child = command.args(arguments).spawn().unwrap();
    let log = Path::new(&images).join("dump.log");
    while !log.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(counting.bundle.state("status"), "running");
    let before = counting.count();
    while counting.count() < before + 60 {}
    // The criu that was left behind may have hold of it still.
    for _ in 0..20 {
        let Some(went) = counting.checkpoint(&[]) else {
            return;
        };
        if went.code == 0 {
            counting.last();
            counting.bundle.is_gone();
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    counting.checkpoint(&[]).unwrap().ok();
}

#[test]
fn only_what_runs_can_be_dumped() {
    let Some(bundle) = Bundle::new("true", |_| {}) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    let error = bundle.oci(&["checkpoint", "ID"]).failed();
    assert!(
        error.contains("cannot be checkpointed in created state"),
        "{error}"
    );
    bundle.oci(&["start", "ID"]).ok();
    bundle.until("stopped");
    let error = bundle.oci(&["checkpoint", "ID"]).failed();
    assert!(
        error.contains("cannot be checkpointed in stopped state"),
        "{error}"
    );
    assert!(!bundle.path().join("checkpoint").exists());
    let error = bundle.oci(&["checkpoint", "no-such"]).failed();
    assert!(error.contains("does not exist"), "{error}");
}

#[test]
fn what_an_option_cannot_mean_is_refused_by_name() {
    let Some(bundle) = Bundle::running("sleep 100", |_| {}) else {
        return;
    };
    std::fs::write(bundle.path().join("file"), "").unwrap();
    let checkpoint =
        |option: &'static str, value: &'static str| vec!["checkpoint", option, value, "ID"];
    for (arguments, said) in [
        (
            checkpoint("--parent-path", "/tmp"),
            "--parent-path must be relative",
        ),
        (
            checkpoint("--parent-path", "../no"),
            "invalid --parent-path",
        ),
        (
            checkpoint("--parent-path", "../file"),
            "invalid --parent-path",
        ),
        (
            checkpoint("--page-server", "nowhere"),
            "--page-server ADDRESS:PORT",
        ),
        (checkpoint("--status-fd", "77"), "--status-fd \"77\""),
        (checkpoint("--status-fd", "0"), "--status-fd \"0\""),
        (
            checkpoint("--manage-cgroups-mode", "hard"),
            "--manage-cgroups-mode \"hard\"",
        ),
        (checkpoint("--empty-ns", "ipc"), "--empty-ns"),
        (checkpoint("--image-path", "file"), "file"),
        (vec!["--criu", "/no/criu", "checkpoint", "ID"], "/no/criu"),
        (
            vec!["checkpoint", "--odd", "ID"],
            "flag provided but not defined: -odd",
        ),
        (
            vec!["restore", "--image-path", "nowhere", "other"],
            "no checkpoint is there",
        ),
        (vec!["restore", "--bundle", "nowhere", "other"], "nowhere"),
    ] {
        let error = bundle.oci(&arguments).failed();
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    assert_eq!(bundle.state("status"), "running");
    assert!(!Path::new(&bundle.state_root()).join("other").exists());
}

#[test]
fn both_can_be_read_before_they_are_done() {
    let Some(bundle) = Bundle::running("sleep 100", |_| {}) else {
        return;
    };
    let plan = bundle.oci(&["--explain=plan", "checkpoint", "ID"]).ok();
    for step in [
        "sendmsg(DUMP",
        "wait until init has ended",
        "remove its cgroup",
    ] {
        assert!(plan.contains(step), "{step}: {plan}");
    }
    let plan = bundle
        .oci(&["--explain=plan", "checkpoint", "--pre-dump", "ID"])
        .ok();
    assert!(
        plan.contains("sendmsg(PRE_DUMP") && !plan.contains("rmdir"),
        "{plan}"
    );
    let plan = bundle.oci(&["--explain=plan", "restore", "other"]).ok();
    assert!(plan.contains("sendmsg(RESTORE"), "{plan}");
    assert_eq!(bundle.state("status"), "running");
}

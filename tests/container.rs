//! `ringside container` from outside: what each command does, and that nothing is left.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Containers that nobody else's tests have; they go when this is dropped.
struct Ring {
    directory: tempfile::TempDir,
    name: String,
}

impl Ring {
    fn new() -> Option<Ring> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        Some(Ring::make())
    }

    fn make() -> Ring {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy();
        let name = format!("ringside-test-{}", path.trim_start_matches('.'));
        Ring { directory, name }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("env");
        command
            .args([
                "--default-signal",
                env!("CARGO_BIN_EXE_ringside"),
                "container",
                "--root",
            ])
            .arg(self.directory.path().join("state"))
            .args(
                arguments
                    .iter()
                    .map(|it| if *it == "NAME" { &self.name } else { *it }),
            )
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    #[track_caller]
    fn is_gone(&self) {
        let mut left = Vec::new();
        let mut pending = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
        while let Some((directory, depth)) = pending.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|it| it.is_dir()) && depth < 5 {
                    if entry.file_name() == self.name.as_str() {
                        left.push(entry.path());
                    }
                    pending.push((entry.path(), depth + 1));
                }
            }
        }
        for name in ["state", "state-bundles"] {
            let entries = std::fs::read_dir(self.directory.path().join(name));
            left.extend(entries.into_iter().flatten().flatten().map(|it| it.path()));
        }
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let _ = self.run(&["delete", "--force", "NAME"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_it_writes_to_the_host_s_files_is_a_copy() {
    let Some(ring) = Ring::new() else { return };
    let file = ring.directory.path().join("file");
    std::fs::write(&file, "before").unwrap();
    let script = format!(
        "cat {0}; echo after > {0}; cat {0}; hostname; echo $$; touch /usr/gone /etc/gone; exit 7",
        file.display()
    );
    let output = ring.run(&["run", "--name", "NAME", "--", "sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "beforeafter\nringside\n1\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
    assert!(!PathBuf::from("/usr/gone").exists() && !PathBuf::from("/etc/gone").exists());
    ring.is_gone();
    let missing = ring.run(&["run", "--", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
    ring.is_gone();
}

#[test]
fn a_limit_in_action_is_told_at_the_end() {
    let Some(ring) = Ring::new() else { return };
    let script =
        "head -c 200M /dev/zero | tail -c 150M > /dev/null; timeout 1 sh -c 'while :; do :; done'";
    let limits = [
        "--memory",
        "48M",
        "--cpus",
        "0.3",
        "--cpu-weight",
        "50",
        "--pids",
        "20",
    ];
    let arguments = [
        &["run", "--name", "NAME"],
        &limits[..],
        &["--", "sh", "-c", script],
    ]
    .concat();
    let output = ring.run(&arguments);
    let told = text(&output.stderr);
    for part in [
        "cpu ",
        "s used",
        "throttled in",
        "of 48.0 MiB",
        "killed for lack of memory",
        "of 20",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    ring.is_gone();
    let quiet = ring.run(&["run", "--quiet", "--", "true"]);
    assert_eq!(text(&quiet.stderr), "");
}

#[test]
fn a_container_in_the_background_can_be_looked_at_and_worked_with() {
    let Some(ring) = Ring::new() else { return };
    let script = "echo begun; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    ring.ok(&[
        "run", "--detach", "--name", "NAME", "--memory", "64M", "--", "sh", "-c", script,
    ]);
    let all: Value = serde_json::from_str(&ring.ok(&["list", "--json"])).unwrap();
    assert_eq!(
        (&all[0]["name"], &all[0]["status"]),
        (&ring.name.as_str().into(), &"running".into())
    );
    assert!(ring.ok(&["list"]).contains("running"));
    assert!(ring.ok(&["ps", "NAME"]).contains("echo begun"));
    assert_eq!(ring.ok(&["exec", "NAME", "--", "hostname"]), "ringside\n");
    let again = ring.run(&["run", "--name", "NAME", "--", "true"]);
    assert!(text(&again.stderr).contains("already exists"));
    for _ in 0..500 {
        if !ring.ok(&["logs", "NAME"]).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ring.ok(&["logs", "NAME"]), "begun\n");
    ring.ok(&["pause", "NAME"]);
    assert!(ring.ok(&["list"]).contains("paused"));
    ring.ok(&["resume", "NAME"]);
    ring.ok(&["update", "NAME", "--memory", "32M", "--pids", "50"]);
    ring.ok(&["pause", "NAME"]);
    ring.ok(&["stop", "NAME"]);
    assert!(ring.ok(&["list"]).contains("stopped"));
    ring.ok(&["delete", "NAME"]);
    ring.is_gone();
}

/// Runs a command in a terminal, and types something once there is something to read; gives all that the
/// terminal has shown.
fn in_terminal(command: &Command, prompt: &str, typed: &str) -> String {
    use std::io::{Read, Write};
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|it| format!("'{}'", text(it.as_encoded_bytes())))
        .collect();
    let mut script = Command::new("script");
    script.args(["-qec", &words.join(" "), "/dev/null"]);
    let script = script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().expect("script");
    // Open until it has ended: the end of it would be typed as well.
    let mut input = script.stdin.take().expect("a pipe");
    let mut output = script.stdout.take().expect("a pipe");
    let (mut shown, mut bytes) = (Vec::new(), [0; 4096]);
    let mut has_typed = false;
    while let Ok(count @ 1..) = output.read(&mut bytes) {
        shown.extend(&bytes[..count]);
        if !has_typed && text(&shown).contains(prompt) {
            input.write_all(typed.as_bytes()).expect("it reads");
            has_typed = true;
        }
    }
    script.wait().expect("it ends");
    text(&shown).replace('\r', "")
}

#[test]
fn with_a_terminal_what_is_typed_arrives_and_without_one_signals_do() {
    let Some(ring) = Ring::new() else { return };
    let script = "tty; read line; echo got $line; exit 3";
    let run = ring.command(&[
        "run", "--quiet", "-it", "--name", "NAME", "sh", "-c", script,
    ]);
    let shown = in_terminal(&run, "/dev/pts/0", "something\n");
    assert!(shown.contains("got something\n"), "{shown}");
    ring.is_gone();

    ring.ok(&["run", "--detach", "--name", "NAME", "sleep", "1000"]);
    let script = "tty; trap \"echo caught; exit 4\" INT; echo ready; while :; do sleep 0.05; done";
    let plain = ring.command(&["exec", "NAME", "sh", "-c", script]);
    let shown = in_terminal(&plain, "ready", "\u{3}");
    assert!(shown.contains("not a tty\n"), "{shown}");
    assert!(shown.contains("caught\n"), "{shown}");
    let options = ["exec", "-t", "-e", "A=b", "-w", "/usr", "-u", "7:8", "NAME"];
    let script = "tty; echo $A $(pwd) $(id -u) $(id -g)";
    let exec = ring.command(&[&options, &["sh", "-c", script][..]].concat());
    let shown = in_terminal(&exec, "/dev/pts/0", "");
    assert!(shown.contains("/dev/pts/0\nb /usr 7 8\n"), "{shown}");
    ring.ok(&["delete", "--force", "NAME"]);
    ring.is_gone();
}

#[test]
fn exec_passes_input_on_and_tells_who_is_not_there() {
    let Some(ring) = Ring::new() else { return };
    ring.ok(&["run", "--detach", "--name", "NAME", "sleep", "1000"]);
    // The command's own options are the command's.
    let mut cat = ring.command(&["exec", "-i", "NAME", "cat", "-n"]);
    let file = ring.directory.path().join("input");
    std::fs::write(&file, "line\n").expect("it is ours");
    cat.stdin(std::fs::File::open(file).expect("it is there"));
    let output = cat.output().expect("it runs");
    assert_eq!(text(&output.stdout), "     1\tline\n");
    let nobody = ring.run(&["exec", "nobody", "true"]);
    let error = text(&nobody.stderr);
    assert!(
        error.contains("does not exist: nobody; `list` names"),
        "{error}"
    );
    ring.ok(&["delete", "--force", "NAME"]);
    ring.is_gone();
}

#[test]
fn inspect_shows_what_was_asked_for_beside_what_there_is() {
    let Some(ring) = Ring::new() else { return };
    ring.ok(&[
        "run", "--detach", "--name", "NAME", "--memory", "64M", "--pids", "30", "--", "sleep",
        "1000",
    ]);
    let inspect =
        || -> Value { serde_json::from_str(&ring.ok(&["inspect", "--json", "NAME"])).unwrap() };
    let differences = |seen: &Value| -> Vec<String> {
        let sections = seen["sections"].as_array().unwrap().iter();
        let facts = sections.flat_map(|it| it["facts"].as_array().unwrap());
        let facts = facts.filter(|it| it["differs"] == true);
        facts.map(|it| it.to_string()).collect()
    };
    assert_eq!(differences(&inspect()), Vec::<String>::new());
    let table = ring.ok(&["inspect", "NAME"]);
    for part in [
        "NAMESPACES",
        "ASKED FOR",
        "a new one",
        "the host's",
        "pids.max",
        "CAPABILITIES",
        "as it was asked for",
    ] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    assert!(
        !table.contains('\u{1b}'),
        "colours where there is no terminal"
    );
    // Somebody changes what the kernel has.
    ring.ok(&["update", "NAME", "--pids", "31"]);
    let seen = differences(&inspect());
    assert!(
        seen.len() == 1 && seen[0].contains("pids.max") && seen[0].contains("31"),
        "{seen:?}"
    );
    ring.ok(&["delete", "--force", "NAME"]);
    ring.is_gone();
}

#[test]
fn a_plan_is_told_without_doing_any_of_it() {
    let Some(ring) = Ring::new() else { return };
    let story = ring.ok(&["run", "--name", "NAME", "--explain=plan", "--", "true"]);
    assert!(
        story.contains("clone3(") && story.contains("overlay"),
        "{story}"
    );
    ring.is_gone();
    let arguments = [
        "run",
        "--name",
        "NAME",
        "--quiet",
        "--explain",
        "--json",
        "--",
        "true",
    ];
    let told = ring.run(&arguments);
    assert!(told.status.success());
    for line in text(&told.stderr).lines() {
        let step: Value = serde_json::from_str(line).unwrap();
        assert!(step["outcome"] != "alternative", "{step}");
    }
    ring.is_gone();
}

#[test]
fn an_ordinary_user_is_told_what_needs_root() {
    let Some(ring) = Ring::new() else { return };
    let folder = ring.directory.path();
    let program = folder.join("ringside");
    // By another process: a program that is open for writing in one that forks cannot be executed.
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_ringside")).arg(&program);
    assert!(copy.status().expect("cp runs").success());
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, everybody).expect("it is ours");
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    nobody.arg(&program).args(["container", "--root"]);
    nobody.arg(folder.join("none")).args(["run", "--", "true"]);
    let output = nobody.output().expect("setpriv runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("run as root"), "{said}");
}

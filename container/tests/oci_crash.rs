//! A command may be killed after any of its steps: what it leaves can be asked about and removed, and
//! whoever else works on the container can go on. And its init may be killed after any of its own: then
//! the command says so, and leaves nothing.
//!
//! Each command runs in a child of the test that dies, or kills its child, at a step of its choice: the
//! observer of steps does it. So every step that a plan has is met, whatever steps it has.

#[path = "support/standard_form.rs"]
mod standard_form;
#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use ringside_container::plan::step::Step;
use ringside_container::runtime::create::{self, Create};
use ringside_container::runtime::exec::{self, Exec};
use ringside_container::runtime::{Error, delete, start};
use ringside_container::{Observer, StepOutcome};
use serde_json::json;
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|it| it == "--victim") {
        std::process::exit(victim(&arguments[2..]));
    }
    let tests: [(&str, fn()); 6] = [
        ("create_killed_at_any_step_can_be_deleted", || {
            killed_at_every_step("create", false, |bundle| {
                bundle.oci(&["delete", "ID"]).ok();
            })
        }),
        ("run_killed_at_any_step_can_be_deleted", || {
            killed_at_every_step("run", false, |bundle| {
                bundle.oci(&["delete", "--force", "ID"]).ok();
            })
        }),
        ("start_killed_at_any_step_can_be_repeated", || {
            killed_at_every_step("start", true, |bundle| {
                let again = bundle.oci(&["start", "ID"]);
                assert!(
                    again.code == 0 || again.err.contains("in the running state"),
                    "{}",
                    again.err
                );
                bundle.until("running");
                bundle.oci(&["kill", "ID", "KILL"]).ok();
                bundle.until("stopped");
                bundle.oci(&["delete", "ID"]).ok();
            })
        }),
        ("exec_killed_at_any_step_can_be_repeated", || {
            killed_at_every_step("exec", true, |bundle| {
                assert_eq!(bundle.oci(&["exec", "ID", "echo", "here"]).ok(), "here\n");
                bundle.oci(&["delete", "--force", "ID"]).ok();
            })
        }),
        ("delete_killed_at_any_step_can_be_repeated", || {
            killed_at_every_step("delete", true, |bundle| {
                bundle.oci(&["delete", "--force", "ID"]).ok();
            })
        }),
        (
            "an_init_that_is_killed_is_told_and_leaves_nothing",
            init_is_killed,
        ),
    ];
    standard_form::run(&tests, &arguments[1..])
}

/// What happens when a step has been taken.
struct Fate {
    left: usize,
    kills_child: bool,
}

impl Observer for Fate {
    fn step(&mut self, _: &Step, _: StepOutcome, _: Duration) {
        self.left = match self.left {
            0 => return,
            1 if self.kills_child => {
                let this = getpid();
                let children =
                    std::fs::read_to_string(format!("/proc/{this}/task/{this}/children")).unwrap();
                for child in children.split_whitespace() {
                    let _ = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
                }
                0
            }
            1 => {
                let _ = kill(getpid(), Signal::SIGKILL);
                unreachable!("killed");
            }
            left => left - 1,
        };
    }
}

/// Runs a command: which, on which bundle, at which step something happens, and whether to the child.
fn victim(arguments: &[String]) -> i32 {
    let [command, bundle, id, at, whom] = arguments else {
        panic!("{arguments:?}");
    };
    let mut fate = Fate {
        left: at.parse().unwrap(),
        kills_child: whom == "child",
    };
    let root = Path::new(bundle).join("state");
    let what = Create {
        root: root.clone(),
        id: id.clone(),
        bundle: bundle.into(),
        pid_file: Some(Path::new(bundle).join("pid")),
        ..Create::default()
    };
    let went: Result<(), Error> = match command.as_str() {
        "create" => create::create(&what, &mut fate).map(drop),
        "run" => create::run(&what, None, &mut fate).map(drop),
        "start" => start::start(&root, id, &mut fate),
        "exec" => {
            let what = Exec {
                root,
                id: id.clone(),
                args: vec!["sleep".into(), "1000".into()],
                ..Exec::default()
            };
            exec::exec(&what, None, &mut fate).map(drop)
        }
        "delete" => delete::delete(&root, id, true, &mut fate),
        other => panic!("{other}"),
    };
    match went {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// A bundle that gives the runtime all the steps that there are.
fn bundle() -> Option<Bundle> {
    Bundle::new(FOREVER, |spec| {
        let linux = &mut spec["linux"];
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        let all = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        linux["uidMappings"] = all.clone();
        linux["gidMappings"] = all;
        linux["resources"]["pids"] = json!({"limit": 100});
        spec["process"]["oomScoreAdj"] = json!(100);
        let hook = json!([{"path": "/bin/true"}]);
        spec["hooks"] = json!({"prestart": hook, "createRuntime": hook, "createContainer": hook,
            "startContainer": hook, "poststart": hook, "poststop": hook});
    })
}

/// How the victim ended, and what it said.
fn run_victim(bundle: &Bundle, command: &str, at: usize, whom: &str) -> (ExitStatus, String) {
    let log = bundle.path().join("victim");
    let file = std::fs::File::create(&log).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--victim", command])
        .arg(bundle.path())
        .args([&bundle.id, &at.to_string(), whom])
        .stdin(std::process::Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .status()
        .unwrap();
    (status, std::fs::read_to_string(log).unwrap())
}

/// Kills `command` after each of its steps, on a container of its own each time.
fn killed_at_every_step(command: &str, on_a_container: bool, then: impl Fn(&Bundle)) {
    use std::os::unix::process::ExitStatusExt;
    let mut steps = 0;
    for at in 1.. {
        let Some(bundle) = bundle() else { return };
        if on_a_container {
            assert_eq!(bundle.create(), 0, "{}", bundle.log());
            if command != "start" {
                bundle.oci(&["start", "ID"]).ok();
            }
        }
        let (status, said) = run_victim(&bundle, command, at, "itself");
        let was_killed = status.signal() == Some(libc::SIGKILL);
        assert!(
            was_killed || status.success(),
            "{command} {at}: {status} {said}"
        );
        // Whoever asks gets an answer, whatever there is.
        bundle.oci(&["list"]).ok();
        let state = bundle.oci(&["state", "ID"]);
        assert!(
            state.code == 0 || state.err.contains("does not exist"),
            "{command} {at}: {}",
            state.err
        );
        if state.code == 0 || command == "delete" {
            then(&bundle);
        }
        nothing_lives(&bundle);
        bundle.is_gone();
        if !was_killed {
            break;
        }
        steps = at;
    }
    println!("{command}: {steps} steps");
    assert!(steps >= 5, "{command} has only {steps} steps");
}

/// No process that began as a copy of the victim is left, and none of its programs.
#[track_caller]
fn nothing_lives(bundle: &Bundle) {
    let path = bundle.path().to_string_lossy().into_owned();
    let mut left = Vec::new();
    for _ in 0..500 {
        left = processes_with(&path);
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{left:?} are left");
}

fn processes_with(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// The child of `create`, `run` and `exec` is killed after each step of either process.
fn init_is_killed() {
    for command in ["create", "run"] {
        let mut told = 0;
        for at in 1..200 {
            let Some(bundle) = bundle() else { return };
            let (status, said) = run_victim(&bundle, command, at, "child");
            assert!(status.code().is_some(), "{command} {at}: {status} {said}");
            if status.success() {
                // It came too late, or there was no child yet.
                bundle.oci(&["delete", "--force", "ID"]).ok();
            } else {
                told += 1;
                let last = said.lines().last().unwrap_or_default();
                assert!(
                    last.contains("SIGKILL") || last.contains("ESRCH"),
                    "{command} {at}: {said}"
                );
            }
            nothing_lives(&bundle);
            bundle.is_gone();
            if status.success() && told > 0 {
                break;
            }
        }
        assert!(told >= 10, "{command} told of {told} steps only");
    }
}

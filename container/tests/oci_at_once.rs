//! Two commands at once on one container: each wins or is told why not, and nothing is left of either.
//!
//! Each pair is tried many times, each time a little further apart and in the other order, so that one
//! meets the other at every stage. `RINGSIDE_ROUNDS` says how many times.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

/// Where the container stands before the two commands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing,
    Created,
    Running,
    Paused,
    Stopped,
}

/// A command, and what it may say when it fails.
type Contender<'a> = (&'a [&'a str], &'a [&'a str]);

/// How often each of two commands won, and both.
#[derive(Debug, Default)]
struct Won {
    first: usize,
    second: usize,
    both: usize,
}

fn rounds() -> usize {
    let told = std::env::var("RINGSIDE_ROUNDS").ok();
    told.and_then(|it| it.parse().ok()).unwrap_or(6)
}

impl Stage {
    fn reach(self, bundle: &Bundle) {
        if self == Self::Nothing {
            return;
        }
        assert_eq!(bundle.create(), 0, "{}", bundle.log());
        if self == Self::Created {
            return;
        }
        bundle.oci(&["start", "ID"]).ok();
        match self {
            Self::Paused => drop(bundle.oci(&["pause", "ID"]).ok()),
            Self::Stopped => {
                bundle.oci(&["kill", "ID", "KILL"]).ok();
                bundle.until("stopped");
            }
            _ => {}
        }
    }
}

/// Begins a command whose container would keep a pipe open.
fn begin(bundle: &Bundle, arguments: &[&str], log: &str) -> std::process::Child {
    let log = std::fs::File::create(bundle.path().join(log)).unwrap();
    let arguments = arguments
        .iter()
        .map(|it| if *it == "ID" { bundle.id.as_str() } else { it });
    let mut command: Command = bundle.command();
    command.args(arguments).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

/// Runs both at once, again and again; `then` looks at what has become of the container.
#[track_caller]
fn at_once(
    stage: Stage,
    [one, other]: [Contender<'_>; 2],
    then: impl Fn(&Bundle, bool, bool),
) -> Won {
    let mut won = Won::default();
    for round in 0..rounds() {
        let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
            return won;
        };
        stage.reach(&bundle);
        let is_swapped = round % 2 == 1;
        let order = if is_swapped {
            [other, one]
        } else {
            [one, other]
        };
        let apart = Duration::from_micros(400 * (round as u64 / 2));
        let mut first = begin(&bundle, order[0].0, "first");
        std::thread::sleep(apart);
        let mut second = begin(&bundle, order[1].0, "second");
        let ended = [&mut first, &mut second].map(|it| it.wait().unwrap());
        for ((arguments, words), (ended, log)) in
            order.iter().zip(ended.iter().zip(["first", "second"]))
        {
            let said = std::fs::read_to_string(bundle.path().join(log)).unwrap();
            assert!(
                ended.success() || words.iter().any(|it| said.contains(it)),
                "{arguments:?} in round {round}: {ended}: {said}"
            );
        }
        let [first, second] = ended.map(|it| it.success());
        let (one, other) = if is_swapped {
            (second, first)
        } else {
            (first, second)
        };
        match (one, other) {
            (true, true) => won.both += 1,
            (true, false) => won.first += 1,
            (false, true) => won.second += 1,
            (false, false) => panic!("neither won in round {round}"),
        }
        then(&bundle, one, other);
        bundle.oci(&["delete", "--force", "ID"]).ok();
        bundle.is_gone();
    }
    println!("{won:?} of {:?} and {:?}", one.0, other.0);
    won
}

/// Exactly one wins.
#[track_caller]
fn one_wins(stage: Stage, command: Contender<'_>, then: &str) {
    let won = at_once(stage, [command, command], |bundle, _, _| {
        if then.is_empty() {
            bundle.is_gone();
        } else {
            assert_eq!(bundle.state("status"), then);
        }
    });
    assert_eq!(won.both, 0, "{won:?} of {:?}", command.0);
}

#[test]
fn a_name_is_taken_once() {
    let taken = ["already exists"];
    one_wins(Stage::Nothing, (&["create", "ID"], &taken), "created");
    one_wins(Stage::Nothing, (&["run", "-d", "ID"], &taken), "running");
}

#[test]
fn a_container_is_started_paused_and_resumed_once() {
    let running = ["in the running state"];
    one_wins(Stage::Created, (&["start", "ID"], &running), "running");
    one_wins(
        Stage::Running,
        (&["pause", "ID"], &["in the paused state"]),
        "paused",
    );
    one_wins(Stage::Paused, (&["resume", "ID"], &running), "running");
}

#[test]
fn a_container_is_deleted_once() {
    let gone = ["does not exist"];
    one_wins(Stage::Stopped, (&["delete", "ID"], &gone), "");
    one_wins(Stage::Created, (&["delete", "ID"], &gone), "");
    // By force there is nothing that cannot be deleted, even what is not there.
    let force: Contender<'_> = (&["delete", "--force", "ID"], &[]);
    for stage in [Stage::Running, Stage::Stopped, Stage::Paused] {
        at_once(stage, [force, force], |bundle, _, _| bundle.is_gone());
    }
    let plain: Contender<'_> = (&["delete", "ID"], &["does not exist", "not stopped"]);
    at_once(Stage::Running, [force, plain], |bundle, _, _| {
        bundle.is_gone()
    });
}

#[test]
fn a_run_that_ends_leaves_another_container_of_its_name_alone() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    let mut run = bundle.command();
    run.args(["run", &bundle.id]).stdout(Stdio::null());
    let mut run = run.spawn().unwrap();
    while bundle.oci(&["state", "ID"]).code != 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    bundle.until("running");
    // A command that waits for its turn: `run` has let go of the container.
    bundle.oci(&["exec", "ID", "true"]).ok();
    // It stands still while its container goes and another comes.
    let process = Pid::from_raw(run.id() as i32);
    kill(process, Signal::SIGSTOP).unwrap();
    bundle.oci(&["delete", "--force", "ID"]).ok();
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    kill(process, Signal::SIGCONT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(137));
    assert_eq!(bundle.state("status"), "created");
}

/// Runs `create`, and when it is about to open its container's directory for the first time, `delete --force`
/// from its beginning to its end (`man 7 fanotify`). Gives how both ended.
fn create_with_a_delete_inside(bundle: &Bundle) -> [ExitStatus; 2] {
    let opened = Fanotify::init(
        InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC,
        EventFFlags::O_CLOEXEC,
    )
    .unwrap();
    let children = MaskFlags::FAN_ONDIR | MaskFlags::FAN_EVENT_ON_CHILD;
    opened
        .mark(
            MarkFlags::FAN_MARK_ADD,
            MaskFlags::FAN_OPEN_PERM | children,
            nix::fcntl::AT_FDCWD,
            Some(&bundle.state_root()),
        )
        .unwrap();
    let container = bundle.state_root().join(&bundle.id);
    let mut create = begin(bundle, &["create", "ID"], "first");
    let mut delete = None;
    let mut held = Vec::new();
    let has_ended = |child: &mut std::process::Child| child.try_wait().unwrap().is_some();
    let mut is_inside = false;
    while is_inside || !has_ended(&mut create) {
        let mut ready = [PollFd::new(opened.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, 10u8).unwrap() > 0 {
            for event in opened.read_events().unwrap() {
                let path = event
                    .fd()
                    .map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()));
                let path = path.and_then(|it| std::fs::read_link(it).ok());
                let is_creation = event.pid() == create.id() as i32;
                held.push(event);
                if is_creation && delete.is_none() && path.as_ref() == Some(&container) {
                    delete = Some(begin(bundle, &["delete", "--force", "ID"], "second"));
                }
            }
        }
        is_inside = delete.as_mut().is_some_and(|delete| !has_ended(delete));
        held.retain(|event| {
            let stays = is_inside && event.pid() == create.id() as i32;
            if let Some(fd) = event.fd().filter(|_| !stays) {
                let allowed = FanotifyResponse::new(fd, Response::FAN_ALLOW);
                opened.write_response(allowed).unwrap();
            }
            stays
        });
    }
    let deleted = delete.map(|mut delete| delete.wait().unwrap());
    [create.wait().unwrap(), deleted.unwrap()]
}

#[test]
fn a_creation_whose_directory_is_deleted_before_it_is_locked_begins_anew() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    std::fs::create_dir(bundle.state_root()).unwrap();
    let ended = create_with_a_delete_inside(&bundle);
    let said =
        ["first", "second"].map(|log| std::fs::read_to_string(bundle.path().join(log)).unwrap());
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}: {said:?}");
    assert_eq!(bundle.state("status"), "created");
    bundle.oci(&["delete", "--force", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn whoever_is_killed_ends_whatever_else_is_done() {
    let kill: Contender<'_> = (&["kill", "ID", "KILL"], &["not running"]);
    let stopped = ["in the stopped state"];
    let ends = |bundle: &Bundle, _, _| bundle.until("stopped");
    at_once(Stage::Running, [kill, kill], ends);
    at_once(Stage::Running, [kill, (&["pause", "ID"], &stopped)], ends);
    // Whoever is killed is thawed for it, and dies a little later.
    let thawed = ["in the stopped state", "in the running state"];
    at_once(Stage::Paused, [kill, (&["resume", "ID"], &thawed)], ends);
    at_once(
        Stage::Created,
        [
            kill,
            (&["start", "ID"], &["stopped state", "SIGKILL", "is gone"]),
        ],
        ends,
    );
    at_once(
        Stage::Running,
        [
            kill,
            (&["update", "--pids-limit", "50", "ID"], &["not running"]),
        ],
        ends,
    );
    let exec = (
        &["exec", "ID", "true"][..],
        &["stopped", "SIGKILL", "137", "is gone", ""][..],
    );
    at_once(Stage::Running, [kill, exec], ends);
    at_once(
        Stage::Running,
        [kill, (&["delete", "ID"], &["not stopped"])],
        |_, killed, _| assert!(killed),
    );
}

#[test]
fn what_is_deleted_by_force_is_gone_whatever_else_is_done() {
    let force: Contender<'_> = (&["delete", "--force", "ID"], &[]);
    let gone = |bundle: &Bundle, _, _| bundle.is_gone();
    let words = [
        "does not exist",
        "not running",
        "stopped",
        "SIGKILL",
        "is gone",
        "",
    ];
    let others: [(Stage, &[&str]); 8] = [
        (Stage::Running, &["kill", "ID", "TERM"]),
        (Stage::Running, &["exec", "ID", "true"]),
        (Stage::Running, &["exec", "-d", "ID", "sleep", "1000"]),
        (Stage::Running, &["pause", "ID"]),
        (Stage::Paused, &["resume", "ID"]),
        (Stage::Created, &["start", "ID"]),
        (Stage::Running, &["update", "--pids-limit", "50", "ID"]),
        (Stage::Running, &["state", "ID"]),
    ];
    for (stage, other) in others {
        at_once(stage, [force, (other, &words)], gone);
    }
    // Before it begins or when it has ended, there is something to delete; in between, it waits.
    at_once(
        Stage::Nothing,
        [force, (&["create", "ID"], &[])],
        |_, _, _| {},
    );
}

#[test]
fn who_only_looks_gets_an_answer_meanwhile() {
    let states = ["does not exist"];
    at_once(
        Stage::Nothing,
        [(&["create", "ID"], &[]), (&["state", "ID"], &states)],
        |_, made, _| assert!(made),
    );
    at_once(
        Stage::Stopped,
        [(&["delete", "ID"], &[]), (&["list"], &[])],
        |_, deleted, listed| assert!(deleted && listed),
    );
    let exec: Contender<'_> = (&["exec", "ID", "true"], &[]);
    let won = at_once(Stage::Running, [exec, exec], |_, _, _| {});
    assert_eq!(won.first + won.second, 0, "{won:?}");
}

//! What becomes of a container when its runtime is signalled, killed, or started a hundred times at
//! once; and containers of an ordinary user.
//!
//! This program is the tests and the runtime at once: `supervision --run COMMAND` runs a container as a
//! process with one thread, which the harness of the standard library would not give it.

mod rootless;
mod runtime;
#[path = "../support/standard_form.rs"]
mod standard_form;

use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use runtime::Runtime;
use standard_form::Test;

const TESTS: &[Test] = &[
    ("the_status_is_the_command_s", the_status_is_the_command_s),
    ("signals_pass_to_the_command", signals_pass_to_the_command),
    (
        "a_typed_interrupt_reaches_the_command_once",
        a_typed_interrupt_reaches_the_command_once,
    ),
    (
        "a_typed_stop_stops_the_runtime_too",
        a_typed_stop_stops_the_runtime_too,
    ),
    (
        "a_typed_stop_without_a_shell_is_ignored",
        a_typed_stop_without_a_shell_is_ignored,
    ),
    (
        "a_killed_runtime_takes_its_container_along",
        a_killed_runtime_takes_its_container_along,
    ),
    (
        "a_runtime_killed_at_any_moment_leaves_nothing",
        a_runtime_killed_at_any_moment_leaves_nothing,
    ),
    ("the_next_run_sweeps", the_next_run_sweeps),
    (
        "a_hundred_at_once_succeed_and_leave_nothing",
        a_hundred_at_once_succeed_and_leave_nothing,
    ),
    ("a_user_runs_a_container", rootless::a_user_runs_a_container),
    (
        "root_of_a_user_namespace_runs_a_container",
        rootless::root_of_a_user_namespace_runs_a_container,
    ),
    (
        "a_user_s_container_reads_no_more_than_the_user",
        rootless::a_user_s_container_reads_no_more_than_the_user,
    ),
    (
        "a_user_s_limits_are_refused_by_name",
        rootless::a_user_s_limits_are_refused_by_name,
    ),
    (
        "a_user_s_own_files_are_copied_on_write",
        rootless::a_user_s_own_files_are_copied_on_write,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--run") => runtime::run(&arguments[1..]),
        // As the harness does for tools that ask.
        Some("--list") => {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
            ExitCode::SUCCESS
        }
        _ => test(&arguments),
    }
}

/// Runs the tests whose names contain one of the arguments that are no options.
fn test(arguments: &[String]) -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    standard_form::run(TESTS, arguments)
}

fn the_status_is_the_command_s() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 42", 42),
        ("kill -9 $$", 137),
        ("kill -TERM $$; sleep 9", 143),
    ] {
        assert_eq!(
            Runtime::shell(script).start().wait(),
            Some(code),
            "{script}"
        );
    }
    assert_eq!(
        Runtime::command(&["/no/such/program"]).start().wait(),
        Some(127)
    );
    assert_eq!(Runtime::command(&["/etc"]).start().wait(), Some(126));
}

fn signals_pass_to_the_command() {
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGWINCH};
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGWINCH] {
        let script = format!(
            "trap 'exit 7' {}; echo ready; while :; do sleep 0.01; done",
            signal as i32
        );
        let mut running = Runtime::shell(&script).start();
        running.await_line("ready");
        running.signal(signal);
        assert_eq!(running.wait(), Some(7), "{signal}");
    }
    // What the command does not catch ends it, and the runtime says so.
    let mut running = Runtime::shell("echo ready; sleep 1000").start();
    running.await_line("ready");
    running.signal(SIGTERM);
    assert_eq!(running.wait(), Some(143));
}

/// Through a terminal of its own, as `script` makes one: the kernel sends the signal to everybody in the
/// foreground, and the runtime must not send it once more.
fn a_typed_interrupt_reaches_the_command_once() {
    let count = "n=0; trap 'n=$((n+1))' INT; echo ready; i=0; while [ $i -lt 40 ]; do sleep 0.01; i=$((i+1)); done; echo count=$n.";
    let Some(mut running) = Runtime::shell(count).in_terminal() else {
        eprintln!("skipped: there is no `script` to make a terminal with");
        return;
    };
    running.await_line("ready");
    running.type_text("\x03");
    let rest = running.rest();
    assert!(rest.contains("count=1."), "{rest}");
}

/// A shell with job control: it takes the terminal back when everybody in the foreground has stopped,
/// the runtime included, and `fg` continues them.
fn a_typed_stop_stops_the_runtime_too() {
    let script = "trap 'echo continued' CONT; echo ready; i=0; while [ $i -lt 50 ]; do sleep 0.01; i=$((i+1)); done; echo end";
    let Some(mut running) =
        Runtime::shell(script).in_terminal_of("set -m; ", "; echo stopped=$?; fg; echo status=$?")
    else {
        eprintln!("skipped: there is no `script` to make a terminal with");
        return;
    };
    running.await_line("ready");
    running.type_text("\x1a");
    let rest = running.rest();
    let at = |part: &str| {
        rest.find(part)
            .unwrap_or_else(|| panic!("no {part:?} in {rest}"))
    };
    // 128 + SIGTSTP.
    assert!(
        at("stopped=148") < at("\ncontinued")
            && at("\ncontinued") < at("\nend")
            && at("\nend") < at("\nstatus=0"),
        "{rest}"
    );
}

/// Where nobody could continue it, nothing is stopped.
fn a_typed_stop_without_a_shell_is_ignored() {
    let script = "echo ready; sleep 0.3; echo end";
    let Some(mut running) = Runtime::shell(script).in_terminal() else {
        eprintln!("skipped: there is no `script` to make a terminal with");
        return;
    };
    running.await_line("ready");
    running.type_text("\x1a");
    let rest = running.rest();
    assert!(rest.contains("end"), "{rest}");
}

fn a_killed_runtime_takes_its_container_along() {
    for limits in [&[][..], &["--memory", "100000000", "--pids", "50"]] {
        let script = "sleep 1000 & setsid sleep 1000 & echo ready; wait";
        let mut running = Runtime::shell(script).with(limits).start();
        running.await_line("ready");
        let mounts = runtime::mounts();
        running.signal(Signal::SIGKILL);
        running.wait();
        // The pipe ends when the last process of the container that has it is gone.
        running.rest();
        assert_eq!(runtime::mounts(), mounts);
        ringside_container::gc().expect("nobody lives in a group without a runtime");
        assert_eq!(running.groups(), Vec::<std::path::PathBuf>::new());
    }
}

fn a_runtime_killed_at_any_moment_leaves_nothing() {
    let mounts = runtime::mounts();
    for moment in 0..40 {
        let mut running = Runtime::shell("exec sleep 1000")
            .with(&["--pids", "50", "--cpus", "1"])
            .start();
        std::thread::sleep(Duration::from_micros(moment * 150));
        running.signal(Signal::SIGKILL);
        running.wait();
        running.rest();
        ringside_container::gc().expect("nobody lives in a group without a runtime");
        assert_eq!(
            running.groups(),
            Vec::<std::path::PathBuf>::new(),
            "killed at moment {moment}"
        );
    }
    assert_eq!(runtime::mounts(), mounts);
}

fn the_next_run_sweeps() {
    let mut running = Runtime::shell("echo ready; exec sleep 1000")
        .with(&["--pids", "50"])
        .start();
    running.await_line("ready");
    assert!(!running.groups().is_empty());
    running.signal(Signal::SIGKILL);
    running.wait();
    running.rest();
    assert_eq!(Runtime::shell("sleep 0.1").start().wait(), Some(0));
    assert_eq!(running.groups(), Vec::<std::path::PathBuf>::new());
}

fn a_hundred_at_once_succeed_and_leave_nothing() {
    let mounts = runtime::mounts();
    let limits = ["--memory", "50000000", "--pids", "20", "--cpus", "1"];
    let start = |number: i32| {
        Runtime::shell(&format!("echo hello; exit {}", number % 5))
            .with(&limits)
            .start()
    };
    let mut all: Vec<_> = (0..100).map(start).collect();
    for (number, running) in all.iter_mut().enumerate() {
        // Together: what is missing of one is told by the other.
        assert_eq!(
            (running.rest().as_str(), running.wait()),
            ("hello\n", Some(number as i32 % 5)),
            "container {number}"
        );
        assert_eq!(
            running.groups(),
            Vec::<std::path::PathBuf>::new(),
            "container {number}"
        );
    }
    assert_eq!(runtime::mounts(), mounts);
}

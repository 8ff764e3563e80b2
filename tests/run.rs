//! `ringside run` from outside: one word changes the isolation model, and nothing else.

mod smaps;

use smaps::pss_kib;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `ringside run --in MODEL` with these arguments. Signals that whoever started the tests ignores (a
/// background job's, `nohup`'s) are not ignored here.
fn command(model: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command
        .args(["--default-signal", env!("CARGO_BIN_EXE_ringside")])
        .args(["run", "--in", model])
        .args(arguments);
    command
}

fn run(model: &str, arguments: &[&str]) -> Output {
    command(model, arguments).output().expect("ringside runs")
}

/// The models that this host can run; the others are reported as skipped.
fn models() -> Vec<&'static str> {
    ["native", "container", "vm"]
        .into_iter()
        .filter(|model| {
            let probe: &[&str] = if *model == "vm" {
                &["--", "hello"]
            } else {
                &["--", "true"]
            };
            let output = run(model, probe);
            if !output.status.success() {
                eprintln!("skipped: {model}: {}", text(&output.stderr));
            }
            output.status.success()
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_status_is_the_commands_own() {
    for model in models() {
        let arguments: &[&str] = match model {
            "vm" => &["--", "primes", "many"],
            _ => &["--", "sh", "-c", "exit 2"],
        };
        assert_eq!(run(model, arguments).status.code(), Some(2), "{model}");
    }
}

#[test]
fn standard_streams_pass_through() {
    for model in models() {
        let arguments: &[&str] = match model {
            "vm" => &["--", "idle"],
            _ => &["--", "sh", "-c", "echo ready 1.000; cat >/dev/null"],
        };
        let mut child = command(model, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ringside runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("a line of text");
        assert_eq!(line, "ready 1.000\n", "{model}");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(b"some input").expect("somebody reads");
        assert!(
            child.try_wait().expect("a child").is_none(),
            "{model}: its input has not ended yet"
        );
        drop(input);
        assert!(child.wait().expect("a child").success(), "{model}");
    }
}

/// Starts something that runs until it is ended, and waits until it does.
fn start_endless(model: &str) -> Child {
    let arguments: &[&str] = match model {
        "vm" => &["--", "idle"],
        _ => &["--", "sh", "-c", "echo ready 1; exec sleep 1000"],
    };
    let mut child = command(model, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ringside runs");
    let mut ready = [0; 8];
    child
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut ready)
        .expect("it says that it is ready");
    child
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn signals_end_the_command_and_show_in_the_status() {
    for model in models() {
        for (name, number) in [("-TERM", 15), ("-INT", 2), ("-HUP", 1)] {
            let mut child = start_endless(model);
            signal(&child, name);
            let status = child.wait().expect("a child");
            // The native command is the process itself: it has no status but the signal.
            let shown = status.code().or(status.signal().map(|signal| 128 + signal));
            assert_eq!(shown, Some(128 + number), "{model} {name}");
        }
    }
}

#[test]
fn what_cannot_run_says_so_with_the_statuses_of_shells() {
    for model in ["native", "container", "vm"] {
        // The file is looked for before the virtual machine is made.
        if model != "vm" && !models().contains(&model) {
            continue;
        }
        let output = run(model, &["--", "no-such-program"]);
        assert_eq!(output.status.code(), Some(127), "{model}");
        assert!(text(&output.stderr).contains("no-such-program"), "{model}");
        let output = run(model, &["--", "/etc/passwd"]);
        assert_eq!(output.status.code(), Some(126), "{model}");
        assert!(text(&output.stderr).contains("/etc/passwd"), "{model}");
    }
    let empty = tempfile::tempdir().unwrap();
    let without_kernel = command("vm", &["--", "sh"])
        .env("XDG_CACHE_HOME", empty.path())
        .output()
        .unwrap();
    assert_eq!(without_kernel.status.code(), Some(125));
    let message = text(&without_kernel.stderr);
    assert!(message.contains("ringside kernel build"), "{message}");
}

#[test]
fn bad_usage_names_the_value() {
    for (arguments, value) in [
        (&["--in", "cloud", "--", "true"][..], "cloud"),
        (&["--in", "vm", "--memory", "much", "--", "hello"], "`much`"),
        (
            &["--in", "container", "--memory", "1.5G", "--", "true"],
            "`1.5G`",
        ),
        (&["--in", "vm", "--pids", "4", "--", "hello"], "--pids"),
        (&["--in", "vm"], "COMMAND"),
        (
            &[
                "--in",
                "vm",
                "--tap",
                "t",
                "--address",
                "10.0.0.300/24",
                "--",
                "sh",
            ],
            "10.0.0.300/24",
        ),
        (
            &[
                "--in",
                "vm",
                "--tap",
                "t",
                "--address",
                "10.0.0.2/24",
                "--gateway",
                "home",
                "--",
                "sh",
            ],
            "home",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_ringside"))
            .arg("run")
            .args(arguments)
            .output()
            .expect("ringside runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(value), "{arguments:?}");
    }
}

#[test]
fn memory_that_no_guest_can_have_is_refused() {
    if !models().contains(&"vm") {
        return;
    }
    for size in ["0", "4K", "1M", "9000000", "100T"] {
        let output = run("vm", &["--memory", size, "--", "hello"]);
        assert_eq!(output.status.code(), Some(125), "{size}");
        assert!(text(&output.stderr).contains("memory"), "{size}");
    }
}

#[test]
fn a_hundred_at_once_all_succeed() {
    for model in models() {
        let arguments: &[&str] = match model {
            "vm" => &["--memory", "8M", "--", "hello"],
            _ => &["--", "echo", "Hello"],
        };
        let children: Vec<Child> = (0..100)
            .map(|_| {
                command(model, arguments)
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("ringside runs")
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().expect("a child");
            assert!(
                output.status.success() && output.stdout.starts_with(b"Hello"),
                "{model}: {} {}",
                output.status,
                text(&output.stderr)
            );
        }
    }
}

#[test]
fn a_bare_machine_takes_two_mebibytes_beyond_the_guests_memory_at_most() {
    if !models().contains(&"vm") {
        return;
    }
    let mut child = start_endless("vm");
    let waits = smaps(&child);
    drop(child.stdin.take());
    assert!(child.wait().expect("a child").success());
    assert_small("a guest that waits", &waits);

    let mut child = command("vm", &["--", "attack", "loop"]);
    let mut child = child.stdout(Stdio::null()).spawn().expect("ringside runs");
    // It says nothing: it runs when it has touched its memory, and has settled when it has used more
    // processor time since than it takes to settle.
    let until = |done: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !done() {
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "it does not get on"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    until(&|| guest_kib(&smaps(&child)) > 0);
    let start = ticks(&child);
    until(&|| ticks(&child) - start >= 20);
    let computes = smaps(&child);
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("a child").code(), Some(128 + 15));
    assert_small("a guest that computes", &computes);
}

fn smaps(child: &Child) -> String {
    fs::read_to_string(format!("/proc/{}/smaps", child.id())).expect("it lives")
}

/// Processor time in ticks of 10 ms (`man 5 proc_pid_stat`, fields 14 and 15).
fn ticks(child: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it lives");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |index: usize| fields[index].parse::<u64>().expect("a number");
    number(11) + number(12)
}

fn guest_kib(smaps: &str) -> u64 {
    pss_kib(smaps, |line| line.contains("/memfd:ringside-guest"))
}

#[track_caller]
fn assert_small(which: &str, smaps: &str) {
    let guest = guest_kib(smaps);
    let all = pss_kib(smaps, |_| true);
    assert!(
        guest > 0 && guest < 64 << 10,
        "{guest} KiB of guest memory are there"
    );
    // A debug build maps several times the code that a release build does.
    let most = if cfg!(debug_assertions) { 16384 } else { 2048 };
    assert!(
        all - guest <= most,
        "{which}: {} KiB beyond the guest's",
        all - guest
    );
}

#[test]
fn a_machines_processor_time_is_limited_and_nothing_of_it_is_left() {
    if !models().contains(&"vm") || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: limiting a machine needs KVM and root");
        return;
    }
    let groups = || {
        let tree = Command::new("find")
            .args(["/sys/fs/cgroup", "-maxdepth", "4", "-name", "ringside-*"])
            .output();
        text(&tree.expect("find runs").stdout)
    };
    let mut child = command("vm", &["--cpus", "0.5", "--", "idle"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ringside runs");
    let mut ready = [0; 8];
    let output = child.stdout.as_mut().expect("piped");
    output.read_exact(&mut ready).expect("it is ready");
    let pid = child.id().to_string();
    let inside = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let group = format!("ringside-{pid}-");
    assert!(inside.contains(&group), "{inside}");
    drop(child.stdin.take());
    assert!(child.wait().expect("a child").success());
    assert!(!groups().contains(&group), "{}", groups());
    let refused = run("vm", &["--cpus", "-1", "--", "hello"]);
    assert_ne!(refused.status.code(), Some(0));
}

#[test]
fn what_a_container_writes_does_not_survive_it() {
    if !models().contains(&"container") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("kept");
    fs::write(&file, "before").expect("a file");
    let script = format!(
        "echo after >{0} && cat {0} && touch {1}/new",
        file.display(),
        directory.path().display()
    );
    let output = run("container", &["--", "sh", "-c", &script]);
    assert_eq!(text(&output.stdout), "after\n", "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "before");
    assert!(!directory.path().join("new").exists());
}

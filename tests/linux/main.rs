//! `ringside run --in vm` of this host's programs, from outside. It takes a kernel (`ringside kernel
//! build` or `fetch`); `RINGSIDE_LINUX_GUESTS=1` makes its absence a failure. A boot takes ten seconds
//! where ring 0 is emulated, so that each guest here is asked for several things.

mod devices;
mod memory;
#[path = "../smaps/mod.rs"]
mod smaps;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const RINGSIDE: &str = env!("CARGO_BIN_EXE_ringside");

/// For a guest that ought to end, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(300);

/// What `ringside doctor` says of this host.
fn diagnosis() -> Value {
    let mut doctor = Command::new(RINGSIDE);
    let output = doctor.args(["doctor", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether a kernel is kept that runs here; where one is required, its absence is no reason to skip.
fn has_kernel() -> bool {
    let diagnosis = diagnosis();
    let findings = diagnosis["findings"].as_array().unwrap();
    let kept = findings
        .iter()
        .any(|finding| finding["name"] == "Linux guests" && finding["state"] == "ok");
    if !kept {
        assert!(
            env::var_os("RINGSIDE_LINUX_GUESTS").is_none(),
            "{diagnosis:#}"
        );
        eprintln!("skipped: no Linux kernel is kept for guests of this host");
    }
    kept
}

/// `ringside run --in vm`, with signals that whoever started the tests ignores (a background job's)
/// not ignored.
fn guest(arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command
        .args(["--default-signal", RINGSIDE, "run", "--in", "vm"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Its status, or none if it does not end.
fn ended(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    None
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn streams_status_environment_and_directory_pass_through() {
    if !has_kernel() {
        return;
    }
    let script = r#"read line; echo "$line $KIND $PWD"; echo problem >&2; echo x >written; cat written; uname -r; exit 3"#;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(RINGSIDE);
    command
        .args([
            "run", "--in", "vm", "--file", "cat", "--file", "uname", "--", "sh", "-c", script,
        ])
        .env("KIND", "guest")
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let (output, error) = (text(&stdout), text(&stderr));
    assert_eq!(status.code(), Some(3), "{output}{error}");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], format!("hello guest {}", folder.path().display()));
    assert_eq!(lines[1], "x");
    let here = Command::new("uname").arg("-r").output().unwrap();
    assert_ne!(
        lines[2],
        text(&here.stdout).trim(),
        "the kernel is the guest's"
    );
    assert_eq!(error, "problem\n");
    assert!(
        !folder.path().join("written").exists(),
        "what a guest writes is gone with it"
    );
}

/// Bytes among which each occurs, and with no period that is a power of two.
fn bytes(count: u32) -> Vec<u8> {
    (0..count)
        .map(|at| ((at % 251) ^ (at >> 12)) as u8)
        .collect()
}

#[test]
fn many_bytes_go_in_and_come_out_as_they_were() {
    if !has_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bytes");
    let (stored, typed) = (bytes(1 << 20), bytes(1 << 16));
    fs::write(&file, &stored).unwrap();
    let name = file.to_str().unwrap();
    // Out of a file that travels along, then from standard input, through a reading command each.
    let script = format!("cat {name}; cat; echo between >&2");
    let arguments = [
        "--file", name, "--file", "cat", "--memory", "192M", "--", "sh", "-c", &script,
    ];
    let mut child = guest(&arguments).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let all = [&stored[..], &typed].concat();
    let feeder = thread::spawn(move || input.write_all(&typed));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), &*error), (Some(0), "between\n"));
    assert_eq!(output.stdout.len(), all.len());
    assert!(output.stdout == all, "bytes have changed on their way");
}

#[test]
fn several_processors_and_a_named_one() {
    if !has_kernel() {
        return;
    }
    // Where ring 0 is emulated and the machine is busy, two keep each other from getting on for minutes.
    let emulated = diagnosis()["host"]["kvm"]["kind"] == "software";
    let processors = if emulated { "1" } else { "2" };
    let arguments = [
        "--cpus",
        processors,
        "--mask",
        "rdrand",
        "--file",
        "nproc",
        "--file",
        "cat",
        "--",
        "sh",
        "-c",
        "nproc; cat /proc/cpuinfo",
    ];
    let output = guest(&arguments).output().unwrap();
    let (output, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.lines().next(), Some(processors), "{output}{error}");
    let flags = output.lines().filter(|line| line.starts_with("flags"));
    let flags: Vec<Vec<&str>> = flags.map(|line| line.split(' ').collect()).collect();
    assert_eq!(flags.len().to_string(), processors);
    for flags in flags {
        assert!(flags.contains(&"sse2"), "{flags:?}");
        // An emulator adds some of the host's features again, but not what its template is for.
        let masked = if emulated { "cx16" } else { "rdrand" };
        assert!(!flags.contains(&masked), "{flags:?}");
    }
}

#[test]
fn signals_and_their_statuses_pass_through() {
    if !has_kernel() {
        return;
    }
    let script = "trap 'exit 7' TERM; echo ready; while :; do :; done";
    let mut child = guest(&["--", "sh", "-c", script]).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    if line != "ready\n" {
        let mut error = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut error).unwrap();
        panic!("{error}");
    }
    signal(&child, Signal::SIGTERM);
    assert_eq!(ended(&mut child), Some(7));
}

#[test]
fn a_command_that_a_signal_ends_has_128_more() {
    if !has_kernel() {
        return;
    }
    let output = guest(&["--", "sh", "-c", "kill -9 $$"]).output().unwrap();
    assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
}

/// The names of the stamps that a run left.
fn stamps(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let names = text.lines().filter_map(|line| line.split_once(' '));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn a_signal_ends_a_guest_whose_user_space_is_not_there_yet() {
    if !has_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stamps");
    for (which, status) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
    ] {
        let arguments = [
            "--console",
            "--stamps",
            file.to_str().unwrap(),
            "--",
            "true",
        ];
        let mut child = guest(&arguments).spawn().unwrap();
        // The kernel's first word: it has begun, and is far from its end.
        let mut word = [0];
        let mut console = child.stderr.take().unwrap();
        console.read_exact(&mut word).unwrap();
        let drained = thread::spawn(move || console.read_to_end(&mut Vec::new()));
        signal(&child, which);
        assert_eq!(ended(&mut child), Some(status), "{which}");
        drained.join().unwrap().unwrap();
        assert_eq!(stamps(&file), ["entered_ns"], "{which}");
    }
}

#[test]
fn a_terminal_has_its_size_and_its_keys() {
    if !has_kernel() {
        return;
    }
    let size = |rows, columns| Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(&size(31, 97), None).unwrap();
    let end = || Stdio::from(terminal.slave.try_clone().unwrap());
    let script = "stty size; read line; echo \"got $line\"; exit 5";
    let mut child = guest(&["--file", "stty", "--", "sh", "-c", script])
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    drop(terminal.slave);
    let mut master = File::from(terminal.master);
    let mut shown = Vec::new();
    let mut piece = [0; 256];
    let mut typed = false;
    // At its end, a terminal whose other side is gone gives an error.
    while let Ok(count @ 1..) = master.read(&mut piece) {
        shown.extend_from_slice(&piece[..count]);
        if !typed && text(&shown).contains("31 97") {
            master.write_all(b"word\r").unwrap();
            typed = true;
        }
    }
    assert_eq!(ended(&mut child), Some(5), "{}", text(&shown));
    assert!(text(&shown).contains("got word"), "{}", text(&shown));
}

#[test]
fn a_comparison_tells_the_kernels_part_of_a_boot_from_the_vmms() {
    if !has_kernel() {
        return;
    }
    let output = Command::new(RINGSIDE)
        .args(["compare", "--runs", "1", "--workloads", "boot"])
        .args(["--contenders", "native,vm", "--json", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let boot = &report["workloads"][0];
    let value = |metric: usize| {
        let metric = &boot["metrics"][metric];
        let results = metric["results"].as_array().unwrap();
        assert_eq!(results.len(), 1, "{metric:#}");
        assert_eq!(results[0]["contender"], "vm");
        results[0]["summary"]["median"].as_f64().unwrap()
    };
    let (time, vmm, kernel) = (value(0), value(1), value(2));
    assert!(vmm > 0.0 && kernel > vmm, "{boot:#}");
    assert!((time - vmm - kernel).abs() < 0.001, "{boot:#}");
    assert_eq!(boot["not_run"][0]["contender"], "native");
}

#[test]
fn every_test_of_sysbench_runs_in_a_guest() {
    if !has_kernel() || Command::new("sysbench").arg("--version").output().is_err() {
        eprintln!("skipped: it takes a kernel and sysbench");
        return;
    }
    for (words, figure) in [
        (
            "--test=cpu --num-threads=3 --max-requests=50",
            "events_per_second",
        ),
        (
            "fileio --file-total-size=4M --file-num=4 --events=100 --time=0",
            "written_mib_per_second",
        ),
    ] {
        let output = Command::new(RINGSIDE)
            .args(["sysbench", "--in", "vm", "--json"])
            .args(words.split(' '))
            .output()
            .unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let figures = told["runs"][0]["figures"].as_array().unwrap();
        let found = figures.iter().find(|found| found["name"] == figure);
        assert!(
            found.is_some_and(|found| found["value"].as_f64() > Some(0.0)),
            "{words}: {told:#}{}",
            text(&output.stderr)
        );
    }
    // The others share a guest.
    let script = "sysbench memory --memory-total-size=16M run \
        && sysbench threads --threads=2 --events=20 --time=0 run \
        && sysbench mutex --mutex-num=4 --mutex-locks=100 run";
    let arguments = ["--file", "sysbench", "--", "sh", "-c", script];
    let output = guest(&arguments).output().unwrap();
    let report = text(&output.stdout);
    assert!(output.status.success(), "{report}{}", text(&output.stderr));
    assert_eq!(report.matches("total time:").count(), 3, "{report}");
}

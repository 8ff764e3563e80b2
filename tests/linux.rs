//! `ringside run --in vm` of programs of this host, in a Linux guest. Needs a kernel that fits this host's
//! KVM: `ringside kernel build`, or `fetch` where ring 0 is not emulated.

use serde_json::Value;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

const RINGSIDE: &str = env!("CARGO_BIN_EXE_ringside");

/// Whether a kernel is kept that runs here; where one is required, its absence is no reason to skip.
fn has_kernel() -> bool {
    let output = Command::new(RINGSIDE)
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
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

fn guest(arguments: &[&str]) -> Child {
    Command::new("env")
        .args(["--default-signal", RINGSIDE, "run", "--in", "vm"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
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

#[test]
fn signals_and_their_statuses_pass_through() {
    if !has_kernel() {
        return;
    }
    let mut child = guest(&[
        "--",
        "sh",
        "-c",
        "trap 'exit 7' TERM; echo ready; while :; do :; done",
    ]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    if line != "ready\n" {
        let mut error = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut error)
            .unwrap();
        panic!("{error}");
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_command_that_a_signal_ends_has_128_more() {
    if !has_kernel() {
        return;
    }
    let output = guest(&["--", "sh", "-c", "kill -9 $$"])
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
}

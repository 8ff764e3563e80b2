//! Whatever a student's code does, the grader says so in one line, goes on, and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::common::{Fixture, check, text, wants_compiler};

#[test]
fn every_bad_end_has_its_verdict() {
    wants_compiler!();
    let fixture = Fixture::new("hostile");
    let grade = fixture.grade(fixture.root(), &["99"]);
    let verdict = |id: &str| check(&grade, id)["verdict"].as_str().unwrap().to_string();
    let message = |id: &str| {
        check(&grade, id)["message"]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };

    assert_eq!(verdict("99.1"), "TIMEOUT");
    assert_eq!(verdict("99.2"), "TIMEOUT");
    assert!(
        message("99.2").contains("not done after 4 s"),
        "{}",
        message("99.2")
    );
    assert_eq!(verdict("99.3"), "CRASH");
    assert!(message("99.3").contains("SIGSEGV"), "{}", message("99.3"));
    assert_eq!(verdict("99.4"), "CRASH");
    assert!(
        check(&grade, "99.4")["output"]
            .as_str()
            .unwrap()
            .contains("overflowed its stack")
    );
    assert_eq!(verdict("99.5"), "CRASH");
    assert!(message("99.5").contains("SIGABRT"), "{}", message("99.5"));
    assert_eq!(verdict("99.6"), "CRASH");
    assert!(message("99.6").contains("SIGXFSZ"), "{}", message("99.6"));
    assert_eq!(verdict("99.7"), "CRASH");
    assert!(
        message("99.7").contains("before the check was finished"),
        "{}",
        message("99.7")
    );
    assert_eq!(verdict("99.8"), "FAIL");
    let got = check(&grade, "99.8")["finding"]["got"].as_str().unwrap();
    assert!(
        got.contains("checks/main.rs:") && got.contains("on line one"),
        "{got}"
    );
    assert_eq!(verdict("99.9"), "ok");
    assert_eq!(verdict("99.10"), "FAIL");
    let printed = check(&grade, "99.10")["output"].as_str().unwrap();
    assert!(
        printed.contains("junk") && !printed.contains(['\u{1b}', '\0']),
        "{printed:?}"
    );
    assert_eq!(verdict("99.11"), "CRASH");
    assert_eq!(verdict("99.12"), "todo");
    assert_eq!(message("99.12"), "something");
    let last = verdict("99.13");
    assert!(last == "ok" || last == "skip" && !check(&grade, "99.13")["fix"].is_null());

    let left = fs::read_to_string(fixture.root().join("labs/lab99-hostile/daemon")).unwrap();
    assert!(
        !Path::new("/proc").join(left.trim()).exists(),
        "process {left} is still there"
    );
    let score = grade["labs"][0]["score"].as_u64();
    assert_eq!(score, Some(if last == "ok" { 20 } else { 10 }));

    // The same for people: four lines and a hint, and an exit status that a script can use.
    let output = fixture.lab(&["grade", "--check", "99.10"]);
    let shown = text(&output);
    for part in [
        "FAIL",
        "ran       it",
        "expected  silence",
        "got       junk",
        "look      the mirror",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains("cargo lab hint 99.10"), "{shown}");
    assert_eq!(output.status.code(), Some(1));
    killed_runner(&fixture);
}

/// The runner is killed while a check loops: the check goes with it, and the next runner removes what
/// it left in the temporary directory.
fn killed_runner(fixture: &Fixture) {
    let temporary = tempfile::tempdir().unwrap();
    let pid_file = fixture.root().join("labs/lab99-hostile/pid");
    fs::remove_file(&pid_file).unwrap();
    let mut runner = fixture
        .command(fixture.root(), &["grade", "--check", "99.1"])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    while pid.is_empty() {
        sleep(Duration::from_millis(5));
        pid = fs::read_to_string(&pid_file).unwrap_or_default();
    }
    runner.kill().unwrap();
    runner.wait().unwrap();
    // Its limit would end it too, but with SIGXCPU, a second later.
    let process = Path::new("/proc").join(&pid);
    let alive =
        || fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while alive() {
        sleep(Duration::from_millis(5));
    }
    let left = || fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left(), 1);
    let mut next = fixture.command(fixture.root(), &["list"]);
    assert!(
        next.env("TMPDIR", temporary.path())
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(left(), 0);
}

//! What a command line may say, and `ringside workload`.

use std::fs;
use std::process::Stdio;

use crate::place::{Place, assert_status, text};

#[test]
fn wrong_names_are_answered_with_the_right_ones() {
    let place = Place::new();
    for (line, answer) in [
        (
            "compare --workloads start,prime",
            "ringside: unknown workload `prime`; there is start, primes, memory, faults, call, footprint, boot, sysbench-cpu, sysbench-memory, sysbench-threads, sysbench-mutex, sysbench-fileio\n",
        ),
        (
            "compare --contenders docker",
            "ringside: unknown contender `docker`; there is native, container, vm, floor-container, floor-vm\n",
        ),
    ] {
        let output = place.ringside(line).output().unwrap();
        assert_status(&output, 2);
        assert_eq!(text(&output.stderr), answer);
    }
    assert_status(&place.ringside("compare --runs 0").output().unwrap(), 2);
    place.assert_empty();
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_anything_runs() {
    let place = Place::new();
    let line = "compare --runs 100000 --json no/such/folder/report.json";
    let output = place.ringside(line).output().unwrap();
    assert_status(&output, 1);
    assert_eq!(
        text(&output.stderr),
        "ringside: cannot write no/such/folder/report.json: No such file or directory (os error 2)\n"
    );
    place.assert_empty();
}

#[test]
fn workload_runs_the_embedded_work_in_the_calling_process() {
    let place = Place::new();
    let output = place.ringside("workload faults 3").output().unwrap();
    assert_status(&output, 0);
    let (name, value) = text(&output.stdout).trim().split_once(' ').unwrap();
    assert_eq!(name, "first_touch_ns");
    assert!(value.parse::<f64>().unwrap() > 0.0, "{value}");

    let mut idle = place
        .ringside("workload idle")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // It answers to the end of its input, and to nothing before.
    let input = idle.stdin.take().unwrap();
    assert!(idle.try_wait().unwrap().is_none());
    drop(input);
    assert_eq!(
        text(&idle.wait_with_output().unwrap().stdout),
        "ready 1.000\n"
    );

    for (line, message) in [
        ("workload dance", "unknown work `dance`"),
        ("workload faults many", "PAGES is `many`"),
        (
            "workload memory 1 1048576",
            "there are no 1099511627776 bytes",
        ),
    ] {
        let output = place.ringside(line).output().unwrap();
        assert_status(&output, 2);
        assert!(
            text(&output.stderr).contains(message),
            "{}",
            text(&output.stderr)
        );
    }
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = place
        .ringside("workload call 1")
        .stdout(full)
        .output()
        .unwrap();
    assert_status(&output, 1);
}

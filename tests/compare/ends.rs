//! How a comparison ends before its time, and that nothing is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::{LONG, Place, assert_status, results, text};

/// Waits until a comparison that is under way has run `call` in a process this often. (Under the
/// container it is the same command line; so there are two of these a round at most.)
fn wait_for_runs(place: &Place, comparison: &mut Child, count: usize) {
    let work = [env!("CARGO_BIN_EXE_ringside"), "workload", "call", "30", ""].join("\0");
    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + LONG;
    while seen.len() < count {
        assert!(Instant::now() < deadline, "saw only {seen:?}");
        assert!(
            comparison.try_wait().unwrap().is_none(),
            "it ended by itself"
        );
        let processes = place.processes().into_iter();
        seen.extend(
            processes
                .filter(|(_, line)| line == work.as_bytes())
                .map(|(id, _)| id),
        );
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn an_interrupt_shows_what_there_is_and_cleans_up() {
    for (number, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let place = Place::new();
        let line = "compare --runs 100000 --workloads call --json report.json";
        let mut comparison = place.ringside(line).spawn().unwrap();
        // The fifth is in the second round that counts, at the earliest.
        wait_for_runs(&place, &mut comparison, 5);
        signal(&comparison, number);
        let output = comparison.wait_with_output().unwrap();
        assert_status(&output, status);
        let table = text(&output.stdout);
        assert!(table.contains("\ninterrupted: "), "{table}");
        assert!(table.contains("\n call "), "{table}");
        let report = place.json("report.json");
        assert_eq!(report["interrupted"], true);
        let first = &results(&report, "call", "call_ns")[0];
        assert_eq!(first["samples"][0]["round"], 1);
        place.assert_empty();
    }
}

#[test]
fn what_a_killed_comparison_leaves_goes_with_the_next() {
    let place = Place::new();
    let mut comparison = place
        .ringside("compare --runs 100000 --workloads call,footprint")
        .spawn()
        .unwrap();
    wait_for_runs(&place, &mut comparison, 3);
    signal(&comparison, Signal::SIGKILL);
    assert_eq!(comparison.wait().unwrap().signal(), Some(9));
    // Its last run ends by itself, and waits for no input that will not come.
    place.assert_no_processes();
    assert_eq!(fs::read_dir(place.temporary()).unwrap().count(), 1);

    let next = "compare --runs 1 --workloads call --contenders native";
    assert_status(&place.ringside(next).output().unwrap(), 0);
    place.assert_empty();
}

//! What a comparison writes.

use std::fs;

use serde_json::Value;

use crate::place::{Place, array, assert_status, named, results, text, unavailable};

#[test]
fn every_contender_gives_every_figure() {
    let place = Place::new();
    let output = place
        .ringside("compare --runs 1 --json report.json")
        .output()
        .unwrap();
    assert_status(&output, 0);
    assert_eq!(
        text(&output.stderr),
        "",
        "no progress bar without a terminal"
    );
    let report = place.json("report.json");
    for contender in ["native", "container", "vm"] {
        if let Some(reason) = unavailable(&report, contender) {
            eprintln!("skipped: {contender}: {reason}");
            return;
        }
    }
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["interrupted"], false);
    for (workload, metric) in [
        ("start", "time"),
        ("primes", "events_per_second"),
        ("memory", "write_mib_per_second"),
        ("memory", "read_mib_per_second"),
        ("faults", "first_touch_ns"),
        ("call", "call_ns"),
        ("footprint", "overhead"),
    ] {
        let results = results(&report, workload, metric);
        for contender in ["native", "container", "vm"] {
            let median = named(results, "contender", contender)["summary"]["median"].as_f64();
            let around_nothing = workload == "footprint" && contender == "native";
            assert_eq!(
                median == Some(0.0),
                around_nothing,
                "{workload} {metric} {contender}"
            );
        }
    }
    // Guest memory is where a guest is, and does not count among what surrounds it.
    let guest_memory = results(&report, "footprint", "guest_memory");
    assert_eq!(guest_memory.len(), 1);
    assert_eq!(guest_memory[0]["contender"], "vm");
    // Each floor runs beside what it is the floor of.
    let starts = results(&report, "start", "time");
    for contender in ["container", "vm"] {
        let ratios = array(named(starts, "contender", contender), "/ratios");
        named(ratios, "to_contender", "native");
        named(ratios, "to_contender", &format!("floor-{contender}"));
    }
    let table = text(&output.stdout);
    for word in [
        "native",
        "container",
        "vm",
        "primes",
        "guest memory",
        "by hand",
        "cgroups",
    ] {
        assert!(table.contains(word), "no {word} in\n{table}");
    }
    assert!(
        !table.contains('\u{1b}'),
        "escape sequences in a pipe:\n{table}"
    );
    place.assert_empty();
}

#[test]
fn json_and_csv_tell_the_same() {
    let place = Place::new();
    let line = "compare --runs 3 --workloads start,call --contenders native --seed 7 --json r.json --csv r.csv --quiet";
    let output = place.ringside(line).output().unwrap();
    assert_status(&output, 0);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""));
    let report = place.json("r.json");
    assert_eq!(report["seed"], 7);
    let csv = fs::read_to_string(place.path().join("r.csv")).unwrap();
    let mut rows = csv.lines();
    let header: Vec<&str> = rows.next().unwrap().split(',').collect();
    assert_eq!(
        header[..7],
        [
            "workload",
            "metric",
            "unit",
            "better",
            "contender",
            "round",
            "value"
        ]
    );
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(',').collect()).collect();
    for (workload, metric, per_round) in [("start", "time", 3), ("call", "call_ns", 1)] {
        let samples = array(&results(&report, workload, metric)[0], "/samples");
        assert_eq!(samples.len(), 3 * per_round);
        let of_workload: Vec<_> = rows.iter().filter(|row| row[0] == workload).collect();
        assert_eq!(of_workload.len(), samples.len());
        for (row, sample) in of_workload.iter().zip(samples) {
            assert_eq!(row[1], metric);
            assert_eq!(row[4], "native");
            assert_eq!(row[5].parse::<u64>().ok(), sample["round"].as_u64());
            assert_eq!(row[6].parse::<f64>().ok(), sample["value"].as_f64());
        }
    }
    place.assert_empty();
}

#[test]
fn standard_output_takes_one_format() {
    let place = Place::new();
    let line = "compare --runs 1 --workloads call --contenders native";
    let output = place
        .ringside(&format!("{line} --json -"))
        .output()
        .unwrap();
    assert_status(&output, 0);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results(&report, "call", "call_ns").len(), 1);

    let output = place.ringside(&format!("{line} --csv -")).output().unwrap();
    assert_status(&output, 0);
    assert_eq!(text(&output.stdout).lines().count(), 2);

    let output = place
        .ringside(&format!("{line} --csv - --json -"))
        .output()
        .unwrap();
    assert_status(&output, 2);
    place.assert_empty();
}

#[test]
fn sysbench_stands_beside_primes() {
    let place = Place::new();
    let line = "compare --runs 1 --workloads boot,sysbench-cpu --json report.json";
    let mut command = place.ringside(line);
    // No kernel is kept there.
    command.env("XDG_CACHE_HOME", place.temporary());
    let output = command.output().unwrap();
    let report = place.json("report.json");
    let not_run_of = |workload| {
        let workload = named(array(&report, "/workloads"), "name", workload);
        array(workload, "/not_run")
    };
    let not_run = not_run_of("sysbench-cpu");
    let reason = |workload, contender| {
        let not_run = named(not_run_of(workload), "contender", contender);
        not_run["reason"].as_str().unwrap()
    };
    if unavailable(&report, "vm").is_none() {
        for workload in ["boot", "sysbench-cpu"] {
            let reason = reason(workload, "vm");
            assert!(reason.contains("`ringside kernel build`"), "{reason}");
        }
    }
    for contender in ["native", "container"] {
        if unavailable(&report, contender).is_none() {
            let reason = reason("boot", contender);
            assert!(reason.starts_with("does not apply"), "{reason}");
        }
    }
    assert!(text(&output.stdout).contains("does not apply"));
    if let Some(missing) = not_run
        .iter()
        .find(|skipped| skipped["contender"] == "native")
    {
        eprintln!("skipped: {}", missing["reason"]);
        return;
    }
    assert_status(&output, 0);
    let sysbench = results(&report, "sysbench-cpu", "events_per_second");
    let primes = results(&report, "primes", "events_per_second");
    for contender in ["native", "container"] {
        if unavailable(&report, contender).is_some() {
            continue;
        }
        named(sysbench, "contender", contender);
        let ratios = array(named(primes, "contender", contender), "/ratios");
        let beside = named(ratios, "to_workload", "sysbench-cpu");
        assert_eq!(beside["to_contender"], contender);
    }
    place.assert_empty();
}

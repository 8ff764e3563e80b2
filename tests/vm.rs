//! `ringside vm` from outside: the views of a guest, for people and for machines.

use serde_json::Value;
use std::process::{Command, Output, Stdio};

fn vm(line: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringside"))
        .arg("vm")
        .args(line)
        .stdin(Stdio::null())
        .output()
        .expect("ringside runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether this host has KVM; if not, says why the test is skipped.
fn has_kvm() -> bool {
    let opened = ringside_vmm::sys::kvm::Kvm::open();
    opened
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .is_ok()
}

#[test]
fn the_programs_are_listed_with_what_they_do() {
    let output = vm(&["list"]);
    let list = text(&output.stdout);
    for program in ringside_guest::PROGRAMS {
        assert!(list.contains(program.name) && list.contains(program.about));
    }
}

#[test]
fn a_run_ends_with_its_exits() {
    if !has_kvm() {
        return;
    }
    let output = vm(&["run", "hello"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with("Hello from ring 3"));
    assert!(text(&output.stderr).contains("2 exits"));
    let quiet = vm(&["run", "hello", "--quiet"]);
    assert!(quiet.stderr.is_empty());
}

#[test]
fn a_trace_names_the_instruction_that_exited() {
    if !has_kvm() {
        return;
    }
    let output = vm(&["run", "hello", "--trace", "1", "--quiet"]);
    let trace = text(&output.stderr);
    assert!(trace.starts_with("2 exits, the last 1:"), "{trace}");
    assert!(
        trace.contains("out dx,al") && trace.contains("guest::"),
        "{trace}"
    );
}

#[test]
fn a_recording_replays_as_it_was() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("log");
    let file = file.to_str().expect("text");
    let recorded = vm(&["run", "hello", "--record", file, "--quiet"]);
    assert!(recorded.status.success(), "{}", text(&recorded.stderr));
    let replayed = vm(&["run", "hello", "--replay", file]);
    assert_eq!(replayed.stdout, recorded.stdout);
    assert!(text(&replayed.stderr).contains("2 accesses"));
    let other = vm(&["run", "call", "--replay", file]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("`hello`"));
}

#[test]
fn exits_are_counted_for_machines() {
    if !has_kvm() {
        return;
    }
    let output = vm(&["exits", "hello", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["total"], 2);
    assert_eq!(value["exits"][0]["reason"], "io out");
    assert_eq!(value["exits"][0]["count"], 2);
    let bars = value["exits"][0]["distribution"].as_array().expect("bars");
    let counted: u64 = bars.iter().filter_map(|bar| bar["count"].as_u64()).sum();
    assert_eq!(counted, 2);
}

#[test]
fn a_walk_shows_both_levels() {
    if !has_kvm() {
        return;
    }
    let output = vm(&["walk", "hello", "--at", "ring3_start", "--shadow"]);
    let walk = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        walk.contains("both levels          24 memory references"),
        "{walk}"
    );
    assert!(walk.contains("merged by one exit"), "{walk}");
    let output = vm(&["walk", "hello", "--at", "0x200000", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["guest_physical"], "0x200000");
    assert_eq!(value["references"], 24);
    assert_eq!(value["steps"].as_array().map(Vec::len), Some(4));
    let null = vm(&["walk", "hello", "--at", "0"]);
    assert!(text(&null.stdout).contains("not present"));
    let unknown = vm(&["walk", "hello", "--at", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("`nowhere`"));
}

#[test]
fn every_symbol_is_translated() {
    if !has_kvm() {
        return;
    }
    let output = vm(&["translate", "hello", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = value.as_array().expect("rows");
    assert!(rows.iter().any(|row| row["name"] == "ring3_start"));
    // The linker's symbols for the ends of sections may lie on pages that are not mapped.
    let found = rows.iter().filter(|row| row["fault"].is_null());
    let equal = found.filter(|row| row["guest_physical"] == row["guest_virtual"]);
    assert!(equal.count() > rows.len() / 2);
    assert!(
        rows.iter()
            .all(|row| row["fault"].is_null() || row["guest_physical"].is_null())
    );
}

#[test]
fn what_is_no_program_says_why() {
    if !has_kvm() {
        return;
    }
    let missing = vm(&["run", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("`no-such-program`"));
    let linux = vm(&["run", "/bin/ls"]);
    assert_ne!(linux.status.code(), Some(0));
    assert!(text(&linux.stderr).contains("program for Linux"));
}

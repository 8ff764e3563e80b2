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

/// What the kernel holds for process `pid`: weight and quota, each as its version has it.
fn share_of(pid: u32) -> (String, String) {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let line = groups
        .lines()
        .find(|line| line.contains(&format!("/ringside-{pid}-")))
        .expect("it has a group of its own");
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next(), fields.next(), fields.next());
    let mount = match controllers {
        Some("") => "/sys/fs/cgroup".to_owned(),
        Some(controllers) => format!("/sys/fs/cgroup/{controllers}"),
        None => unreachable!("three fields"),
    };
    let read = |name: &str| {
        let path = format!("{mount}{}/{name}", path.unwrap_or_default());
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    match controllers {
        Some("") => (read("cpu.weight"), read("cpu.max")),
        _ => (read("cpu.shares"), read("cpu.cfs_quota_us")),
    }
}

#[test]
fn the_share_of_a_machine_changes_while_it_runs() {
    use std::io::Read;
    if !has_kvm() {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: making cgroups needs root");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringside"))
        .args(["vm", "run", "idle", "--cpu-weight", "50", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ringside runs");
    let mut ready = [0; 8];
    let output = child.stdout.as_mut().expect("piped");
    output.read_exact(&mut ready).expect("it is ready");
    let pid = child.id();
    let is = |weights: [&str; 2], quotas: [&str; 2]| {
        let (weight, quota) = share_of(pid);
        let (weight, quota) = (weight.trim(), quota.trim());
        assert!(weights.contains(&weight), "{weight}");
        assert!(quotas.contains(&quota), "{quota}");
    };
    is(["50", "512"], ["max 100000", "-1"]);
    let number = pid.to_string();
    for (line, weights, quotas) in [
        (
            &["update", &number, "--cpu-weight", "300"][..],
            ["300", "3072"],
            ["max 100000", "-1"],
        ),
        (
            &["update", &number, "--cpus", "0.5"],
            ["300", "3072"],
            ["50000 100000", "50000"],
        ),
    ] {
        let updated = vm(line);
        assert!(updated.status.success(), "{}", text(&updated.stderr));
        is(weights, quotas);
    }
    let senseless = vm(&["update", &number, "--cpu-weight", "0"]);
    assert_eq!(senseless.status.code(), Some(1));
    is(["300", "3072"], ["50000 100000", "50000"]);
    drop(child.stdin.take());
    assert!(child.wait().expect("a child").success());
    let gone = vm(&["update", &number, "--cpus", "1"]);
    assert_eq!(gone.status.code(), Some(1));
    let nothing = vm(&["update", "1"]);
    assert_eq!(nothing.status.code(), Some(2));
}

#[test]
fn every_view_has_a_form_for_machines() {
    if !has_kvm() {
        return;
    }
    let list: Value = serde_json::from_slice(&vm(&["list", "--json"]).stdout).expect("JSON");
    let count = list.as_array().map(Vec::len);
    assert_eq!(count, Some(ringside_guest::PROGRAMS.len()));
    let run = vm(&["run", "hello", "--json", "--trace", "1"]);
    assert!(text(&run.stdout).starts_with("Hello from ring 3"));
    let run: Value = serde_json::from_slice(&run.stderr).expect("JSON");
    assert_eq!(run["total"], 2);
    assert_eq!(run["trace"][0]["instruction"], "out dx,al");
    assert_eq!(run["trace"].as_array().map(Vec::len), Some(1));
    let bad = vm(&["run", "attack", "null", "--json"]);
    assert_eq!(bad.status.code(), Some(1));
    let bad: Value = serde_json::from_slice(&bad.stderr).expect("JSON");
    assert!(bad["report"].as_str().expect("a report").contains("rip"));
    let walk = vm(&["walk", "hello", "--at", "0x200000", "--shadow", "--json"]);
    let walk: Value = serde_json::from_slice(&walk.stdout).expect("JSON");
    assert_eq!(walk["shadow"]["references"], 4);
    let walk = vm(&["walk", "hello", "--at", "0", "--shadow", "--json"]);
    let walk: Value = serde_json::from_slice(&walk.stdout).expect("JSON");
    let why = walk["shadow"]["not_merged"].as_str();
    assert!(why.expect("why").contains("not present"), "{walk:#}");
}

#[test]
fn a_machine_has_as_many_processors_as_it_is_told_to() {
    if !has_kvm() {
        return;
    }
    let output = vm(&["run", "smp", "--vcpus", "3", "--quiet"]);
    assert!(text(&output.stdout).starts_with("processors 3\n"));
    let many = vm(&["run", "hello", "--vcpus", "99"]);
    assert!(!many.status.success());
    assert!(text(&many.stderr).contains("1 to 8"));
}

#[test]
fn what_is_piped_has_no_colours() {
    if !has_kvm() {
        return;
    }
    for line in [
        &["walk", "hello", "--at", "0", "--shadow"][..],
        &["exits", "hello"],
        &["translate", "hello"],
        &["run", "attack", "opcode", "--trace"],
        &["map", "hello"],
    ] {
        let output = vm(line);
        for stream in [&output.stdout, &output.stderr] {
            assert!(!stream.contains(&0x1b), "{line:?}: {}", text(stream));
        }
    }
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

#[test]
fn the_ways_out_of_a_guest_are_compared() {
    if !has_kvm() {
        return;
    }
    let output = vm(&["channels", "--kib", "2", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ways = value["ways"].as_array().expect("a list");
    let exits = |index: usize| (ways[index]["name"].as_str(), ways[index]["exits"].as_u64());
    assert_eq!(exits(0), (Some("serial"), Some(2048)));
    assert_eq!(exits(1), (Some("buffer"), Some(2)));
    assert_eq!(exits(2), (Some("ring"), Some(1)));
    assert_eq!(exits(3), (Some("virtio"), Some(1)));
    let table = vm(&["channels", "--kib", "1"]);
    assert!(text(&table.stdout).contains("1024.000"));
}

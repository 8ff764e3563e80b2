//! `ringside compare` from outside: what it writes, how it ends, and that nothing is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// For what takes as long as it takes, but not for ever.
const LONG: Duration = Duration::from_secs(120);

/// A test's own folder for temporary files. The processes that it starts are known by it: they
/// inherit `TMPDIR`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `TMPDIR`, and nothing but what compare makes there.
    fn temporary(&self) -> PathBuf {
        let folder = self.path().join("tmp");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn ringside(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
        command
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env("TMPDIR", self.temporary())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path().join(file)).unwrap()).unwrap()
    }

    /// The command lines of living processes that were started here.
    fn processes(&self) -> BTreeSet<(u32, Vec<u8>)> {
        let marker = format!("TMPDIR={}", self.temporary().display()).into_bytes();
        let mut found = BTreeSet::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(id) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment
                .split(|&byte| byte == 0)
                .any(|word| word == marker)
            {
                found.insert((
                    id,
                    fs::read(entry.path().join("cmdline")).unwrap_or_default(),
                ));
            }
        }
        found
    }

    /// Fails if a process or a temporary file is left. A process that was killed may take a moment.
    fn assert_empty(&self) {
        self.assert_no_processes();
        let left: Vec<_> = fs::read_dir(self.temporary()).unwrap().flatten().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = self.path().to_str().unwrap();
        assert!(!mounts.contains(here), "mounts left behind in {here}");
    }

    fn assert_no_processes(&self) {
        let deadline = Instant::now() + LONG;
        while !self.processes().is_empty() {
            assert!(
                Instant::now() < deadline,
                "left behind: {:?}",
                self.processes()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn assert_status(output: &Output, status: i32) {
    assert_eq!(
        output.status.code(),
        Some(status),
        "standard output:\n{}\nstandard error:\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

fn array<'v>(value: &'v Value, path: &str) -> &'v Vec<Value> {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .unwrap_or_else(|| panic!("no {path} in {value:#}"))
}

/// The entry of a list of objects with this name.
fn named<'v>(list: &'v [Value], key: &str, name: &str) -> &'v Value {
    let mut entries = list.iter();
    entries
        .find(|entry| entry[key] == name)
        .unwrap_or_else(|| panic!("no {name} in {list:#?}"))
}

/// The results of a metric in a report.
fn results<'v>(report: &'v Value, workload: &str, metric: &str) -> &'v Vec<Value> {
    let workload = named(array(report, "/workloads"), "name", workload);
    array(
        named(array(workload, "/metrics"), "name", metric),
        "/results",
    )
}

/// Why this host cannot run the contender, if it cannot.
fn unavailable<'v>(report: &'v Value, contender: &str) -> Option<&'v str> {
    named(array(report, "/contenders"), "name", contender)["unavailable"].as_str()
}

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
fn wrong_names_are_answered_with_the_right_ones() {
    let place = Place::new();
    for (line, answer) in [
        (
            "compare --workloads start,prime",
            "ringside: unknown workload `prime`; there is start, primes, memory, faults, call, footprint, sysbench-cpu\n",
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

/// Starts `command` where there is nothing behind /dev/kvm; `None` if this host does not let us hide
/// it.
fn output_without_kvm(mut command: Command) -> Option<Output> {
    // A mount namespace belongs to a thread, and its children inherit it.
    let hidden = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).ok()?;
        mount(Some("/dev/null"), "/dev/kvm", none, MsFlags::MS_BIND, none).ok()?;
        Some(command.output().unwrap())
    });
    hidden.join().unwrap()
}

#[test]
fn without_kvm_the_others_still_run() {
    let place = Place::new();
    let command = place.ringside("compare --runs 2 --workloads start,call --json report.json");
    let Some(output) = output_without_kvm(command) else {
        eprintln!("skipped: /dev/kvm cannot be hidden here (it takes root)");
        return;
    };
    assert_status(&output, 0);
    let report = place.json("report.json");
    let reason = unavailable(&report, "vm").expect("no KVM and still a VM");
    assert!(reason.contains("/dev/kvm"), "{reason}");
    assert!(unavailable(&report, "floor-vm").is_some());
    assert_eq!(report["host"]["kvm"]["kind"], "none");
    let calls = results(&report, "call", "call_ns");
    named(calls, "contender", "native");
    if unavailable(&report, "container").is_none() {
        named(calls, "contender", "container");
    }
    assert!(calls.iter().all(|result| result["contender"] != "vm"));
    let line = format!("vm cannot run on this host: {reason}");
    let table = text(&output.stdout);
    assert!(
        table.lines().any(|found| found == line),
        "no `{line}` in\n{table}"
    );
    place.assert_empty();
}

#[test]
fn nothing_but_a_missing_contender_is_skipped() {
    let place = Place::new();
    let Some(output) = output_without_kvm(place.ringside("compare --runs 1 --contenders vm"))
    else {
        eprintln!("skipped: /dev/kvm cannot be hidden here (it takes root)");
        return;
    };
    assert_status(&output, 77);
    assert!(text(&output.stdout).contains("nothing was measured"));
    place.assert_empty();
}

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

#[test]
fn sysbench_stands_beside_primes() {
    let place = Place::new();
    let line = "compare --runs 1 --workloads sysbench-cpu --json report.json";
    let output = place.ringside(line).output().unwrap();
    let report = place.json("report.json");
    let workload = named(array(&report, "/workloads"), "name", "sysbench-cpu");
    let not_run = array(workload, "/not_run");
    if unavailable(&report, "vm").is_none() {
        let reason = named(not_run, "contender", "vm")["reason"]
            .as_str()
            .unwrap();
        assert!(reason.contains("Linux kernel"), "{reason}");
    }
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

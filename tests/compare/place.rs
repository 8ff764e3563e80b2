//! Where a test runs, what it finds there, and how it reads a report.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// For what takes as long as it takes, but not for ever.
pub const LONG: Duration = Duration::from_secs(120);

/// A test's own folder for temporary files. The processes that it starts are known by it: they
/// inherit `TMPDIR`.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// `TMPDIR`, and nothing but what compare makes there.
    pub fn temporary(&self) -> PathBuf {
        let folder = self.path().join("tmp");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub fn ringside(&self, line: &str) -> Command {
        // Signals that whoever started the tests ignores (a background job's) are not ignored here.
        let mut command = Command::new("env");
        command
            .args(["--default-signal", env!("CARGO_BIN_EXE_ringside")])
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env("TMPDIR", self.temporary())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path().join(file)).unwrap()).unwrap()
    }

    /// The command lines of living processes that were started here.
    pub fn processes(&self) -> BTreeSet<(u32, Vec<u8>)> {
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
    pub fn assert_empty(&self) {
        self.assert_no_processes();
        let left: Vec<_> = fs::read_dir(self.temporary()).unwrap().flatten().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = self.path().to_str().unwrap();
        assert!(!mounts.contains(here), "mounts left behind in {here}");
    }

    pub fn assert_no_processes(&self) {
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

pub fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

pub fn assert_status(output: &Output, status: i32) {
    assert_eq!(
        output.status.code(),
        Some(status),
        "standard output:\n{}\nstandard error:\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

pub fn array<'v>(value: &'v Value, path: &str) -> &'v Vec<Value> {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .unwrap_or_else(|| panic!("no {path} in {value:#}"))
}

/// The entry of a list of objects with this name.
pub fn named<'v>(list: &'v [Value], key: &str, name: &str) -> &'v Value {
    let mut entries = list.iter();
    entries
        .find(|entry| entry[key] == name)
        .unwrap_or_else(|| panic!("no {name} in {list:#?}"))
}

/// The results of a metric in a report.
pub fn results<'v>(report: &'v Value, workload: &str, metric: &str) -> &'v Vec<Value> {
    let workload = named(array(report, "/workloads"), "name", workload);
    array(
        named(array(workload, "/metrics"), "name", metric),
        "/results",
    )
}

/// Why this host cannot run the contender, if it cannot.
pub fn unavailable<'v>(report: &'v Value, contender: &str) -> Option<&'v str> {
    named(array(report, "/contenders"), "name", contender)["unavailable"].as_str()
}

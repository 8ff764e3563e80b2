//! The real sysbench under each model, and what its report says.
//!
//! sysbench 1.0 names a test by a word and its options by `--threads`, `--events`, `--time`; the versions
//! before it, and many a lecture, by `--test`, `--num-threads`, `--max-requests`, `--max-time`. Both are
//! understood.

use crate::child::{Child, ChildError};
use crate::interrupt::Interrupt;
use crate::workload::Better;
use ringside_vmm::memory::size;
use serde::Serialize;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use thiserror::Error;

/// Longer than a run of sysbench's own default of ten seconds takes anywhere, start and preparation
/// included.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// sysbench's tests that need no database.
pub const TESTS: [&str; 5] = ["cpu", "memory", "threads", "mutex", "fileio"];

/// Files for `fileio`, where nobody says how large: they lie in a guest's memory.
const FILEIO_DEFAULTS: [(&str, &str); 3] = [
    ("--file-total-size", "64M"),
    ("--file-num", "16"),
    ("--file-test-mode", "rndrw"),
];

/// What sysbench makes when it is given a size that we cannot read.
const FILES_OF_SYSBENCH: u64 = 2 << 30;

/// Bytes of a guest beside its files.
const GUEST: u64 = 128 << 20;

/// A command line that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UsageError {
    /// No test is named.
    #[error("name a test: {}", TESTS.join(", "))]
    NoTest,
    /// One that is none, or needs a database.
    #[error("there is no test `{test}` here; name one of {}", TESTS.join(", "))]
    Test {
        /// What was named.
        test: String,
    },
    /// Two tests.
    #[error("two tests are named, `{0}` and `{1}`; name one")]
    Tests(String, String),
    /// `prepare` and `cleanup` go with every run.
    #[error("`{0}` is not a command here: each test is prepared, run and cleaned up")]
    Command(String),
}

/// Why a run gave no figures.
#[derive(Debug, Error)]
pub enum RunError {
    /// The child process.
    #[error("{}", .0.message())]
    Child(#[from] ChildError),
    /// The report has no figure.
    #[error("sysbench reported no figures but {0:?}")]
    Report(String),
}

/// What to ask of sysbench.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// The test.
    pub test: String,
    /// The options, in the words of version 1.0.
    pub options: Vec<String>,
}

impl Request {
    /// Reads words as sysbench itself would, old ones too.
    ///
    /// # Errors
    /// [`UsageError`].
    pub fn read(words: &[String]) -> Result<Request, UsageError> {
        let mut tests = Vec::new();
        let mut options = Vec::new();
        let (mut old_events, mut time) = (false, false);
        for word in words {
            let (name, value) = word
                .split_once('=')
                .map_or((&**word, None), |(n, v)| (n, Some(v)));
            let mut take = |name: &str| {
                options.push(value.map_or(name.to_owned(), |value| format!("{name}={value}")));
            };
            match name {
                "--test" => tests.extend(value.map(str::to_owned)),
                "--num-threads" => take("--threads"),
                "--max-requests" => {
                    old_events = true;
                    take("--events");
                }
                "--max-time" | "--time" => {
                    time = true;
                    take("--time");
                }
                "run" => {}
                "prepare" | "cleanup" | "help" => return Err(UsageError::Command(word.clone())),
                option if option.starts_with('-') => take(option),
                _ => tests.push(word.clone()),
            }
        }
        let mut tests = tests.into_iter();
        let test = tests.next().ok_or(UsageError::NoTest)?;
        if let Some(other) = tests.next() {
            return Err(UsageError::Tests(test, other));
        }
        if !TESTS.contains(&&*test) {
            return Err(UsageError::Test { test });
        }
        // Of old, a number of requests was the only limit.
        if old_events && !time {
            options.push("--time=0".into());
        }
        if test == "fileio" {
            for (name, value) in FILEIO_DEFAULTS {
                if !options.iter().any(|option| option.starts_with(name)) {
                    options.push(format!("{name}={value}"));
                }
            }
        }
        Ok(Request { test, options })
    }

    /// What `ringside run --in vm` must be told beside it: its files lie in the guest's memory.
    pub fn guest_options(&self) -> Vec<String> {
        if self.test != "fileio" {
            return Vec::new();
        }
        let last_first = self.options.iter().rev();
        let mut sizes = last_first.filter_map(|option| option.strip_prefix("--file-total-size="));
        let size = sizes.next().and_then(|size| size::parse(size).ok());
        let memory = GUEST + size.unwrap_or(FILES_OF_SYSBENCH);
        let options = ["--file", "sysbench", "--memory", &memory.to_string()];
        options.map(str::to_owned).to_vec()
    }

    /// What is run, the program first.
    pub fn command_line(&self) -> Vec<&str> {
        let mut line = if self.test == "fileio" {
            vec!["sh", "-c", FILEIO, "sh"]
        } else {
            vec!["sysbench"]
        };
        line.push(&self.test);
        line.extend(self.options.iter().map(String::as_str));
        if self.test != "fileio" {
            line.push("run");
        }
        line
    }
}

/// Files are made, used and removed in one go: a container and a guest forget them.
const FILEIO: &str = r#"sysbench "$@" prepare >/dev/null && sysbench "$@" run; status=$?
sysbench "$@" cleanup >/dev/null; exit $status"#;

/// A figure of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What programs call it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which direction is better.
    pub better: Better,
    /// How much.
    pub value: f64,
}

/// A figure that a report may have: what its line begins with, and what it is.
type Place = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Better,
);

/// Figures by the start of their line; the number is the first one after it.
const PLACES: [Place; 11] = [
    (
        "events per second:",
        "events_per_second",
        "events",
        "1/s",
        Better::Higher,
    ),
    (
        "reads/s:",
        "reads_per_second",
        "reads",
        "1/s",
        Better::Higher,
    ),
    (
        "writes/s:",
        "writes_per_second",
        "writes",
        "1/s",
        Better::Higher,
    ),
    (
        "fsyncs/s:",
        "fsyncs_per_second",
        "fsyncs",
        "1/s",
        Better::Higher,
    ),
    (
        "read, MiB/s:",
        "read_mib_per_second",
        "read",
        "MiB/s",
        Better::Higher,
    ),
    (
        "written, MiB/s:",
        "written_mib_per_second",
        "written",
        "MiB/s",
        Better::Higher,
    ),
    (
        "total time:",
        "total_time",
        "total time",
        "s",
        Better::Lower,
    ),
    (
        "total number of events:",
        "total_events",
        "total events",
        "1",
        Better::Higher,
    ),
    ("avg:", "latency_mean", "latency, mean", "ms", Better::Lower),
    (
        "95th percentile:",
        "latency_95",
        "latency, 95 %",
        "ms",
        Better::Lower,
    ),
    ("max:", "latency_max", "latency, most", "ms", Better::Lower),
];

/// The figures of a report of sysbench 1.0.
pub fn figures(report: &str) -> Vec<Figure> {
    let lines = || report.lines().map(str::trim);
    let number = |text: &str| {
        let text = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        text[..end]
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
    };
    let figure = |name, title, unit, better, value: Option<f64>| {
        value.map(|value| Figure {
            name,
            title,
            unit,
            better,
            value,
        })
    };
    // "65536 (7890.12 per second)", "64.00 MiB transferred (7704.22 MiB/sec)"
    let rate = |end: &str| {
        let line = lines().find(|line| line.ends_with(end))?;
        number(line.split_once('(')?.1)
    };
    let more = |name, title, unit, value| figure(name, title, unit, Better::Higher, value);
    let operations = rate(" per second)");
    let transferred = rate(" MiB/sec)");
    let memory = [
        more("operations_per_second", "operations", "1/s", operations),
        more("mib_per_second", "transferred", "MiB/s", transferred),
    ];
    let labelled = PLACES.iter().map(|&(start, name, title, unit, better)| {
        let line = lines().find_map(|line| line.strip_prefix(start));
        figure(name, title, unit, better, line.and_then(number))
    });
    let mut all: Vec<Figure> = memory.into_iter().chain(labelled).flatten().collect();
    // Tests that do not say their rate say what it is made of.
    let value = |name| all.iter().find(|figure| figure.name == name);
    if value("events_per_second").is_none()
        && let (Some(events), Some(time)) = (value("total_events"), value("total_time"))
        && time.value > 0.0
    {
        let rate = Some(events.value / time.value);
        all.extend(more("events_per_second", "events", "1/s", rate));
    }
    all
}

/// Runs sysbench once under a model, in `folder`, with `options` of `ringside run`.
///
/// # Errors
/// [`RunError`].
pub fn run(
    ringside: &Path,
    model: &str,
    options: &[String],
    request: &Request,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<Figure>, RunError> {
    let mut command = Command::new(ringside);
    command.args(["run", "--in", model]);
    if model == "vm" {
        command.args(request.guest_options());
    }
    // The last one of an option is the one that counts.
    command
        .args(options)
        .arg("--")
        .args(request.command_line())
        .current_dir(folder);
    let output = Child::spawn(command, RUN_LIMIT, interrupt)?.finish()?;
    let report = String::from_utf8_lossy(&output);
    match figures(&report) {
        none if none.is_empty() => Err(RunError::Report(report.chars().take(200).collect())),
        figures => Ok(figures),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, UsageError> {
        Request::read(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_words_of_old_become_those_of_today() {
        let request = read("--test=cpu --num-threads=100 --max-requests=50000").unwrap();
        assert_eq!(
            request.command_line(),
            [
                "sysbench",
                "cpu",
                "--threads=100",
                "--events=50000",
                "--time=0",
                "run"
            ]
        );
        let request = read("--test=cpu --max-requests=5 --max-time=3 run").unwrap();
        assert_eq!(request.options, ["--events=5", "--time=3"]);
        let request = read("memory --memory-block-size=1M --threads=2 run").unwrap();
        assert_eq!(request.options, ["--memory-block-size=1M", "--threads=2"]);
    }

    #[test]
    fn files_are_prepared_and_cleaned_up() {
        let request = read("fileio --file-test-mode=seqwr").unwrap();
        let line = request.command_line();
        assert_eq!(line[..4], ["sh", "-c", FILEIO, "sh"]);
        assert_eq!(
            line[4..],
            [
                "fileio",
                "--file-test-mode=seqwr",
                "--file-total-size=64M",
                "--file-num=16"
            ]
        );
    }

    #[test]
    fn a_guest_has_room_for_the_files() {
        assert!(read("cpu").unwrap().guest_options().is_empty());
        let options = read("fileio --file-total-size=1G").unwrap().guest_options();
        assert_eq!(options[2..], ["--memory", &(GUEST + (1 << 30)).to_string()]);
    }

    #[test]
    fn a_test_must_be_named_once_and_exist() {
        assert_eq!(read("--threads=2"), Err(UsageError::NoTest));
        assert_eq!(
            read("oltp"),
            Err(UsageError::Test {
                test: "oltp".into()
            })
        );
        assert_eq!(
            read("cpu memory"),
            Err(UsageError::Tests("cpu".into(), "memory".into()))
        );
        assert_eq!(
            read("fileio prepare"),
            Err(UsageError::Command("prepare".into()))
        );
    }

    #[test]
    fn reports_are_read_by_their_labels() {
        let report = "CPU speed:\n    events per second:  3110.36\n\nGeneral statistics:\n    total time:                          10.0002s\n    total number of events:              31109\n\nLatency (ms):\n         min:                                    0.31\n         avg:                                    0.32\n         max:                                    5.10\n         95th percentile:                        0.33\n";
        let all: Vec<(&str, f64)> = figures(report)
            .iter()
            .map(|figure| (figure.name, figure.value))
            .collect();
        assert_eq!(
            all,
            [
                ("events_per_second", 3110.36),
                ("total_time", 10.0002),
                ("total_events", 31109.0),
                ("latency_mean", 0.32),
                ("latency_95", 0.33),
                ("latency_max", 5.1)
            ]
        );
        let report = "Total operations: 65536 (7890.12 per second)\n\n64.00 MiB transferred (7704.22 MiB/sec)\n";
        let all: Vec<f64> = figures(report).iter().map(|figure| figure.value).collect();
        assert_eq!(all, [7890.12, 7704.22]);
        let report = "File operations:\n    reads/s:                      12.50\nThroughput:\n    read, MiB/s:                  1.25\n    written, MiB/s:               0.83\n";
        let all: Vec<(&str, f64)> = figures(report)
            .iter()
            .map(|figure| (figure.name, figure.value))
            .collect();
        assert_eq!(
            all,
            [
                ("reads_per_second", 12.5),
                ("read_mib_per_second", 1.25),
                ("written_mib_per_second", 0.83)
            ]
        );
        let report = "General statistics:\n    total time:                          2.0s\n    total number of events:              31\n";
        let rate = figures(report).pop().unwrap();
        assert_eq!((rate.name, rate.value), ("events_per_second", 15.5));
        assert!(figures("FATAL: no such test\n").is_empty());
    }
}

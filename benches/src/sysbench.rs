//! The real sysbench under each model, and what its report says.
//!
//! sysbench 1.0 names a test by a word and its options by `--threads`, `--events`, `--time`; the versions
//! before it, and many a lecture, by `--test`, `--num-threads`, `--max-requests`, `--max-time`. Both are
//! understood.

use crate::child::{Child, ChildError};
use crate::interrupt::Interrupt;
use crate::workload::Better;
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

/// A command line that makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
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

    /// What `ringside run` runs.
    fn command_line(&self) -> Vec<&str> {
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
    /// What it is called.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which direction is better.
    pub better: Better,
    /// How much.
    pub value: f64,
}

/// Where a figure stands in a report: a line's start, and what surrounds the number.
type Place = (&'static str, &'static str, &'static str, Better);

/// Figures by the start of their line; the number is the first one after it.
const PLACES: [Place; 11] = [
    ("events per second:", "events", "1/s", Better::Higher),
    ("reads/s:", "reads", "1/s", Better::Higher),
    ("writes/s:", "writes", "1/s", Better::Higher),
    ("fsyncs/s:", "fsyncs", "1/s", Better::Higher),
    ("read, MiB/s:", "read", "MiB/s", Better::Higher),
    ("written, MiB/s:", "written", "MiB/s", Better::Higher),
    ("total time:", "total time", "s", Better::Lower),
    (
        "total number of events:",
        "total events",
        "1",
        Better::Higher,
    ),
    ("avg:", "latency, mean", "ms", Better::Lower),
    ("95th percentile:", "latency, 95 %", "ms", Better::Lower),
    ("max:", "latency, most", "ms", Better::Lower),
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
    let figure = |name, unit, better, value: Option<f64>| {
        value.map(|value| Figure {
            name,
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
    let memory = [
        figure("operations", "1/s", Better::Higher, rate(" per second)")),
        figure("transferred", "MiB/s", Better::Higher, rate(" MiB/sec)")),
    ];
    let labelled = PLACES.iter().map(|&(start, name, unit, better)| {
        let line = lines().find_map(|line| line.strip_prefix(start));
        figure(name, unit, better, line.and_then(number))
    });
    memory.into_iter().chain(labelled).flatten().collect()
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
    command.args(["run", "--in", model]).args(options);
    if model == "vm" && request.test == "fileio" {
        command.args(["--file", "sysbench"]);
    }
    command
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
                ("events", 3110.36),
                ("total time", 10.0002),
                ("total events", 31109.0),
                ("latency, mean", 0.32),
                ("latency, 95 %", 0.33),
                ("latency, most", 5.1)
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
        assert_eq!(all, [("reads", 12.5), ("read", 1.25), ("written", 0.83)]);
        assert!(figures("FATAL: no such test\n").is_empty());
    }
}

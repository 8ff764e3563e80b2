//! What is measured: programs, and how a figure comes out of each.

use serde::{Deserialize, Serialize};

use crate::contender::Program;

/// Something to measure under every contender.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What it is called on the command line and in reports.
    pub name: &'static str,
    /// What it measures, in one line.
    pub about: &'static str,
    /// What runs.
    pub program: Program,
    /// How figures come out of a run.
    pub method: Method,
    /// The figures, in the order of a report.
    pub metrics: &'static [Metric],
    /// How often it runs in a round: more than once where a run is short and noisy.
    pub repeats: usize,
    /// Whether it runs when nobody says which.
    pub by_default: bool,
    /// The workload that does the same by other means: it runs along, and is compared with this one.
    pub twin: Option<&'static str>,
}

/// How figures come out of a run.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// The one figure is the time from just before the start to the stamp on standard output, in
    /// milliseconds.
    Start,
    /// The program prints a line `name value` for each metric.
    Lines,
    /// The program prints when the machine was entered and when its user space ran, `entered_ns` and
    /// `ready_ns`; the figures are the time from before the start to that, and its two parts, in
    /// milliseconds.
    Boot,
    /// The program prints a report of sysbench, which has the figures by their names.
    Sysbench,
    /// What the processes around the program hold of memory while it idles.
    Footprint,
}

/// A figure of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// What it is called in reports, and by the program that prints it.
    pub name: &'static str,
    /// The heading of its row in a table.
    pub title: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// Which direction is better.
    pub better: Better,
}

/// Which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better: a throughput.
    Higher,
    /// Less is better: a cost.
    Lower,
}

const fn more(title: &'static str, name: &'static str, unit: &'static str) -> Metric {
    Metric {
        name,
        title,
        unit,
        better: Better::Higher,
    }
}

const fn less(title: &'static str, name: &'static str, unit: &'static str) -> Metric {
    Metric {
        better: Better::Lower,
        ..more(title, name, unit)
    }
}

/// The workload that shows whether a contender works at all, and the only one that floors run.
pub const START: Workload = Workload {
    name: "start",
    about: "from before the start to the first instruction",
    program: Program::Stamp,
    method: Method::Start,
    metrics: &[less("start", "time", "ms")],
    repeats: 3,
    by_default: true,
    twin: None,
};

/// Every workload, in the order of a report.
pub const WORKLOADS: [Workload; 12] = [
    START,
    Workload {
        name: "primes",
        about: "sysbench's cpu test: finds the primes below 10,000",
        program: Program::Work(&["primes", "50"]),
        method: Method::Lines,
        metrics: &[more("primes", "events_per_second", "events/s")],
        repeats: 1,
        ..START
    },
    Workload {
        name: "memory",
        about: "writes and reads 16 MiB from end to end",
        program: Program::Work(&["memory", "40", "16"]),
        method: Method::Lines,
        metrics: &[
            more("memory write", "write_mib_per_second", "MiB/s"),
            more("memory read", "read_mib_per_second", "MiB/s"),
        ],
        repeats: 1,
        ..START
    },
    Workload {
        name: "faults",
        about: "first touch of a page",
        program: Program::Work(&["faults", "2048"]),
        method: Method::Lines,
        metrics: &[less("faults", "first_touch_ns", "ns")],
        repeats: 1,
        ..START
    },
    Workload {
        name: "call",
        about: "a null system call; in the vm, a null hypercall",
        program: Program::Work(&["call", "30"]),
        method: Method::Lines,
        metrics: &[less("call", "call_ns", "ns")],
        repeats: 1,
        ..START
    },
    Workload {
        name: "footprint",
        about: "memory (PSS) of all but the work itself, which idles; guest memory apart",
        program: Program::Work(&["idle"]),
        method: Method::Footprint,
        metrics: &[
            less("footprint", "overhead", "KiB"),
            less("guest memory", "guest_memory", "KiB"),
        ],
        repeats: 1,
        ..START
    },
    Workload {
        name: "boot",
        about: "from before the start to user space of a Linux guest, its kernel's part and the VMM's",
        program: Program::Boot,
        method: Method::Boot,
        metrics: &[
            less("boot", "time", "ms"),
            less("boot, VMM", "vmm", "ms"),
            less("boot, kernel", "kernel", "ms"),
        ],
        repeats: 1,
        by_default: false,
        ..START
    },
    Workload {
        about: "the real `sysbench cpu run`, for a second",
        twin: Some("primes"),
        ..sysbench(
            "sysbench-cpu",
            &["cpu", "--threads=1", "--time=1"],
            &[more("sysbench-cpu", "events_per_second", "events/s")],
        )
    },
    Workload {
        about: "`sysbench memory run`: 1 KiB writes, for a second",
        ..sysbench(
            "sysbench-memory",
            &["memory", "--threads=1", "--time=1"],
            &[more("sysbench-memory", "mib_per_second", "MiB/s")],
        )
    },
    Workload {
        about: "`sysbench threads run`: two threads take locks in turn and yield, for a second",
        ..sysbench(
            "sysbench-threads",
            &["threads", "--threads=2", "--time=1"],
            &[more("sysbench-threads", "events_per_second", "events/s")],
        )
    },
    Workload {
        about: "`sysbench mutex run`: two threads contend for a mutex",
        ..sysbench(
            "sysbench-mutex",
            &["mutex", "--threads=2", "--mutex-locks=20000"],
            &[less("sysbench-mutex", "total_time", "s")],
        )
    },
    Workload {
        about: "`sysbench fileio run`: random reads and writes of 16 MiB, for a second: in files below \
            $TMPDIR, in the container's upper layer, which syncs nothing, in the guest's memory",
        ..sysbench(
            "sysbench-fileio",
            &[
                "fileio",
                "--file-test-mode=rndrw",
                "--file-total-size=16M",
                "--threads=1",
                "--time=1",
            ],
            &[
                more("sysbench-fileio read", "read_mib_per_second", "MiB/s"),
                more("sysbench-fileio write", "written_mib_per_second", "MiB/s"),
            ],
        )
    },
];

/// A test of the real sysbench, and the figures that its report is asked for.
const fn sysbench(
    name: &'static str,
    words: &'static [&'static str],
    metrics: &'static [Metric],
) -> Workload {
    Workload {
        name,
        program: Program::Sysbench(words),
        method: Method::Sysbench,
        metrics,
        repeats: 1,
        by_default: false,
        ..START
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sysbench_understands_its_words() {
        for workload in &WORKLOADS {
            if let Program::Sysbench(words) = workload.program {
                let words: Vec<String> = words.iter().map(|&word| word.into()).collect();
                let request = crate::sysbench::Request::read(&words);
                assert!(request.is_ok(), "{request:?}");
            }
        }
    }

    #[test]
    fn names_are_unique_and_twins_exist() {
        let names: HashSet<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        for workload in &WORKLOADS {
            assert!(workload.twin.is_none_or(|twin| names.contains(twin)));
            assert!(!workload.metrics.is_empty());
        }
    }

    #[test]
    fn embedded_work_exists_under_the_names_that_are_used() {
        for workload in &WORKLOADS {
            if let Program::Work(line) = workload.program {
                assert!(ringside_work::WORKS.iter().any(|work| work.name == line[0]));
            }
        }
    }
}

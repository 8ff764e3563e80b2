//! The checks of lab 10. What is data is checked as data, what makes system calls is checked on a
//! kernel that only writes down (`recorder.rs`), and at the end on the real one.

mod container;
mod functions;
mod measure;
mod plans;
mod probe;
mod real;
mod recorder;
mod sample;

use std::process::ExitCode;

use ringside_lab_harness::{Check, Lab, Need, Question, Seed};

const N: &[Need] = &[Need::Namespaces];

static LAB: Lab = Lab {
    checks: &[
        Check::new("10.1", "plan: the steps in order", 15, &[], plans::order),
        Check::new("10.2", "plan: without being root", 10, &[], plans::rootless),
        Check::new(
            "10.3",
            "plan: what must be refused",
            10,
            &[],
            plans::refused,
        ),
        Check::new(
            "10.4",
            "spawn: the child takes the steps",
            10,
            &[],
            functions::spawn,
        ),
        Check::new("10.5", "exec: nothing inherited", 10, &[], functions::exec),
        Check::new("10.6", "reap: a good process 1", 10, &[], functions::reap),
        Check::new("10.7", "a system of its own", 10, N, real::own_system),
        Check::new("10.8", "no way out", 10, N, real::no_way_out),
        Check::new("10.9", "orphans find a parent", 5, N, real::orphans),
        Check::new("10.10", "exit status", 5, N, real::exit_status),
        Check::answers("10.11", 5),
    ],
    questions: &[
        Question {
            id: "map",
            given: Some(|seed| format!("your user number is {}", uid(seed))),
            accepts: |seed, answer| answer == format!("0 {} 1", uid(seed)),
            look: "man 7 user_namespaces: inside, outside, how many",
        },
        Question {
            id: "status",
            given: Some(|seed| format!("the signal's number is {}", signal(seed))),
            accepts: |seed, answer| answer == (128 + signal(seed)).to_string(),
            look: "check 10.6",
        },
        Question {
            id: "one",
            given: None,
            accepts: |_, answer| matches!(answer, "1" | "one"),
            look: "man 7 pid_namespaces",
        },
    ],
    predict: "Your container has its own root. Will `uname -r` in it print the host's kernel or \
              another? And the first line of /etc/os-release: the host's or another?",
    measure: measure::measure,
    roles: probe::ROLES,
};

fn main() -> ExitCode {
    ringside_lab_harness::main(&LAB)
}

fn uid(seed: Seed) -> u64 {
    seed.number("uid", 1001..60_000)
}

fn signal(seed: Seed) -> u64 {
    seed.number("signal", 1..16)
}

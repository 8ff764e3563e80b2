//! `--explain`: the story of how a container comes to be, told while it happens.

use ringside_container::plan::step::Step;
use ringside_container::{Observer, StepOutcome};
use std::time::Duration;

/// Numbers the steps and prints each with its system calls, its reason and its time.
#[derive(Default)]
pub struct Storyteller {
    told: usize,
}

impl Observer for Storyteller {
    fn step(&mut self, step: &Step, outcome: StepOutcome, took: Duration) {
        self.told += 1;
        let outcome = match outcome {
            StepOutcome::Done => String::new(),
            StepOutcome::Absent => " (left out: this host has no such thing)".to_owned(),
            StepOutcome::Alternative(errno) => format!(" (the other way, after {errno})"),
        };
        eprintln!("{:>3}. {}: {}{outcome}", self.told, step.actor, step.what);
        for call in &step.calls {
            eprintln!("       {call}");
        }
        let field = if step.field.is_empty() {
            String::new()
        } else {
            format!(" [{}]", step.field)
        };
        eprintln!("       why: {}{field}  {} µs", step.why, took.as_micros());
    }
}

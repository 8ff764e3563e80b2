//! Tells the story of a container: a plan before anything is done, or each step as it is taken. For
//! people, or as one JSON object a step (`--json`).
//!
//! ```
//! use ringside_container::{Config, dry_run, explain::Format};
//!
//! let plan = dry_run(&Config::new(["true"]))?;
//! let mut story = Vec::new();
//! ringside_container::explain::print(&plan, Format::Text, &mut story)?;
//! assert!(String::from_utf8_lossy(&story).contains("why: what it cannot name, it cannot touch"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::plan::Plan;
use crate::plan::step::{Otherwise, Step};
use crate::process::report::StepOutcome;
use crate::run::Observer;

/// How a story is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: a JSON object for each step.
    Json,
}

/// Prints a plan without doing any of it: in JSON as one array.
///
/// # Errors
/// Those of `out`.
pub fn print(plan: &Plan, format: Format, out: &mut impl Write) -> io::Result<()> {
    let mut steps = plan.steps.iter().enumerate();
    match format {
        Format::Text => steps.try_for_each(|(index, step)| tell(out, index + 1, step, "")),
        Format::Json => {
            let all: Vec<Value> = steps.map(|(index, step)| value(index + 1, step)).collect();
            writeln!(out, "{:#}", Value::from(all))
        }
    }
}

/// Tells each step as it is taken, numbered, with its outcome and its time.
#[derive(Debug)]
pub struct Narrator<W> {
    out: W,
    format: Format,
    told: usize,
}

impl<W: Write> Narrator<W> {
    /// One that has told nothing yet.
    pub fn new(out: W, format: Format) -> Self {
        Self {
            out,
            format,
            told: 0,
        }
    }
}

impl<W: Write> Observer for Narrator<W> {
    fn step(&mut self, step: &Step, outcome: StepOutcome, took: Duration) {
        self.told += 1;
        // Whoever stopped reading the story still gets the container.
        let _ = match self.format {
            Format::Text => {
                let outcome = match outcome {
                    StepOutcome::Done => String::new(),
                    StepOutcome::Absent => " (left out: this host has no such thing)".to_owned(),
                    StepOutcome::Alternative(errno) => format!(" (the other way, after {errno})"),
                };
                let after = format!("{outcome}  {} µs", took.as_micros());
                tell(&mut self.out, self.told, step, &after)
            }
            Format::Json => {
                let (outcome, errno) = match outcome {
                    StepOutcome::Done => ("done", None),
                    StepOutcome::Absent => ("absent", None),
                    StepOutcome::Alternative(errno) => ("alternative", Some(errno.to_string())),
                };
                let mut value = value(self.told, step);
                value["outcome"] = outcome.into();
                value["errno"] = errno.into();
                value["tookMicroseconds"] = (took.as_micros() as u64).into();
                writeln!(self.out, "{value}")
            }
        };
    }
}

/// One step: what, by which calls, why, and which field asked for it.
fn tell(out: &mut impl Write, number: usize, step: &Step, after: &str) -> io::Result<()> {
    use std::fmt::Write as _;
    // In one write, so that nothing that the container says gets between the lines.
    let mut text = format!("{number:>3}. {}: {}{after}\n", step.actor, step.what);
    for call in &step.calls {
        let _ = writeln!(text, "       {call}");
    }
    if let Otherwise::Try(calls) = &step.otherwise {
        for call in calls {
            let _ = writeln!(text, "       or else {call}");
        }
    }
    let field = if step.field.is_empty() {
        String::new()
    } else {
        format!(" [{}]", step.field)
    };
    let _ = writeln!(text, "       why: {}{field}", step.why);
    out.write_all(text.as_bytes())
}

fn value(number: usize, step: &Step) -> Value {
    let texts = |calls: &[crate::plan::call::Call]| -> Value {
        calls.iter().map(ToString::to_string).collect()
    };
    json!({
        "step": number,
        "actor": step.actor.to_string(),
        "what": step.what,
        "why": step.why,
        "field": (!step.field.is_empty()).then_some(&step.field),
        "calls": texts(&step.calls),
        "orElse": match &step.otherwise {
            Otherwise::Try(calls) => texts(calls),
            _ => Value::Null,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::call::Call;
    use nix::errno::Errno;

    fn step() -> Step {
        Step::init("wake up", "it sleeps", vec![Call::LoopbackUp])
            .asked_by("linux.namespaces")
            .or(Otherwise::Try(vec![Call::NewKeyring]))
    }

    #[test]
    fn a_step_is_told_with_its_calls_reason_field_and_outcome() {
        let mut out = Vec::new();
        let mut narrator = Narrator::new(&mut out, Format::Text);
        let took = Duration::from_micros(7);
        narrator.step(&step(), StepOutcome::Alternative(Errno::EPERM), took);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  1. init: wake up (the other way, after EPERM: Operation not permitted)  7 µs\n       \
             ioctl(SIOCSIFFLAGS, lo, IFF_UP)\n       or else keyctl(KEYCTL_JOIN_SESSION_KEYRING)\n       \
             why: it sleeps [linux.namespaces]\n"
        );
    }

    #[test]
    fn the_same_for_programs() {
        let mut out = Vec::new();
        Narrator::new(&mut out, Format::Json).step(&step(), StepOutcome::Absent, Duration::ZERO);
        let told: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(told["calls"][0], "ioctl(SIOCSIFFLAGS, lo, IFF_UP)");
        assert_eq!(
            (&told["outcome"], &told["field"]),
            (&json!("absent"), &json!("linux.namespaces"))
        );
        let plan = Plan {
            steps: vec![step()],
            candidates: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        let mut out = Vec::new();
        print(&plan, Format::Json, &mut out).unwrap();
        let all: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(all[0]["orElse"][0], "keyctl(KEYCTL_JOIN_SESSION_KEYRING)");
    }
}

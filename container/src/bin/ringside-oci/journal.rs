//! What `--debug` tells: each step as it is taken, and at some of them the words that runc has for the
//! same moment, which people and programs look for in a runtime's log.

use std::time::Duration;

use ringside_container::plan::call::Call;
use ringside_container::plan::oci::OciCall;
use ringside_container::plan::step::{Actor, Step};
use ringside_container::{Observer, StepOutcome};

use crate::arguments::Global;

/// Writes steps into the log.
pub struct Journal<'a> {
    global: &'a Global,
    has_begun: bool,
    joins: bool,
}

impl<'a> Journal<'a> {
    /// One that has heard of no step yet.
    pub fn new(global: &'a Global) -> Self {
        Self {
            global,
            has_begun: false,
            joins: false,
        }
    }

    /// What runc logs then.
    fn words_of_runc(&mut self, call: &Call) -> Option<String> {
        match call {
            Call::Clone3 { .. } => Some("nsexec container setup".to_owned()),
            Call::Oci(OciCall::JoinInit { .. }) => {
                self.joins = true;
                None
            }
            Call::Oci(OciCall::Affinity {
                processors: Some(processors),
            }) => Some(format!("nsexec: affinity: {}", mask(processors))),
            Call::Oci(OciCall::Seccomp { flags, .. }) => {
                let asked = flags & !(uncounted::TSYNC | uncounted::NEW_LISTENER);
                Some(format!("seccomp filter flags: {asked}"))
            }
            Call::Oci(OciCall::Execute) => Some(match self.joins {
                true => "setns_init: about to exec".to_owned(),
                false => "init: closing the pipe to signal completion".to_owned(),
            }),
            _ => None,
        }
    }
}

impl Observer for Journal<'_> {
    fn step(&mut self, step: &Step, outcome: StepOutcome, took: Duration) {
        if step.actor == Actor::Init && !self.has_begun {
            self.has_begun = true;
            self.global.debug("child process in init()");
        }
        let outcome = match outcome {
            StepOutcome::Done => String::new(),
            StepOutcome::Absent => " (left out: this host has no such thing)".to_owned(),
            StepOutcome::Alternative(errno) => format!(" (the other way, after {errno})"),
        };
        let microseconds = took.as_micros();
        self.global.debug(&format!(
            "{}: {}{outcome}, {microseconds} µs",
            step.actor, step.what
        ));
        for call in &step.calls {
            if let Some(words) = self.words_of_runc(call) {
                self.global.debug(&words);
            }
        }
    }
}

/// Flags of `man 2 seccomp` that runc does not count: it has one thread, and the listener is no wish.
mod uncounted {
    pub const TSYNC: u32 = 1;
    pub const NEW_LISTENER: u32 = 8;
}

/// Processors as a mask, in hexadecimal without leading zeros.
fn mask(processors: &[usize]) -> String {
    let words = processors.iter().max().map_or(1, |last| last / 4 + 1);
    let digit = |word: usize| {
        let bits = processors.iter().filter(|it| *it / 4 == word);
        bits.fold(0u8, |digit, it| digit | 1 << (it % 4))
    };
    let digits: String = (0..words)
        .rev()
        .map(|it| format!("{:x}", digit(it)))
        .collect();
    format!("0x{digits}")
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn processors_are_bits() {
        let masks = [
            mask(&[]),
            mask(&[0]),
            mask(&[0, 1]),
            mask(&[5, 0]),
            mask(&[67]),
        ];
        assert_eq!(masks, ["0x0", "0x1", "0x3", "0x21", "0x80000000000000000"]);
    }
}

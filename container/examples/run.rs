//! Runs a command of the host's in a container and tells the story: `run -- id`, `run --quiet -- true`.

use std::process::ExitCode;
use std::time::Duration;

use ringside_container::plan::step::Step;
use ringside_container::{Config, Limits, Observer, StepOutcome, run};

struct Story;

impl Observer for Story {
    fn step(&mut self, step: &Step, outcome: StepOutcome, took: Duration) {
        eprintln!("{took:>12.1?} {outcome:?} {step}");
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let is_quiet = arguments.next_if(|it| it == "--quiet").is_some();
    let mut limits = Limits::default();
    let mut number = |name: &str| {
        arguments.next_if(|it| it == name)?;
        arguments.next()?.to_str()?.parse::<u64>().ok()
    };
    limits.cpus = number("--cpus").map(|cpus| cpus as f64);
    limits.memory_bytes = number("--memory");
    limits.pids = number("--pids");
    arguments.next_if(|it| it == "--");
    let config = Config {
        limits,
        ..Config::like_caller(arguments)
    };
    match if is_quiet {
        run(&config, &mut ())
    } else {
        run(&config, &mut Story)
    } {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => {
            eprintln!("run: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
